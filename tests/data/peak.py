"""``python -m tests.data.peak tinygan.train ...``: run a command, then print how much memory it took."""

import re
import runpy
import sys
from pathlib import Path


def peak() -> int:
    """The largest resident memory of this process, mapped files included, in bytes (from Linux's /proc)."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) * 1024


if __name__ == "__main__":
    del sys.argv[0]
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    finally:
        print(f"peak {peak()} bytes", flush=True)
