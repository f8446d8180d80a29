"""Make mutants of good files from a seed, and send them through a reader under a memory limit.

``python -m tests.fuzz.mutants FORMAT COUNT SEED`` prints the outcome as JSON.
"""

import json
import os
import random
import struct
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from tests.commands import ROOT
from tests.fuzz.formats import Format, formats
from tinygan.errors import TinyganError

MEMORY = 1 << 30  # bytes of address space: what a reader may ask for, NumPy and Pillow included
ODD = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1)
WORDS = (
    b"-",
    b"0",
    b"9" * 20,
    b"1e999",
    b"NaN",
    b"null",
    b"{",
    b"[" * 2000,
    b"\\ud800",
    b"\n",
    b"\0",
    b"'|O'",
    b"(",
)


def mutant(seeds: list[bytes], random_numbers: random.Random) -> bytes:
    """Return one of `seeds` with one to six changes, of every kind that accidents and attackers make."""
    data = bytearray(random_numbers.choice(seeds))
    for _ in range(random_numbers.choice((1, 1, 1, 2, 3, 6))):
        at = random_numbers.randrange(len(data) + 1)
        length = min(random_numbers.choice((1, 1, 2, 4, 8, 16, 64)), len(data) - at)
        kind = random_numbers.randrange(9)
        if kind == 0 and at < len(data):
            data[at] ^= 1 << random_numbers.randrange(8)
        elif kind == 1:
            data[at : at + length] = random_numbers.randbytes(length)
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + length]
        elif kind == 4:
            data[at:at] = random_numbers.randbytes(length or 1)
        elif kind == 5:
            size = random_numbers.choice((1, 2, 4, 8))
            order = random_numbers.choice("<>")
            number = random_numbers.choice(ODD) & ((1 << 8 * size) - 1)
            data[at : at + size] = struct.pack(order + "_BH_I___Q"[size], number)
        elif kind == 6:
            to = random_numbers.randrange(len(data) + 1)
            data[to:to] = data[at : at + length]
        elif kind == 7:
            other = random_numbers.choice(seeds)
            data[at:] = other[random_numbers.randrange(len(other) + 1) :]
        else:
            data[at : at + random_numbers.randrange(4)] = random_numbers.choice(WORDS)
    return bytes(data)


def outcome(form: Format, content: bytes, folder: Path) -> str | None:
    """Return "read" or "refused"; any other text says what went wrong."""
    for old in folder.iterdir():
        old.unlink()
    (folder / form.name).write_bytes(content)
    try:
        form.read(folder)
    except TinyganError as problem:
        line = str(problem)
        return "refused" if line.strip() and len(line.splitlines()) == 1 else f"not one line: {line!r}"
    except Exception:
        return traceback.format_exc()
    if form.exact and content not in form.seeds:
        return "a change went unnoticed"
    return "read"


def run(name: str, count: int, seed: int) -> dict[str, Any]:
    """Count the outcomes of `count` mutants, and list the first few that went wrong, with their content."""
    import resource  # POSIX only

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    form = formats()[name]
    tally: Counter[str] = Counter()
    wrong: list[dict[str, str]] = []
    memory = "/dev/shm"  # where fsync costs nothing
    with tempfile.TemporaryDirectory(dir=memory if Path(memory).is_dir() else None) as place:
        folder = Path(place)
        for seed_file in form.seeds:
            assert outcome(form, form.finish(seed_file), folder) == "read", name
        for number in range(count):
            content = form.finish(mutant(form.seeds, random.Random(f"{seed} {name} {number}")))
            found = outcome(form, content, folder)
            tally[found if found in ("read", "refused") else "wrong"] += 1
            if found not in ("read", "refused") and len(wrong) < 5:
                wrong.append({"number": str(number), "content": content.hex(), "problem": str(found)})
    return {"format": name, "mutants": count, "seed": seed, **tally, "first": wrong}


def run_apart(name: str, count: int, seed: int) -> dict[str, Any]:
    """Call `run` in a separate process, because it limits its memory."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.mutants", name, str(count), str(seed)],
        cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
