"""``python -m tinygan.export``: a trained model for other programs."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import tinygan
from tinygan import backend, cli
from tinygan.errors import UsageError
from tinygan.files import write_atomically
from tinygan.runs.folder import RunFolder
from tinygan.runs.formats import onnx_model, write_safetensors
from tinygan.runs.state import restored


def parser() -> cli.Parser:
    parser = cli.Parser("tinygan.export", "Write a trained model for other programs.", *cli.OF_A_RUN)
    parser.add_argument("--onnx", type=Path, metavar="FILE", help="the generator as ONNX: noise to pictures")
    parser.add_argument(
        "--safetensors", type=Path, metavar="FILE", help="both networks' weights; tinygan.load reads it"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Write what `arguments` ask for; returns the exit code."""
    options = parser().parse_args(arguments)
    if not (options.onnx or options.safetensors):
        raise UsageError("nothing to write. Use --onnx FILE or --safetensors FILE, or both.")
    for option, path in (("onnx", options.onnx), ("safetensors", options.safetensors)):
        if path and path.suffix != f".{option}":  # by which tinygan.load recognises the file
            raise UsageError(f"--{option} {path} does not end in .{option}. Choose another name.")
    files = RunFolder.checkpoint_files(options.run, options.runs)
    state, path = restored(files, backend.cpu(), cli.warn)
    meta = {"tinygan": tinygan.__version__, "step": state.step, "settings": asdict(state.settings)}
    if options.onnx:
        about = {key: value if isinstance(value, str) else json.dumps(value) for key, value in meta.items()}
        put(options.onnx, onnx_model(state.shown_G, about), f"the generator of {path}")
    if options.safetensors:
        put(options.safetensors, write_safetensors(state.weights(), meta), f"both networks of {path}")
    return 0


def put(path: Path, content: bytes, what: str) -> None:
    """Write a file and say so."""
    write_atomically(path, content)
    print(f"{path}: {what}, {len(content) / 1e6:.1f} MB")


if __name__ == "__main__":
    sys.exit(cli.run(main))
