"""Write ``names.json``: the functions and methods that CuPy shares with NumPy, with their parameters.

Run with CuPy installed (no GPU needed): python -m tests.standin.make_names
"""

import inspect
import json
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

PATH = Path(__file__).with_name("names.json")


def parameters(thing: Any) -> list[str]:
    """The names of the parameters that can be passed by keyword, and "*args" if there is one."""
    try:
        signature = inspect.signature(thing)
    except (TypeError, ValueError):  # compiled: the docstring's first line has them
        text = re.search(r"\((.*?)\)( ->|$)", (thing.__doc__ or "").strip().split("\n")[0].replace("\\", ""))
        names = [part.split("=")[0].split()[-1] for part in text.group(1).split(",")] if text else []
        return [name for name in names if name not in ("/", "*", "self")]
    return [f"*{p.name}" if p.kind == p.VAR_POSITIONAL else p.name for p in signature.parameters.values()]


def names(cupy: Any) -> dict[str, Any]:
    """The functions and methods of the installed CuPy."""

    def public(thing: Any, numpys: Any) -> dict[str, list[str]]:
        return {
            name: parameters(getattr(thing, name))
            for name in sorted(set(dir(thing)) & set(dir(numpys)))
            if not name.startswith("_") and callable(getattr(thing, name)) and name != "ndarray"
            and not isinstance(getattr(thing, name), type)
        }  # fmt: skip

    return {"functions": public(cupy, np), "methods": public(cupy.ndarray, np.ndarray)}


if __name__ == "__main__":
    cupy = import_module("cupy")

    found = {"cupy": cupy.__version__, **names(cupy)}
    PATH.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
