"""What a run writes down while it trains, in its folder: configuration, log, statistics, losses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinygan.errors import CheckpointError, failing, printable
from tinygan.files import append, write_atomically

MOST_FILES = 100_000  # names; more would take longer than they are worth
GROUPS = ("settings", "data", "device", "versions")  # of a configuration
LISTS = {  # of a configuration, and what each object in them has; changes are of settings, by --change
    "commands": {"time": str, "command": str}, "changes": {"step": int, "setting": str},
}  # fmt: skip


class Inside:
    """A property of a run's folder: the path of `name` in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: Records, kind: object = None) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class Records:
    """The files of a run that grow with it. `path` is the run's folder."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    __fspath__ = __str__

    config_path = Inside("config.json")  # arguments, versions, device, data set
    log_path = Inside("log.txt")  # what was printed
    stats_path = Inside("stats.jsonl")  # one JSON object a line, one line an epoch
    # Four little-endian float32 numbers a step: the losses of G and D, the mean scores of real and fake.
    losses_path = Inside("losses.f32")
    files_path = Inside("images.txt")  # the names of the picture files of the data, a line each

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `config` as readable JSON, atomically. Raises CheckpointError."""
        write_atomically(self.config_path, f"{json.dumps(config, indent=2)}\n".encode())

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote: an object; `GROUPS` in it are objects, and `LISTS` are lists of them.
        Raises CheckpointError when it is missing or damaged."""
        try:
            with reading(self.config_path):
                config = _parsed(self.config_path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise damaged(self.config_path, str(error)) from error
        config = {**dict.fromkeys(GROUPS, {}), **dict.fromkeys(LISTS, []), **config}
        if odd := [name for name in GROUPS if not isinstance(config[name], dict)]:
            raise damaged(self.config_path, f"{odd[0]} is no object")
        for name, items in LISTS.items():
            for row in config[name] if isinstance(config[name], list) else [None]:
                if not isinstance(row, dict) or any(type(row.get(key)) is not items[key] for key in items):
                    raise damaged(self.config_path, f"{name} are no list of objects with {', '.join(items)}")
        return config

    def write_files(self, names: Sequence[str]) -> None:
        """Note which picture files the data were made of, up to `MOST_FILES`. Raises CheckpointError."""
        if 0 < len(names) <= MOST_FILES:
            write_atomically(self.files_path, "".join(f"{printable(name)}\n" for name in names).encode())

    def read_files(self) -> list[str]:
        """The names that `write_files` noted; none where there is no note, or no such one."""
        with suppress(OSError, ValueError):
            return self.files_path.read_text(encoding="utf-8").splitlines()
        return []

    def log(self, *lines: str) -> None:
        """Append `lines` to the log. Raises CheckpointError when it cannot be written."""
        text = "".join(f"{line}\n" for line in lines)
        append(self.log_path, text.encode("utf-8", "backslashreplace"))  # names of files need not be Unicode

    def append_stats(self, row: dict[str, Any]) -> None:
        """Append `row` (JSON) to the statistics. Raises CheckpointError, or ValueError for NaN, infinity."""
        append(self.stats_path, _row(row))

    def read_stats(self) -> list[dict[str, Any]]:
        """All rows in order, none without a file. What a kill or a power cut left at the end (part of a line,
        bytes that are no JSON) is left out. Raises CheckpointError for other damage, or a failing read."""
        lines: list[bytes] = []
        with reading(self.stats_path), suppress(FileNotFoundError):
            lines = self.stats_path.read_bytes().split(b"\n")
        rows, damage = [], ""
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                row = _parsed(line)
                if any(type(row.get(name)) is not int for name in ("epoch", "step")):
                    raise ValueError("epoch or step is no whole number")
            except (ValueError, RecursionError) as error:
                text = f"{self.stats_path} is damaged in line {number}: {error}. Delete that line."
                torn = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) or number == len(lines)
                if not torn and not damage:
                    raise CheckpointError(text) from error
                damage = damage or text
                continue
            if damage:
                raise CheckpointError(damage)
            rows.append(row)
        return rows

    def append_losses(self, rows: np.ndarray) -> None:
        """Append the numbers (steps, 4) of the latest steps. Raises CheckpointError."""
        append(self.losses_path, np.asarray(rows, "<f4").tobytes())

    def read_losses(self) -> np.ndarray:
        """The numbers of all steps (steps, 4) float32, NaN where there are none. Raises CheckpointError."""
        found = b""
        with reading(self.losses_path), suppress(FileNotFoundError):
            found = self.losses_path.read_bytes()
        return np.frombuffer(found[: len(found) // 16 * 16], "<f4").reshape(-1, 4).astype(np.float32)

    def keep_stats_until(self, step: int) -> None:
        """Drop the rows whose ``"step"`` is past `step`, which a resumed run writes again, and a last line
        that was cut short; likewise losses. Raises CheckpointError."""
        if self.stats_path.exists():
            kept = b"".join(_row(row) for row in self.read_stats() if row["step"] <= step)
            write_atomically(self.stats_path, kept)
        losses = np.full((step, 4), np.nan, "<f4")
        found = self.read_losses()[:step]
        losses[: len(found)] = found
        write_atomically(self.losses_path, losses.tobytes())


def reading(path: Path) -> AbstractContextManager[None]:
    """Within this an OSError becomes a CheckpointError."""
    return failing(f"cannot read {path}", "Name another run.")


def damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {what}. Name another run.")


def _parsed(text: bytes) -> dict[str, Any]:
    """A JSON object; ValueError for what is none, NaN and infinities included."""

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is no finite number")
        return value

    found = json.loads(text, parse_float=finite, parse_constant=finite)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found


def _row(row: dict[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"
