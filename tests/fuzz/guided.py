"""Mutants guided by coverage: those that reach new lines of tinygan are kept and changed further.

``python -m tests.fuzz.guided FORMAT [-runs=100000] [-seed=1] [FOLDER]`` needs Atheris, which is libFuzzer
for Python (``pip install '.[fuzz]'``); the options are libFuzzer's. `FOLDER` keeps what was found to reach
something new. It ends with a traceback at the first file that is neither read nor refused in one line.
"""

import importlib
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    atheris: Any = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["tinygan"]):  # so they must be imported here
        from tests.fuzz.formats import formats
        from tests.fuzz.mutants import outcome

    warnings.simplefilter("ignore")
    name, *options = sys.argv[1:]
    form = formats()[name]
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as seeds:
        for number, seed in enumerate(form.seeds):
            Path(seeds, f"seed_{number}").write_bytes(seed)

        def one(data: bytes) -> None:
            found = outcome(form, form.finish(data), Path(place))
            if found not in ("read", "refused"):
                raise AssertionError(found)

        folders = [option for option in options if not option.startswith("-")]
        flags = [option for option in options if option.startswith("-")]
        own = folders or [tempfile.mkdtemp()]
        atheris.Setup([sys.argv[0], "-rss_limit_mb=1024", "-max_len=8192", *flags, *own, seeds], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
