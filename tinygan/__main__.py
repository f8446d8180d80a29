"""``python -m tinygan``, or ``tinygan``: the list of commands; with the name of one of them, that command."""

import sys

from tinygan import cli, evaluate, explain, export, gradcheck, report, sample, train
from tinygan.errors import UsageError, meant

COMMANDS = {
    "train": (train, "train the DCGAN: pictures, checkpoints, statistics, an animation"),
    "sample": (sample, "make new pictures with a trained generator"),
    "evaluate": (evaluate, "measure how good its pictures are: distance, precision, recall, coverage"),
    "explain": (explain, "a training step in words, or every layer in numbers, or one of them"),
    "gradcheck": (gradcheck, "check every gradient against finite differences"),
    "export": (export, "write the generator as ONNX, or the weights as safetensors"),
    "report": (report, "put a run on one page: samples, curves, the generator itself; and its animation"),
}


def main(arguments: cli.Arguments = ()) -> int:
    """List the commands, or run the one that `arguments` begin with; returns its exit code. Raises UsageError
    for anything else."""
    first, *rest = cli.words(arguments) or ["--help"]
    first = first.removeprefix("tinygan.")
    if first in COMMANDS:
        return COMMANDS[first][0].main(rest)
    if first in ("-h", "--help"):
        print("tinygan COMMAND, or python -m tinygan.COMMAND; --help after it lists its options.\n")
        for name, (_, purpose) in COMMANDS.items():
            print(f"{name:<10}{purpose}")
    elif first == "--version":
        cli.Parser("tinygan", "").parse([first])
    else:
        near, known = meant(first, [*COMMANDS, "--help", "--version"]), ", ".join(COMMANDS)
        raise UsageError(f"tinygan has no command or option {first!r:.40}.{near} Use one of {known}.")
    return 0


def script() -> int:
    """What the entry point ``tinygan`` starts."""
    return cli.run(main)


if __name__ == "__main__":
    sys.exit(script())
