"""``python -m tinygan``, or ``tinygan``: the list of commands; with the name of one of them, that command."""

import sys

from tinygan import cli, evaluate, explain, export, gradcheck, report, sample, train
from tinygan.errors import UsageError, meant

COMMANDS = {
    "train": (train, "train the DCGAN: pictures, checkpoints, an animation, a report"),
    "sample": (sample, "make new pictures with a trained generator"),
    "evaluate": (evaluate, "measure how good its pictures are: FCD, precision, recall, coverage"),
    "explain": (explain, "explain a training step in words, or the layers in numbers"),
    "gradcheck": (gradcheck, "check every gradient against finite differences"),
    "export": (export, "write the generator as ONNX, or the weights as safetensors"),
    "report": (report, "write a run's report and animation, or compare several runs"),
}


def main(arguments: cli.Arguments = ()) -> int:
    """List the commands, or run the one that `arguments` start with and return its exit code.
    Raises: UsageError if they start with anything else."""
    first, *rest = cli.words(arguments) or ["--help"]
    first = first.removeprefix("tinygan.")
    if first in COMMANDS:
        return COMMANDS[first][0].main(rest)
    if first in ("-h", "--help"):
        print("usage: tinygan COMMAND [options], or python -m tinygan.COMMAND [options]; see COMMAND -h\n")
        for name, (_, purpose) in COMMANDS.items():
            print(f"{name:<11}{purpose}")
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
