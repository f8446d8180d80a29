"""The run folder, such as ``runs/0003-fashion-mnist/``, and the files that a run keeps in it."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tinygan.arrays import ARRAY
from tinygan.errors import CheckpointError, failing, meant, printable, python
from tinygan.files import REMEDY, append, locked, sweep, sync_folder, write_atomically
from tinygan.runs import checkpoint

_RUN = re.compile(r"(\d{4,})(?:-.*)?")
_SAMPLE, _CHECKPOINT = (re.compile(rf"epoch_(\d+)(?:_step_(\d+))?\.{kind}") for kind in ("png", "npz"))
LATEST, BEST = "latest.npz", "best.npz"  # later checkpoints replace these
MOST_FILES = 100_000  # names; listing more would take longer than it is worth
GROUPS = ("settings", "data", "device", "versions")  # the objects in a configuration
LISTS = {  # the lists in a configuration, and the items of each object in them; --change makes "changes"
    "commands": {"time": str, "command": str}, "changes": {"step": int, "setting": str},
}  # fmt: skip


class Sample(NamedTuple):
    """A grid of pictures, made after `epoch` epochs or, if `step` is not 0, during the next epoch."""

    epoch: int
    step: int
    path: Path


def inside(name: str) -> cached_property[Path]:
    """A property of a run folder: the path of `name` in it."""
    return cached_property(lambda run: run.path / name)


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run, and the files in it. `path` is the folder itself."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    __fspath__ = __str__

    @staticmethod
    def create(out: Path, name: str) -> RunFolder:
        """Make ``out/NNNN-name`` with its empty subfolders, numbered one above the highest there. `name` is
        reduced to a-z, 0-9 and dashes. Processes that call this at the same time get different numbers.
        Raises: CheckpointError if `out` is a file or cannot be written; nothing is left behind."""
        with _making(out):
            new = [folder for folder in (out, *out.parents) if not folder.exists()]
            out.mkdir(parents=True, exist_ok=True)
            while True:
                number = max((n for n, _ in _numbered(out)), default=0) + 1
                # Take the bare number first. Names differ, so only the number keeps two processes apart.
                bare = out / f"{number:04d}"
                try:
                    os.mkdir(bare)
                except FileExistsError:
                    continue  # another process has just taken the number
                path = out / f"{bare.name}-{_plain(name)}"
                try:
                    if any(n == number and p != bare for n, p in _numbered(out)):
                        os.rmdir(bare)  # another process took the number and has already renamed its folder
                        continue
                    os.mkdir(bare / "samples")
                    os.mkdir(bare / "checkpoints")
                    os.rename(bare, path)
                except BaseException:
                    shutil.rmtree(bare, ignore_errors=True)
                    raise
                # The names of the folders must survive a power cut, or their contents do not.
                for folder in (path, out, *(made.parent for made in new)):
                    sync_folder(folder)
                return RunFolder(path)

    @staticmethod
    def try_out(out: Path) -> None:
        """Raise the CheckpointError that `create` would raise, if any, and leave nothing behind."""
        existing = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.exists(path))
        with _making(out), tempfile.TemporaryDirectory(prefix=".tinygan-", dir=existing):
            pass

    @staticmethod
    def find(where: str | Path | None, out: Path, trained: bool = False) -> tuple[RunFolder, Path | None]:
        """The run that `where` names, and the checkpoint file if it names one. `where` is a run folder, a
        checkpoint file inside one, the name of a run in `out`, or None for the run in `out` with a
        configuration and the highest number (dates can be wrong). `trained` prefers a run that has a
        checkpoint. Raises: CheckpointError if there is no such run."""
        path, near = out if where is None else Path(where), ""
        example = out / "0001-fashion-mnist"
        remedy = f"Name a run, such as {example}, or a checkpoint file in its 'checkpoints' folder."
        with failing(f"cannot read {path}", remedy):
            if where is None:
                if not (runs := _newest_first(out)):
                    train = f"Train one with {python('-m', 'tinygan.train')}"
                    none = f"no run in {out}: no numbered folder with a config.json"
                    raise CheckpointError(f"{none}. {train}, or name another folder (--runs; train: --out).")
                with_model = (run for run in runs if trained and RunFolder(run).checkpoints())
                return RunFolder(next(with_model, runs[0])), None
            if not path.is_file() and not (path / "config.json").is_file():  # such as a folder of pictures
                is_name = path.name == str(where) and re.search("[A-Za-z0-9]", path.name)
                name = _plain(path.name) if is_name else ""
                runs = {one: run for run in reversed(_newest_first(out)) for one in _names_of(run)}
                path, near = runs.get(name, path), meant(name, runs)
            if not path.exists():
                raise CheckpointError(f"{path} does not exist.{near} {remedy}")
            # A bare file name has no parent folders.
            checkpoint = None if path.is_dir() else Path(os.path.abspath(path))
            run = checkpoint.parent.parent if checkpoint else path
            if not (run / "config.json").is_file():
                raise CheckpointError(f"{path} is not a run: {run / 'config.json'} is missing. {remedy}")
        return RunFolder(run), checkpoint

    @staticmethod
    def checkpoint_files(where: str | Path | None, out: Path) -> list[Path]:
        """The checkpoints to load a model from, newest first: `where` itself if it is a file in any folder (a
        checkpoint describes itself), else those of the run that `find` returns. Raises: CheckpointError."""
        if where is not None and os.path.isfile(where):
            return [Path(where)]
        return RunFolder.find(where, out, trained=True)[0].checkpoints()

    config_path = inside("config.json")  # commands, settings, data, device, versions
    log_path = inside("log.txt")  # the printed lines
    stats_path = inside("stats.jsonl")  # one JSON object per line, one line per epoch
    # Four little-endian float32 numbers per step: the losses of G and D, the mean scores of reals and fakes.
    losses_path = inside("losses.f32")
    files_path = inside("images.txt")  # the names of the training data's picture files, one per line
    samples_dir = inside("samples")  # the picture grids
    checkpoints_dir = inside("checkpoints")
    latest_path = inside(f"checkpoints/{LATEST}")  # the checkpoint that each save replaces
    best_path = inside(f"checkpoints/{BEST}")  # with --keep-best: the one with the best FCD so far
    reals_path = inside("reals.png")  # a grid of training images
    gif_path = inside("training.gif")
    report_path = inside("report.html")  # the whole run on one page

    def resume_command(self, data: object) -> str:
        """The command that resumes the run, which trains on `data`."""
        if data == ARRAY:
            return f"tinygan.train(ARRAY, resume={str(self.path)!r})"
        return python("-m", "tinygan.train", "--resume", str(self.path))

    def sample_path(self, epoch: int, step: int | None = None) -> Path:
        """``samples/epoch_0007.png``: after 7 epochs (0: before training); `step` as in `checkpoint_path`."""
        return self.samples_dir / self.checkpoint_path(epoch, step).with_suffix(".png").name

    def checkpoint_path(self, epoch: int, step: int | None = None) -> Path:
        """A checkpoint to keep: ``checkpoints/epoch_0002.npz`` after 2 complete epochs, or during the next
        epoch ``epoch_0002_step_0000583.npz``, where `step` counts all steps of the run."""
        inside = "" if step is None else f"_step_{step:07d}"
        return self.checkpoints_dir / f"epoch_{epoch:04d}{inside}.npz"

    def save(self, arrays: checkpoint.Arrays, meta: Mapping[str, object], *kept: Path) -> None:
        """Write the checkpoint ``latest.npz``, and a copy to each path in `kept`. Raises: CheckpointError."""
        with failing(f"cannot make {self.checkpoints_dir}", REMEDY):
            self.checkpoints_dir.mkdir(exist_ok=True)  # someone might have deleted it
        for path in (*kept, self.latest_path):
            checkpoint.save(path, arrays, meta)

    def prune(self, keep: int) -> None:
        """Delete all numbered checkpoints except the newest `keep`. Raises: CheckpointError."""
        with failing(f"cannot delete old checkpoints in {self.checkpoints_dir}", "Leave out --keep."):
            for old in [path for path in self.checkpoints() if path.name != LATEST][keep:]:
                os.unlink(old)

    def checkpoints(self) -> list[Path]:
        """The checkpoint files, newest first: the latest, then by number. Raises: CheckpointError."""
        names = _names(self.checkpoints_dir)
        numbered = sorted(filter(_CHECKPOINT.fullmatch, names), key=_place, reverse=True)
        return [self.checkpoints_dir / name for name in [LATEST] * (LATEST in names) + numbered]

    def go_on_from(self, start: Path, arrays: checkpoint.Arrays, meta: Mapping[str, object]) -> None:
        """Make the checkpoint `start`, with these `arrays` and `meta`, the latest. Newer ones (all, if it is
        not in this run) are renamed to ``.old``, ``.old2`` and so on, or the next ``--resume`` would jump to
        them. At any instant there is a checkpoint to resume from. Raises: CheckpointError."""
        with failing(f"cannot rename checkpoints in {self.checkpoints_dir}", "Copy the run elsewhere."):
            newer = self._after(start)
            for path in newer:
                olds = (path.with_name(f"{path.name}.old{number}") for number in chain([""], count(2)))
                aside = next(old for old in olds if not old.exists())
                if path.name == LATEST:
                    write_atomically(aside, path.read_bytes())
                else:
                    path.rename(aside)
        if newer or start.name != LATEST:
            self.save(arrays, meta)

    def _after(self, start: Path) -> list[Path]:
        """The checkpoints of later steps than `start`, or all of them if `start` is not in this run."""
        places = {path: _place(path.name) for path in self.checkpoints()}
        if (best := self.best_path).exists():
            places[best] = _place(BEST)
            with suppress(CheckpointError):  # a damaged one counts as newer
                places[best] = _place(f"{name_of(best, checkpoint.read(best)[1])}.npz")
        first = next((places[path] for path in places if os.path.samefile(path, start)), None)
        return [path for path, place in places.items() if first is None or place > first]

    def newest(self) -> Path | None:
        """The newest checkpoint, or None. Raises: CheckpointError."""
        return next(iter(self.checkpoints()), None)

    def samples(self) -> list[Sample]:
        """The sample grids in order, up to the last epoch of the statistics. Raises: CheckpointError."""
        last = max((row["epoch"] for row in self.read_stats()), default=0)
        found = [at for name in _names(self.samples_dir) if (at := _SAMPLE.fullmatch(name))]
        grids = (Sample(int(at[1]), int(at[2] or 0), self.samples_dir / at[0]) for at in found)
        return sorted(grid for grid in grids if grid.epoch <= last)

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `config` atomically, as indented JSON. Raises: CheckpointError."""
        write_atomically(self.config_path, f"{json.dumps(config, indent=2)}\n".encode())

    def read_config(self) -> dict[str, Any]:
        """The configuration that `write_config` wrote, with `GROUPS` (objects) and `LISTS` (lists of objects)
        in it. Raises: CheckpointError if it is missing or damaged."""
        try:
            with reading(self.config_path):
                config = _parsed(self.config_path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise damaged(self.config_path, str(error)) from error
        config = {**dict.fromkeys(GROUPS, {}), **dict.fromkeys(LISTS, []), **config}
        if odd := [name for name in GROUPS if not isinstance(config[name], dict)]:
            raise damaged(self.config_path, f"{odd[0]} is not an object")
        for name, items in LISTS.items():
            for row in config[name] if isinstance(config[name], list) else [None]:
                if not isinstance(row, dict) or any(type(row.get(key)) is not items[key] for key in items):
                    raise damaged(self.config_path, f"{name} is not a list of objects ({', '.join(items)})")
        return config

    def write_files(self, names: Sequence[str]) -> None:
        """List the data's picture files, unless there are more than `MOST_FILES`. Raises: CheckpointError."""
        if 0 < len(names) <= MOST_FILES:
            write_atomically(self.files_path, "".join(f"{printable(name)}\n" for name in names).encode())

    def read_files(self) -> list[str]:
        """The names that `write_files` listed, or none if the list is missing or damaged."""
        with suppress(OSError, ValueError):
            return self.files_path.read_text(encoding="utf-8").splitlines()
        return []

    def log(self, *lines: str) -> None:
        """Append `lines` to the log. Raises: CheckpointError if it cannot be written."""
        text = "".join(f"{line}\n" for line in lines)
        append(self.log_path, text.encode("utf-8", "backslashreplace"))  # file names need not be Unicode

    def append_stats(self, row: dict[str, Any]) -> None:
        """Append `row` (JSON) to the statistics. Raises: CheckpointError; ValueError for NaN or infinity."""
        append(self.stats_path, _row(row))

    def read_stats(self) -> list[dict[str, Any]]:
        """All rows in order; none if there is no file. Skips what a kill or a power cut left at the end (part
        of a line, bytes that are not JSON). Raises: CheckpointError for other damage, or if reading fails."""
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
                    raise ValueError("epoch or step is not a whole number")
            except (ValueError, RecursionError) as error:
                text = f"{self.stats_path} is damaged on line {number}: {error}. Delete that line."
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
        """Append the numbers (steps, 4) of the latest steps. Raises: CheckpointError."""
        append(self.losses_path, np.asarray(rows, "<f4").tobytes())

    def read_losses(self) -> np.ndarray:
        """The numbers of all steps (steps, 4) float32, NaN where missing. Raises: CheckpointError."""
        found = b""
        with reading(self.losses_path), suppress(FileNotFoundError):
            found = self.losses_path.read_bytes()
        return np.frombuffer(found[: len(found) // 16 * 16], "<f4").reshape(-1, 4).astype(np.float32)

    def keep_stats_until(self, step: int) -> None:
        """Drop rows and losses of steps after `step`, and a truncated last line. Raises: CheckpointError."""
        if self.stats_path.exists():
            kept = b"".join(_row(row) for row in self.read_stats() if row["step"] <= step)
            write_atomically(self.stats_path, kept)
        losses = self.read_losses()[:step]
        missing = np.full((step - len(losses), 4), np.nan, np.float32)
        write_atomically(self.losses_path, np.concatenate([losses, missing]).astype("<f4").tobytes())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Within this no other process can write here. Removes temporary files of killed writers, and makes
        missing subfolders. Raises: CheckpointError if another process is writing, or if none can."""

        def busy(holder: str) -> None:
            if holder.startswith(f"process {os.getpid()} "):
                holder = "this program: end its loop over tinygan.training"
            raise CheckpointError(f"{self.path} is being written by {holder}. Wait for it, or stop it first.")

        with ExitStack() as held:
            with failing(f"cannot write to {self.path}", "Copy the run elsewhere."):
                held.enter_context(locked(self.path / ".lock", busy))
                for folder in (self.path, self.samples_dir, self.checkpoints_dir):
                    folder.mkdir(exist_ok=True)
                    sweep(folder)
            yield


def name_of(path: Path, meta: Mapping[str, object]) -> str:
    """The name for pictures made by the checkpoint at `path`: its own stem, but for `LATEST`, `BEST` and
    ``.old`` files the numbered name of the same step."""
    name, is_named = str(meta.get("name")), path.suffix == ".npz" and path.name not in (LATEST, BEST)
    return path.stem if is_named or not _CHECKPOINT.fullmatch(f"{name}.npz") else name


def _place(name: str) -> tuple[int, int, str]:
    """The sort key of a checkpoint name: epoch, step (none sorts first), name. Names without both go last."""
    match = _CHECKPOINT.fullmatch(name)
    return (int(match[1]), int(match[2] or -1), name) if match else (sys.maxsize, 0, name)


def _names(folder: Path) -> list[str]:
    """The names in a folder of a run; none if it is missing. Raises: CheckpointError."""
    with reading(folder):
        return os.listdir(folder) if folder.exists() else []


def _numbered(out: Path) -> list[tuple[int, Path]]:
    """The run folders in `out` with their numbers, in any order."""
    return [(int(match[1]), path) for path in out.iterdir() if (match := _RUN.fullmatch(path.name))]


def _plain(name: str) -> str:
    """`name` reduced to characters that are safe in a folder's name on every system."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "run"


def _names_of(run: Path) -> set[str]:
    """The names that a run answers to: ``0003-fashion-mnist``, either part of that, or 3."""
    number, _, name = run.name.partition("-")
    return {run.name, number, str(int(number)), name} - {""}


def _newest_first(out: Path) -> list[Path]:
    runs = [entry for entry in _numbered(out) if (entry[1] / "config.json").is_file()] if out.exists() else []
    return [path for _, path in sorted(runs, reverse=True)]


def _making(out: Path) -> AbstractContextManager[None]:
    return failing(f"cannot make a run folder in {out}", "Use --out to choose a folder you can write to.")


def reading(path: Path) -> AbstractContextManager[None]:
    """Within this an OSError becomes a CheckpointError."""
    return failing(f"cannot read {path}", "Name another run.")


def damaged(path: Path, what: str) -> CheckpointError:
    return CheckpointError(f"{path} is damaged: {what}. Name another run.")


def _parsed(text: bytes) -> dict[str, Any]:
    """`text` as a JSON object. Raises: ValueError for anything else, and for NaN and infinity."""

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is not a finite number")
        return value

    found = json.loads(text, parse_float=finite, parse_constant=finite)
    if not isinstance(found, dict):
        raise ValueError("it is not a JSON object")
    return found


def _row(row: dict[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"
