"""The run folder ``runs/0003-fashion-mnist/``: where a run keeps its files, and how they are written.

A run gets the next free number and is never overwritten. Files that are replaced (``config.json``,
checkpoints, pictures) are written beside their target and renamed, so a reader, or a run that was
killed, finds either the old file or the new one, whole.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import shlex
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinygan.errors import CheckpointError

_RUN = re.compile(r"(\d{4,})(?:-.*)?")
_SAMPLE = re.compile(r"epoch_(\d+)\.png")
_TEMPORARY = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")  # of `write_atomically`
_CHECKPOINT = re.compile(r"epoch_(\d+)(?:_step_(\d+))?\.npz")


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Replace `path` by what `write` puts into the open file it is given: all of it, or nothing.

    When this returns, the file and its name have been handed to the disk (fsync), so that even a power
    cut cannot take them back. When anything fails, the file that was there stays and no temporary one
    remains. Raises CheckpointError for an OSError (full disk, read-only folder); other exceptions of
    `write` pass through.
    """
    # The name is new each time: two writers of one path never share a half-written file.
    if not path.name or (os.path.exists(path) and not os.path.isfile(path)):
        raise CheckpointError(f"{path} is no regular file. Choose the name of a file.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        try:
            with open(temporary, "xb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


class _Inside:
    """A property of `RunFolder`: the path of `name` in it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, run: RunFolder, kind: object = None) -> Path:
        return run.path / self.name


@dataclass(frozen=True)
class RunFolder:
    """One run's folder and the names of the files in it. `path` is the folder itself."""

    path: Path

    @staticmethod
    def create(out: Path, name: str) -> RunFolder:
        """Make ``out/NNNN-name``, numbered one above the highest there, with its empty subfolders.

        `name` is reduced to a-z, 0-9 and dashes. Processes that call this at the same time get different
        numbers. Raises CheckpointError when `out` is a file or cannot be written; nothing is left then.
        """
        suffix = _slug(name)
        try:
            new = [folder for folder in (out, *out.parents) if not folder.exists()]
            out.mkdir(parents=True, exist_ok=True)
            while True:
                number = max((n for n, _ in _numbered(out)), default=0) + 1
                # The bare number is taken first: names differ, so only it can tell two runs apart.
                bare = out / f"{number:04d}"
                try:
                    os.mkdir(bare)
                except FileExistsError:
                    continue  # another process took the number after we looked
                path = out / f"{number:04d}-{suffix}"
                try:
                    if any(n == number and p != bare for n, p in _numbered(out)):
                        os.rmdir(bare)  # another process took the number and has renamed it already
                        continue
                    os.mkdir(bare / "samples")
                    os.mkdir(bare / "checkpoints")
                    os.rename(bare, path)
                except BaseException:
                    shutil.rmtree(bare, ignore_errors=True)
                    raise
                # The names of the folders must survive a power cut, or what is in them does not either.
                for folder in (path, out, *(made.parent for made in new)):
                    _sync_folder(folder)
                return RunFolder(path)
        except OSError as error:
            raise _cannot_make(out, error) from error

    @staticmethod
    def try_out(out: Path) -> None:
        """Raise the CheckpointError that `create` would raise; nothing is left behind."""
        existing = next(path for path in (out.absolute(), *out.absolute().parents) if os.path.exists(path))
        try:
            with tempfile.TemporaryDirectory(prefix=".tinygan-", dir=existing):
                pass
        except OSError as error:
            raise _cannot_make(out, error) from error

    @staticmethod
    def find(where: str | Path | None, out: Path, trained: bool = False) -> tuple[RunFolder, Path | None]:
        """The run that `where` names, and the checkpoint file if it names one.

        `where` is a run folder, a checkpoint file inside one, or None for the run with the highest number
        in `out` (by number, never by time: clocks go wrong) that got as far as writing its configuration;
        if there is one, `trained` prefers one that has a checkpoint.
        Raises CheckpointError when there is no such run.
        """
        path = out if where is None else Path(where)
        remedy = (
            f"Name a run folder such as {out / '0001-fashion-mnist'}, "
            "or a checkpoint file in its folder 'checkpoints'."
        )
        try:
            if where is None:
                return RunFolder(_newest_run(out, trained)), None
            if path.is_dir():
                run, checkpoint = path, None
            elif path.exists():
                checkpoint = Path(os.path.abspath(path))  # a bare file name has no parents to go up to
                run = checkpoint.parent.parent
            else:
                raise CheckpointError(f"{path} does not exist. {remedy}")
            if not (run / "config.json").is_file():
                raise CheckpointError(f"{path} is no run: {run / 'config.json'} is missing. {remedy}")
        except OSError as error:
            raise CheckpointError(f"cannot look into {path}: {_reason(error)}. {remedy}") from error
        return RunFolder(run), checkpoint

    config_path = _Inside("config.json")  # arguments, versions, device, data set
    log_path = _Inside("log.txt")  # what was printed
    stats_path = _Inside("stats.jsonl")  # one JSON object a line, one line an epoch
    # A row of four little-endian float32 numbers for each step, from the first on: the losses of G and D,
    # the mean scores of real pictures and fakes.
    losses_path = _Inside("losses.f32")
    samples_dir = _Inside("samples")  # the picture grids
    checkpoints_dir = _Inside("checkpoints")
    reals_path = _Inside("reals.png")  # a grid of training images
    gif_path = _Inside("training.gif")
    report_path = _Inside("report.html")  # all of it on one page

    @property
    def resume_command(self) -> str:
        """What to type to go on with this run."""
        return shlex.join(["python", "-m", "tinygan.train", "--resume", str(self.path)])

    def sample_path(self, epoch: int) -> Path:
        """``samples/epoch_0007.png``: the grid after 7 finished epochs; 0 is before training."""
        return self.samples_dir / f"epoch_{epoch:04d}.png"

    def checkpoint_path(self, epoch: int, step: int | None = None) -> Path:
        """``checkpoints/epoch_0020.npz`` at the end of an epoch; with `step` in the middle of one.

        `epoch` counts finished epochs, `step` all steps of the run: ``epoch_0003_step_0000583.npz``.
        """
        inside = "" if step is None else f"_step_{step:07d}"
        return self.checkpoints_dir / f"epoch_{epoch:04d}{inside}.npz"

    def checkpoints(self) -> list[Path]:
        """The checkpoint files, newest first by the numbers in their names; other files are ignored.

        Raises CheckpointError when the folder cannot be read.
        """
        found = []
        for name in _names(self.checkpoints_dir):
            if match := _CHECKPOINT.fullmatch(name):
                epoch, step = match.groups()
                # A file without a step is from the end of its epoch: older than any step after it.
                found.append((int(epoch), -1 if step is None else int(step), name))
        return [self.checkpoints_dir / name for _, _, name in sorted(found, reverse=True)]

    def sampled_epochs(self) -> list[int]:
        """The epochs of which ``samples/`` has a grid, in order. Raises CheckpointError."""
        names = _names(self.samples_dir)
        return sorted(int(match.group(1)) for name in names if (match := _SAMPLE.fullmatch(name)))

    def sweep(self) -> None:
        """Delete what writers that were killed have left; the caller holds the run's lock."""
        for folder in (self.path, self.samples_dir, self.checkpoints_dir):
            for path in folder.glob(".*.tmp"):
                if _TEMPORARY.fullmatch(path.name):
                    with suppress(OSError):  # it is only in the way
                        path.unlink()

    def write_config(self, config: dict[str, Any]) -> None:
        """Write `config` as readable JSON, atomically. Raises CheckpointError, TypeError if no JSON."""
        text = json.dumps(config, indent=2, default=_plain) + "\n"
        write_atomically(self.config_path, lambda file: file.write(text.encode()))

    def read_config(self) -> dict[str, Any]:
        """What `write_config` wrote. Raises CheckpointError when it is missing or damaged."""
        try:
            with _reading(self.config_path):
                config = _parsed(self.config_path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{self.config_path} is damaged: {error}. Name another run.") from error
        if not isinstance(config, dict):
            raise CheckpointError(f"{self.config_path} is damaged: no JSON object. Name another run.")
        return config

    def log(self, line: str) -> None:
        """Append `line` to the log. Raises CheckpointError when it cannot be written."""
        try:
            # Names of files need not be Unicode.
            with open(self.log_path, "a", encoding="utf-8", errors="backslashreplace", newline="\n") as file:
                file.write(line + "\n")
        except OSError as error:
            raise _cannot_write(self.log_path, error) from error

    def append_stats(self, row: dict[str, Any]) -> None:
        """Append `row` (str, finite numbers, lists; NumPy scalars too) to the statistics.

        Raises CheckpointError when it cannot be written, ValueError for NaN and infinities.
        """
        _append(self.stats_path, _row(row))

    def read_stats(self) -> list[dict[str, Any]]:
        """All rows in order, none if there is no file yet; what a write that was cut short left at the end
        is left out: part of a line after a kill, bytes that are no JSON after a power cut.

        Raises CheckpointError when the file cannot be read, another line is no row, or a row follows those.
        """
        lines: list[bytes] = []
        with _reading(self.stats_path), suppress(FileNotFoundError):
            lines = self.stats_path.read_bytes().split(b"\n")
        rows, damage = [], ""
        for number, line in enumerate(lines, start=1):
            if not line:
                continue
            try:
                row = _parsed(line)
                if not isinstance(row, dict):
                    raise ValueError("no JSON object")
                if any(type(row.get(name, 0)) is not int for name in ("epoch", "step")):
                    raise ValueError("epoch or step is no whole number")
            except (ValueError, RecursionError) as error:
                told = f"{self.stats_path} is damaged in line {number}: {error}. Delete that line."
                torn = isinstance(error, (json.JSONDecodeError, UnicodeDecodeError)) or number == len(lines)
                if not torn and not damage:
                    raise CheckpointError(told) from error
                damage = damage or told
                continue
            if damage:
                raise CheckpointError(damage)
            rows.append(row)
        return rows

    def append_losses(self, rows: np.ndarray) -> None:
        """Append the numbers (steps, 4) of the latest steps. Raises CheckpointError."""
        _append(self.losses_path, np.asarray(rows, "<f4").tobytes())

    def read_losses(self) -> np.ndarray:
        """The numbers of all steps (steps, 4) float32; NaN for steps of which there are none.

        Raises CheckpointError when the file cannot be read.
        """
        found = b""
        with _reading(self.losses_path), suppress(FileNotFoundError):
            found = self.losses_path.read_bytes()
        return np.frombuffer(found[: len(found) // 16 * 16], "<f4").reshape(-1, 4).astype(np.float32)

    def keep_stats_until(self, step: int) -> None:
        """Drop the rows whose ``"step"`` is past `step`, and a last line that was cut short; likewise losses.

        A run that resumes from a checkpoint calls this: it is about to write those rows again.
        Raises CheckpointError.
        """
        if self.stats_path.exists():
            kept = b"".join(_row(row) for row in self.read_stats() if row.get("step", 0) <= step)
            write_atomically(self.stats_path, lambda file: file.write(kept))
        losses = np.full((step, 4), np.nan, "<f4")
        found = self.read_losses()[:step]
        losses[: len(found)] = found
        write_atomically(self.losses_path, lambda file: file.write(losses.tobytes()))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Raise a CheckpointError in place of an OSError."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {_reason(error)}. Name another run.") from error


def _names(folder: Path) -> list[str]:
    """What lies in a folder of a run, none where it is missing. Raises CheckpointError."""
    with _reading(folder):
        return os.listdir(folder) if folder.exists() else []


def _numbered(out: Path) -> list[tuple[int, Path]]:
    """The run folders in `out` with their numbers, in no order."""
    matches = ((_RUN.fullmatch(path.name), path) for path in out.iterdir())
    return [(int(match.group(1)), path) for match, path in matches if match]


def _newest_run(out: Path, trained: bool) -> Path:
    runs = [entry for entry in _numbered(out) if (entry[1] / "config.json").is_file()] if out.exists() else []
    if not runs:
        raise CheckpointError(
            f"no run in {out}: no numbered folder with a config.json. Train one with "
            "'python -m tinygan.train', or name another folder of runs."
        )
    newest = [path for _, path in sorted(runs, reverse=True)]
    fit = [path for path in newest if RunFolder(path).checkpoints()] if trained else []
    return (fit or newest)[0]


def _slug(name: str) -> str:
    """``"My Cats: 64x64"`` -> ``"my-cats-64x64"``; safe in a path on every system."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:40].strip("-") or "run"


def _parsed(text: bytes) -> Any:
    """JSON as Python; ValueError for what is none, NaN and infinities included."""

    def finite(number: str) -> float:
        if not math.isfinite(value := float(number)):
            raise ValueError(f"{number} is no finite number")
        return value

    return json.loads(text, parse_float=finite, parse_constant=finite)


def _row(row: dict[str, Any]) -> bytes:
    return json.dumps(row, default=_plain, allow_nan=False).encode() + b"\n"


def _plain(value: Any) -> Any:
    """A NumPy scalar as a Python number, a path as text; TypeError for what JSON cannot hold."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError(f"{type(value).__name__} does not fit into JSON")


def _append(path: Path, data: bytes) -> None:
    """Add `data` to the end of `path`, and hand it to the disk. Raises CheckpointError."""
    try:
        new = not path.exists()
        with open(path, "ab") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(path.parent)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _sync_folder(folder: Path) -> None:
    """Hand the names in `folder` to the disk; without it a rename may be lost in a power cut."""
    if os.name != "posix":
        return  # Windows cannot open folders
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems do not know the request
            raise
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _cannot_make(out: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"cannot make a run folder in {out}: {_reason(error)}. Choose a folder you can write with --out."
    )


def _cannot_write(path: Path, error: OSError) -> CheckpointError:
    return CheckpointError(
        f"cannot write {path}: {_reason(error)}. Free some space or choose another folder."
    )
