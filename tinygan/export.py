"""``python -m tinygan.export``: writes a trained model for other programs."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import tinygan
from tinygan import backend, cli
from tinygan.errors import UsageError, say
from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder
from tinygan.runs.formats import onnx_model, write_safetensors
from tinygan.runs.state import folder_of, restored

CONTENTS = {
    "onnx": "the generator as ONNX: noise to pictures",
    "safetensors": "both networks' weights, which tinygan.load reads",
}


def parser() -> cli.Parser:
    examples = {"--onnx": "the generator", "2 --safetensors g.safetensors": "run 2's weights"}
    purpose = "Write a trained model for other programs."
    parser = cli.Parser("tinygan.export", purpose, "run", "--runs", "--out", **examples)
    for kind, what in CONTENTS.items():
        what += " (default: named after the checkpoint)"
        parser.add_argument(f"--{kind}", nargs="?", const="", metavar="FILE", help=what)
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    """Write the files that `arguments` ask for, and return the exit code."""
    options = parser().parse(arguments)
    wanted = {kind: file for kind in CONTENTS if (file := vars(options)[kind]) is not None}
    if not wanted:
        raise UsageError("nothing to write. Use --onnx or --safetensors, or both.")
    for kind, file in wanted.items():
        if file and options.out:
            raise UsageError(f"--{kind} {file} and --out {options.out} both say where to write. Use one.")
        if file and Path(file).suffix.lower() != f".{kind}":  # tinygan.load recognises files by it
            raise UsageError(f"--{kind} {file} does not end in .{kind}. Choose another name.")
    state, path = restored(RunFolder.checkpoint_files(options.run, options.runs), backend.cpu(), cli.warn)
    meta = {"tinygan": tinygan.__version__, "step": state.step, "settings": asdict(state.settings)}
    places = {
        kind: Path(file) if file else cli.placed(options.out, folder_of(path), f"{state.name}.{kind}")
        for kind, file in wanted.items()
    }
    for kind, place in places.items():
        if kind == "onnx":
            texts = {key: text if isinstance(text, str) else json.dumps(text) for key, text in meta.items()}
            content, what = onnx_model(state.shown_G, texts), "the generator"
        else:
            content, what = write_safetensors(state.weights(), meta), "both networks"
        write_atomically(place, content)
        say(f"{place}: {what} of {path}, {len(content) / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
