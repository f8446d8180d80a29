"""Checkpoints: everything comes back bit for bit, or the damage is detected."""

import hashlib
import io
import json
import os
import pickle
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tinygan.errors import CheckpointError
from tinygan.runs import checkpoint

ARRAYS = {
    "generator/dense/kernel": np.array([[1.5, -0.0], [np.nan, np.inf]], dtype=np.float32),
    "adam/m.0": np.linspace(-1, 1, 3),
    "steps": np.array(583, dtype=np.int64),
    "seed": np.array([2**64 - 1], dtype=np.uint64),
    "mask": np.array([True, False, True]),
    "bytes": np.arange(6, dtype=np.uint8).reshape(1, 2, 3),
    "empty": np.zeros((0, 3), dtype=np.float32),
}
META = {"epoch": 3, "lr": 1e-4, "data": "strokes", "shape": [28, 28], "nothing": None, "é": True}


@pytest.fixture
def saved(tmp_path) -> Path:
    path = tmp_path / "epoch_0003.npz"
    checkpoint.save(path, ARRAYS, META)
    return path


def sealed(body: bytes) -> bytes:
    """`body`, a zip whose comment ends in 64 zeros, with the seal of its other bytes in their place."""
    return body[:-64] + hashlib.sha256(body[:-64]).hexdigest().encode()


