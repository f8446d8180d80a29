"""A checkpoint: named arrays and JSON in one uncompressed .npz file, in which any damage is detected.

Members: the arrays, ``meta`` (JSON as bytes) and ``digest`` (see `content_digest`). ``numpy.load`` opens it.
Some bytes of a zip are never read (dates, attributes), so a comment at its end seals the file: the SHA-256 of
all bytes before it. There is no pickle: a stranger's checkpoint can be refused, but it cannot run code."""

import hashlib
import io
import json
import math
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tinygan.errors import CheckpointError, Printer, failing, first_sentence, one_line
from tinygan.files import write_atomically

FORMAT = 1
Arrays: TypeAlias = Mapping[str, np.ndarray]  # by name

_DTYPES = ("<f4", "<f8", "<i8", "<u8", "|u1", "|b1")
_NAME = re.compile(r"[A-Za-z0-9_./-]+")
_SEAL = b"tinygan checkpoint sha256 "
# The header that numpy.lib.format writes, as a pattern: NumPy's own reader evaluates the header as Python.
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00.{2}\{'descr': '([<|]\w\d)', 'fortran_order': False, 'shape': \(([\d, ]*)\), \} *\n",
    re.DOTALL,
)


def save(path: Path, arrays: Arrays, meta: Mapping[str, object]) -> None:
    """Write `arrays` and `meta` to `path` atomically. The same content always gives the same bytes.
    `arrays`: any shapes; float32, float64, int64, uint64, uint8 or bool; names of letters, digits and
    ``_ . / -``, except ``meta`` and ``digest``. `meta`: anything JSON can hold, with str keys and finite
    numbers. Raises: CheckpointError if something cannot be stored or written."""
    parts = packed(_members(arrays, meta))
    write_atomically(path, lambda file: file.writelines(parts))


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The (writable) arrays and the meta that `save` got, bit for bit. Raises: CheckpointError, and nothing
    else, if the file cannot be read, has a damaged byte, is not a checkpoint, or has a newer format."""
    try:
        with failing(f"cannot read {path}", "Use another checkpoint."):
            if path.is_file():
                return _parse(_read_sealed(path), path)
    except CheckpointError:
        raise
    except Exception as error:  # a hostile zip can raise almost anything: MemoryError, struct.error, ...
        what = f"{one_line(error):.200}"
        raise CheckpointError(f"{path} is damaged ({what}). Use another checkpoint.") from error
    raise CheckpointError(f"{path} is not a file. Name a checkpoint in a run's 'checkpoints' folder.")


def newest_intact(paths: Sequence[Path], say: Printer) -> tuple[Path, dict[str, np.ndarray], dict[str, Any]]:
    """The first of `paths` (newest first) that can be read: its path, arrays and meta. `say` gets a warning
    for each file that was skipped. Raises: CheckpointError if `paths` is empty or none can be read."""
    failures: list[CheckpointError] = []
    for path in paths:
        try:
            found = path, *read(path)
        except CheckpointError as error:
            failures.append(error)
            continue
        for failure in failures:
            say(f"warning: {first_sentence(str(failure))}. Falling back to {path}.")
        return found
    if not failures:
        why = "none has been saved yet (the first comes ten seconds after the start), or all were deleted"
        raise CheckpointError(f"the run has no checkpoint: {why}. Wait, or use another run.")
    newest, *older = failures
    if not older:
        raise newest
    raise CheckpointError(f"none of the run's {len(failures)} checkpoints can be used. The newest: {newest}")


def packed(members: Arrays) -> tuple[bytes, bytes]:
    """The file that holds `members` (``meta`` is one) and their digest: its body, and the seal at its end."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in {**members, "digest": np.frombuffer(_digest(members), np.uint8)}.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue())  # always dated 1980
        archive.comment = _SEAL + bytes(64)  # the seal covers its length
    body = buffer.getvalue()[:-64]
    return body, hashlib.sha256(body).hexdigest().encode()


def content_digest(arrays: Arrays, meta: Mapping[str, object]) -> str:
    """SHA-256 (64 hex digits) of `arrays` (names, dtypes, shapes, bytes) and `meta`. Raises: as `save`."""
    return _digest(_members(arrays, meta)).hex()


