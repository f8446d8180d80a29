"""``python -m tinygan``: the list of commands, and with ``--version`` the versions of what they use."""

import difflib
import sys

from tinygan import cli
from tinygan.errors import UsageError, pasted
from tinygan.runs.config import versions

COMMANDS = {
    "train": "train the DCGAN: pictures, checkpoints, statistics, an animation",
    "sample": "make new pictures with a trained generator",
    "evaluate": "measure how good its pictures are: distance, precision, recall, coverage",
    "explain": "a training step in words, or every layer in numbers, or one of them",
    "gradcheck": "check every gradient against finite differences",
    "export": "write the generator as ONNX, or the weights as safetensors",
    "report": "put what there is to see of a run on one page: samples, curves, the generator itself",
}


def main(arguments: cli.Arguments = ()) -> int:
    """List commands or versions; returns the exit code. Raises UsageError for anything else."""
    first, *rest = cli.words(arguments) or ["--help"]
    if first == "--version":
        for name, version in versions().items():
            print(f"{name:<9} {version}")
    elif first in ("-h", "--help"):
        for name, purpose in COMMANDS.items():
            print(f"python -m tinygan.{name:<9} {purpose}")
    else:
        near = difflib.get_close_matches(first.removeprefix("tinygan."), COMMANDS, 1)
        own = "one that python -m tinygan lists"
        right = pasted("python", "-m", f"tinygan.{near[0]}", *rest) if near else own
        raise UsageError(f"python -m tinygan has no command or option {first!r:.40}. Use {right}.")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