def write_zip(path: Path, members: list[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    """Write a sealed zip of any members, as an attacker would make it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members:
            info = zipfile.ZipInfo("name")
            info.compress_type = compression
            info.filename = info.orig_filename = name  # ZipInfo itself would clean up the name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # duplicate names are intended here
                archive.writestr(info, content)
        archive.comment = b"tinygan checkpoint sha256 " + bytes(64)
    path.write_bytes(sealed(buffer.getvalue()))


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def as_meta(value: object) -> bytes:
    return npy(np.frombuffer(json.dumps(value).encode(), dtype=np.uint8))


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 400
    assert str(path) in text
    return text


# round trip


def test_everything_comes_back_bit_for_bit(saved):
    arrays, meta = checkpoint.read(saved)
    assert meta == META
    assert arrays.keys() == ARRAYS.keys()
    for name, array in arrays.items():
        assert (array.dtype, array.shape) == (ARRAYS[name].dtype, ARRAYS[name].shape), name
        assert array.tobytes() == ARRAYS[name].tobytes(), name
        assert array.flags.writeable


def test_numpy_can_also_open_the_file(saved):
    with np.load(saved, allow_pickle=False) as archive:
        assert set(archive.files) == {*ARRAYS, "meta", "digest"}
        assert archive["adam/m.0"].tobytes() == ARRAYS["adam/m.0"].tobytes()
        assert archive["digest"].tobytes().hex() == checkpoint.content_digest(ARRAYS, META)


def test_the_same_content_gives_the_same_bytes_in_any_order(saved, tmp_path):
    turned = {name: np.asfortranarray(array) if array.ndim else array for name, array in ARRAYS.items()}
    strided = {**turned, "adam/m.0": ARRAYS["adam/m.0"].repeat(2)[::2], "steps": np.int64(583)}
    assert checkpoint.content_digest(strided, META) == checkpoint.content_digest(ARRAYS, META)
    checkpoint.save(tmp_path / "again.npz", dict(reversed(strided.items())), dict(reversed(META.items())))
    assert (tmp_path / "again.npz").read_bytes() == saved.read_bytes()


def test_the_digest_survives_the_round_trip_and_distinguishes_contents(saved):
    digest = checkpoint.content_digest(ARRAYS, META)
    assert len(digest) == 64
    assert checkpoint.content_digest(*checkpoint.read(saved)) == digest
    steps = ARRAYS["steps"]
    others = [
        ({**ARRAYS, "steps": steps + 1}, META),
        ({**ARRAYS, "steps": steps.astype(np.uint64)}, META),
        ({**ARRAYS, "steps": steps.reshape(1)}, META),
        ({**{k: v for k, v in ARRAYS.items() if k != "steps"}, "Steps": steps}, META),
        (ARRAYS, {**META, "epoch": 4}),
    ]
    assert len({digest, *(checkpoint.content_digest(*other) for other in others)}) == 6


# what save refuses


@pytest.mark.parametrize("name", ["meta", "digest", "", "a b", "ä", "a\0", "a\n"])
def test_names_a_file_cannot_hold_are_refused(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot save an array named"):
        checkpoint.save(tmp_path / "x.npz", {name: np.zeros(1)}, {})


@pytest.mark.parametrize(
    "array",
    [np.array([{}], dtype=object), np.zeros(1, ">f4"), np.zeros(1, np.float16), np.array("s"), [1.0], 3],
)
def test_types_a_file_cannot_hold_are_refused(tmp_path, array):
    with pytest.raises(CheckpointError, match="cannot save x of type"):
        checkpoint.save(tmp_path / "x.npz", {"x": array}, {})


@pytest.mark.parametrize("value", [float("nan"), np.float32(1), {1, 2}, b"x"])
def test_meta_that_is_not_json_is_refused(tmp_path, value):
    with pytest.raises(CheckpointError, match="cannot save the checkpoint's metadata"):
        checkpoint.save(tmp_path / "x.npz", {}, {"value": value})
    assert list(tmp_path.iterdir()) == []


# damage


def test_every_flip_of_a_bit_or_a_byte_every_truncation_and_every_addition_is_detected(tmp_path):
    path = tmp_path / "small.npz"
    checkpoint.save(path, {"w": np.ones(2, np.float32)}, {"step": 1})
    data = path.read_bytes()
    with open(path, "r+b") as file:
        for place, byte in enumerate(data):
            for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
                os.pwrite(file.fileno(), bytes([byte ^ mask]), place)
                with pytest.raises(CheckpointError):
                    checkpoint.read(path)
            os.pwrite(file.fileno(), bytes([byte]), place)
    checkpoint.read(path)
    added = [more for extra in (b"\0", b"x" * 1000) for more in (data + extra, extra + data)]
    for changed in [*(data[:length] for length in range(len(data))), *added]:
        path.write_bytes(changed)
        refusal(path)


def test_flips_under_a_new_seal_change_nothing_or_are_detected(tmp_path):
    path = tmp_path / "small.npz"
    checkpoint.save(path, {"w": np.ones(2, np.float32), "n/k": np.zeros((), np.int64)}, {"step": 1})
    digest = checkpoint.content_digest(*checkpoint.read(path))
    data = path.read_bytes()
    chance = random.Random(0)
    detected = 0
    for place in range(len(data) - 64):
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        path.write_bytes(sealed(bytes(changed)))
        try:
            content = checkpoint.read(path)
        except CheckpointError:
            detected += 1
        else:
            assert checkpoint.content_digest(*content) == digest, place
    assert detected > 700


# hostile files, all with a correct seal


def test_missing_duplicate_and_foreign_members_are_refused(saved):
    with zipfile.ZipFile(saved) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for name in ("meta.npy", "digest.npy", "steps.npy"):
        write_zip(saved, [member for member in members if member[0] != name])
        assert "damaged" in refusal(saved)
    write_zip(saved, [*members, members[0]])
    assert "duplicate member" in refusal(saved)
    for name in ("note.txt", "../x.npy", ".npy", "a\nb.npy"):
        write_zip(saved, [*members, (name, npy(np.zeros(1)))])
        refusal(saved)
    write_zip(saved, members)
    checkpoint.read(saved)  # write_zip itself makes a good file


def test_a_compressed_member_is_refused_before_it_is_unpacked(saved):
    write_zip(saved, [("bomb.npy", npy(np.zeros(10**6)))], zipfile.ZIP_DEFLATED)
    assert saved.stat().st_size < 20_000
    assert "more bytes than the file has" in refusal(saved)
    write_zip(saved, [("x.npy", b"short")], zipfile.ZIP_DEFLATED)
    assert "'x' is compressed" in refusal(saved)


def test_a_header_that_promises_terabytes_is_refused(saved):
    many = "(" + "1, " * 80 + ")"
    for shape in ("(1099511627776,)", "(0, 99999999999999999999)", many, "(-1,)", "(2, True)"):
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
        write_zip(saved, [*members_of_good(), ("huge.npy", body)])
        refusal(saved)


def members_of_good() -> list[tuple[str, bytes]]:
    return [("digest.npy", npy(np.zeros(32, np.uint8))), ("meta.npy", as_meta({"format": 1, "meta": {}}))]


def test_sizes_are_compared_before_anything_is_allocated(saved):
    content = npy(np.zeros(10, np.float32)).replace(b"(10,)", b"(99,)")
    write_zip(saved, [*members_of_good(), ("x.npy", content)])
    assert "the size of x does not match its shape (99,)" in refusal(saved)


@pytest.mark.parametrize("array", [np.zeros(2, np.int32), np.zeros(2, np.complex64), np.zeros((2, 2)).T])
def test_arrays_that_save_would_not_write_are_refused(saved, array):
    write_zip(saved, [*members_of_good(), ("x.npy", npy(np.asfortranarray(array)))])
    assert "x has an unexpected header" in refusal(saved)


class Canary:
    executed = False

    def __reduce__(self):
        return (setattr, (Canary, "executed", True))


def test_a_pickle_is_never_executed(saved):
    array = np.array([Canary()], dtype=object)
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    for name in ("x.npy", "meta.npy", "digest.npy"):
        write_zip(
            saved, [member for member in members_of_good() if member[0] != name] + [(name, buffer.getvalue())]
        )
        assert "unexpected header" in refusal(saved)
    saved.write_bytes(pickle.dumps(Canary()))
    refusal(saved)
    write_zip(saved, [("x.pkl", pickle.dumps(Canary()))])
    refusal(saved)
    assert not Canary.executed
    np.load(io.BytesIO(buffer.getvalue()), allow_pickle=True)
    assert Canary.executed  # the canary sings where pickles are allowed


@pytest.mark.parametrize(
    "meta",
    [
        *[[], 1, {}, {"format": 1}, {"format": 0, "meta": {}}, {"format": 1, "meta": []}],
        *[{"format": 1.5, "meta": {}}, {"format": "1"}, b"", b"{", b"\xff", b"[" * 100_000, b"9" * 10_000],
    ],
)
def test_meta_that_is_malformed_or_not_json_is_refused(saved, meta):
    text = npy(np.frombuffer(meta, np.uint8)) if isinstance(meta, bytes) else as_meta(meta)
    write_zip(saved, [members_of_good()[0], ("meta.npy", text)])
    assert "damaged" in refusal(saved)


def test_a_newer_format_is_refused_with_the_remedy(saved):
    newer = as_meta({"format": 2, "meta": {}})
    write_zip(saved, [("new.npy", npy(np.zeros(1, np.complex64))), ("meta.npy", newer), ("digest.npy", b"")])
    assert refusal(saved).endswith("has format 2, but this tinygan reads formats up to 1. Update tinygan.")


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "foreign.npz", x=np.zeros(3))
    (tmp_path / "picture.npz").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "folder.npz").mkdir()
    for name, words in [
        ("foreign.npz", "it is not a tinygan checkpoint"),
        ("picture.npz", "it is not a tinygan checkpoint"),
        ("folder.npz", "is not a file"),
        ("gone.npz", "is not a file"),
    ]:
        assert words in refusal(tmp_path / name)


def test_a_file_that_cannot_be_read_is_refused(saved, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    for what in ("builtins.open", "pathlib.Path.is_file"):
        monkeypatch.setattr(what, denied)
        assert "Permission denied" in refusal(saved)


def test_running_out_of_memory_is_also_a_refusal(saved, monkeypatch):
    def too_big(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "frombuffer", too_big)
    assert "MemoryError" in refusal(saved)


# falling back


def three(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"epoch_{epoch:04d}.npz" for epoch in (60, 40, 20)]
    for path in paths:
        checkpoint.save(path, ARRAYS, {"name": path.name})
    return paths


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def test_the_newest_is_used_silently_and_falling_back_names_the_skipped_files(tmp_path):
    paths, lines = three(tmp_path), []
    damage(paths[1])
    path, arrays, meta = checkpoint.newest_intact(paths, lines.append)
    assert (path, meta, lines) == (paths[0], {"name": "epoch_0060.npz"}, [])
    assert arrays.keys() == ARRAYS.keys()
    damage(paths[0])
    path, _, meta = checkpoint.newest_intact(paths, lines.append)
    assert (path, meta) == (paths[2], {"name": "epoch_0020.npz"})
    assert len(lines) == 2
    for line, skipped in zip(lines, paths, strict=False):
        assert line.startswith(f"warning: {skipped} is damaged")
        assert line.endswith(f"Falling back to {paths[2]}.")


def test_no_intact_checkpoint_is_an_error(tmp_path):
    paths, lines = three(tmp_path), []
    for path in paths:
        damage(path)
    with pytest.raises(CheckpointError, match=r"none of the run's 3 checkpoints .*epoch_0060.npz is damaged"):
        checkpoint.newest_intact(paths, lines.append)
    with pytest.raises(CheckpointError, match="no checkpoint: none has been saved yet"):
        checkpoint.newest_intact([], lines.append)
    assert lines == []