def _members(arrays: Arrays, meta: Mapping[str, object]) -> dict[str, np.ndarray]:
    """The checked `arrays`, C-contiguous and sorted by name, followed by ``meta`` as an array of bytes."""
    members = {}
    for name, array in sorted(arrays.items()):
        if not _NAME.fullmatch(name) or name in ("meta", "digest"):
            raise CheckpointError(f"cannot save an array named {name!r}. Use letters, digits and _ . / -")
        # Any computation turns a 0-d array into a NumPy scalar, so scalars are accepted.
        if not isinstance(array, (np.ndarray, np.generic)) or array.dtype.str not in _DTYPES:
            kind = getattr(array, "dtype", type(array).__name__)
            remedy = "Convert it to a NumPy array of float32, float64, int64, uint64, uint8 or bool."
            raise CheckpointError(f"cannot save {name} of type {kind}. {remedy}")
        members[name] = np.asarray(array, order="C")
    try:
        content = {"format": FORMAT, "meta": dict(meta)}
        text = json.dumps(content, sort_keys=True, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        remedy = "Use str, int, float, bool, None, lists and dicts."
        raise CheckpointError(f"cannot save the checkpoint's metadata: {error}. {remedy}") from error
    members["meta"] = np.frombuffer(text.encode(), dtype=np.uint8)
    return members


def _digest(members: Arrays) -> bytes:
    digest = hashlib.sha256()
    for name, array in sorted(members.items()):
        # dtype and shape say how many bytes follow, so different contents never hash the same bytes.
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.digest()


def _read_sealed(path: Path) -> bytes:
    """The bytes of `path`, after its seal has shown that they are the bytes that were written."""
    with open(path, "rb") as file:
        end, size = len(_SEAL) + 64, file.seek(0, io.SEEK_END)
        file.seek(max(size - end, 0))
        # The seal is checked first, so that a large file of another kind is never read.
        if not file.read(end).startswith(_SEAL):
            if path.suffix.lower() == ".safetensors":
                found = f"{path} holds only weights, which sample and evaluate can read"
                raise CheckpointError(f"{found}. Name the run it came from.")
            raise ValueError("its end is missing, or it is not a tinygan checkpoint")
        file.seek(0)
        data = file.read()
    if data[-64:] != hashlib.sha256(memoryview(data)[:-64]).hexdigest().encode():
        raise ValueError("its SHA-256 does not match the one in its last bytes")
    return data


def _parse(data: bytes, path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The content of a sealed file. Anyone can compute a seal, so nothing in `data` is trusted."""
    contents = _unzip(data)
    header = json.loads(_array("meta", contents["meta"]).tobytes())
    version = header["format"]
    if isinstance(version, int) and version > FORMAT:
        known = f"this tinygan reads formats up to {FORMAT}. Update tinygan."
        raise CheckpointError(f"{path} has format {version}, but {known}")
    if version not in range(1, FORMAT + 1) or not isinstance(header["meta"], dict):
        raise ValueError("its metadata is not what tinygan writes")
    members = {name: _array(name, content) for name, content in contents.items()}
    if members.pop("digest").tobytes() != _digest(members):
        raise ValueError("its content does not match its digest")
    del members["meta"]
    return members, header["meta"]


def _unzip(data: bytes) -> dict[str, bytes]:
    """The members' bytes. The sizes they declare never add up to more than the size of the file."""
    contents: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = archive.infolist()
        if sum(info.file_size for info in infos) > len(data):
            raise ValueError("its members claim more bytes than the file has")
        for info in infos:
            name = info.filename.removesuffix(".npy")
            if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
                raise ValueError(f"{name!r:.60} is compressed")
            if name == info.filename or not _NAME.fullmatch(name) or name in contents:
                raise ValueError(f"unexpected or duplicate member {info.filename!r:.60}")
            contents[name] = archive.read(info)
    return contents


def _array(name: str, content: bytes) -> np.ndarray:
    """One .npy member as an array. Its size is checked before anything is allocated."""
    match = _HEADER.match(content)
    if not match or match.group(1).decode() not in _DTYPES:
        raise ValueError(f"{name} has an unexpected header")
    dtype = np.dtype(match.group(1).decode())
    shape = tuple(int(size) for size in match.group(2).split(b",") if size.strip())
    if math.prod(shape) * dtype.itemsize != len(content) - match.end():
        raise ValueError(f"the size of {name} does not match its shape {str(shape):.60}")
    return np.frombuffer(content, dtype, offset=match.end()).reshape(shape).copy()
