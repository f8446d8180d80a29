"""Picture files: the pixels read from every format, compared with those computed here from its standard."""

import logging
import os
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tinygan.data import Dataset, load, pictures
from tinygan.data.pictures import LARGEST, Room
from tinygan.errors import CheckpointError, DataError
from tinygan.views.pictures import read_picture

KINDS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")


def read(path: Path, **options) -> Dataset:
    return load(str(path), **{"size": 4, "say": str, **options})


def picture(path: Path, pixels, mode: str | None = None, dtype: type = np.uint8, **options) -> None:
    image = Image.fromarray(np.asarray(pixels, dtype))
    (image.convert(mode) if mode else image).save(path, **options)


def grey(value: int, height: int = 4, width: int = 4) -> np.ndarray:
    return np.full((height, width), value)


@pytest.mark.parametrize(
    ("pixels", "mode", "dtype", "expected"),
    [
        (np.broadcast_to([255, 0, 0], (4, 4, 3)), "RGB", np.uint8, [76]),  # 0.299 of 255
        (np.broadcast_to([255, 0, 0], (4, 4, 3)), "RGB", np.uint8, [255, 0, 0]),
        (grey(7), "L", np.uint8, [7, 7, 7]),
        (np.broadcast_to([0, 0, 255], (4, 4, 3)), "P", np.uint8, [0, 0, 255]),
        (np.broadcast_to([9, 9, 9, 0], (4, 4, 4)), "RGBA", np.uint8, [255]),  # transparent, put on white
        (np.full((4, 4), 0x6401), None, np.uint16, [0x64]),  # 16 bits, scaled to 8
    ],
)
def test_every_pixel_format_becomes_grey_or_colour(tmp_path, pixels, mode, dtype, expected):
    picture(tmp_path / "a.png", pixels, mode, dtype)
    images = read(tmp_path, channels=len(expected)).images
    assert (images == np.array(expected)).all() and images.shape == (1, 4, 4, len(expected))


def png(values: np.ndarray, depth: int, kind: int, key: bytes = b"", palette: bytes = b"") -> bytes:
    """A PNG file of the samples `values` (H, W, S), of `depth` bits: https://www.w3.org/TR/png."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b""
    for row in values:
        bits = "".join(format(int(value), f"0{depth}b") for value in row.ravel())
        bits += "0" * (-len(bits) % 8)
        rows += b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big")
    height, width, _ = values.shape
    parts = [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    parts += [chunk(name, data) for name, data in ((b"PLTE", palette), (b"tRNS", key)) if data]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize(
    ("depth", "kind", "samples"),
    [(1, 0, 1), (2, 0, 1), (4, 0, 1), (8, 0, 1), (16, 0, 1), (8, 2, 3), (16, 2, 3), (1, 3, 1), (2, 3, 1)]
    + [(4, 3, 1), (8, 3, 1), (8, 4, 2), (16, 4, 2), (8, 6, 4), (16, 6, 4)],
)
def test_every_png_is_read_as_its_standard_says(tmp_path, depth, kind, samples, clear):
    random = np.random.default_rng(0)
    values = random.integers(0, 1 << depth, (8, 8, samples))
    values[:4] = [0x3456 >> (16 - depth)] * samples  # a colour that can be the transparent one
    eight = values >> 8 if depth == 16 else values * 255 // ((1 << depth) - 1)
    colour, opacity, key, palette = eight[..., :3], np.full((8, 8), 255), b"", b""
    if kind == 3:
        table = random.integers(0, 256, (1 << depth, 4), dtype=np.uint8)
        palette, key = table[:, :3].tobytes(), table[:, 3].tobytes() if clear else b""
        colour, opacity = table[values[..., 0], :3], table[values[..., 0], 3] if clear else opacity
    elif samples in (2, 4):
        colour, opacity = eight[..., : samples - 1], eight[..., -1]
    elif clear:
        key = struct.pack(f">{samples}H", *values[0, 0].tolist())
        opacity = np.where((values == values[0, 0]).all(-1), 0, 255)
    part = opacity[..., None] / 255
    expected = np.broadcast_to(colour * part + 255 * (1 - part), (8, 8, 3))
    (tmp_path / "a.png").write_bytes(png(values, depth, kind, key, palette))
    found = read_picture(tmp_path / "a.png")
    assert np.abs(found - expected).max() < 1


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_of_every_format_arrive(tmp_path, kind):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(kind, {})
    picture(tmp_path / "a", pixels, format=kind, **options)
    (tmp_path / "a").rename(tmp_path / "a.png")  # the content says what it is
    found = read(tmp_path, channels=3).images[0].astype(int)
    assert np.abs(found - pixels).max() <= (12 if kind == "JPEG" else 0)


def test_cmyk_is_read_as_colour(tmp_path):
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read(tmp_path, channels=3).images[0].astype(int) - [255, 0, 0]).max() < 8


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_the_first_of_several_frames_is_read(tmp_path, kind):
    frames = [Image.new("RGB", (4, 4), (value,) * 3) for value in (50, 90)]
    options = {"lossless": True} if kind == "WEBP" else {}
    frames[0].save(tmp_path / "a.gif", kind, save_all=True, append_images=frames[1:], **options)
    assert (read(tmp_path).images == 50).all() and len(read(tmp_path).images) == 1


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_picture_that_says_it_is_on_its_side_is_turned(tmp_path, kind):
    pixels = np.zeros((16, 16))
    pixels[:4] = 255  # a white top
    exif = Image.Exif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise"
    picture(tmp_path / "a.png", pixels, format=kind, exif=exif)
    image = read(tmp_path, size=16).images[0, ..., 0]
    assert image[:, 13:].min() > 200 and image[:, :10].max() < 50


def test_transparent_pictures_are_counted_and_opaque_ones_are_not(tmp_path):
    picture(tmp_path / "a.png", np.full((4, 4, 4), 255))
    picture(tmp_path / "b.png", np.full((4, 4, 4), 100))
    assert read(tmp_path).notes[0] == "on white 1 picture with transparent parts"


def test_a_transparent_picture_is_put_on_white_band_by_band(tmp_path, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 4), dtype=np.uint8)
    picture(tmp_path / "a.png", pixels)
    whole = read_picture(tmp_path / "a.png")
    monkeypatch.setattr("tinygan.data.pictures.BAND", 2)
    top = pixels.copy()
    top[2:, :, 3] = 255  # opaque but for the first band
    (tmp_path / "more").mkdir()
    picture(tmp_path / "more" / "b.png", top)
    assert read(tmp_path / "more").notes[0] == "on white 1 picture with transparent parts"
    assert (read_picture(tmp_path / "a.png") == whole).all()


def tiff(pixels: np.ndarray, samples: int = 1) -> bytes:
    """A TIFF file of grey `pixels` (H, W) whose 0 is white; it declares `samples` for each pixel."""
    height, width = pixels.shape
    tags = [(256, 4, width), (257, 4, height), (258, 3, 8 * pixels.itemsize), (259, 3, 1), (262, 3, 0)]
    tags += [(273, 4, 200), (277, 3, samples), (278, 4, height), (279, 4, pixels.nbytes)]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    return head.ljust(200, b"\0") + pixels.tobytes()


@pytest.mark.parametrize("bits", [8, 16])
def test_tiffs_whose_zero_is_white_are_inverted(tmp_path, bits):
    dtype, values = ("<u1", [0, 100, 255, 7]) if bits == 8 else ("<u2", [0, 25600, 65535, 1792])
    (tmp_path / "a.tif").write_bytes(tiff(np.array(values, dtype).reshape(2, 2)))
    assert read_picture(tmp_path / "a.tif").ravel().tolist() == [255, 155, 0, 248]


def test_pillows_messages_about_damaged_files_are_not_printed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging.root, "handlers", [])  # pytest's
    picture(tmp_path / "good.png", grey(100))
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((2, 2), np.uint8), samples=60_000))
    assert "1 that cannot be read: a.tif" in read(tmp_path).notes[0]
    assert capsys.readouterr() == ("", "")


def test_pixels_of_more_than_16_bits_are_refused(tmp_path):
    picture(tmp_path / "a.tif", np.full((4, 4), 1e5), dtype=np.int32)
    picture(tmp_path / "b.tif", np.full((4, 4), 0.5), dtype=np.float32)
    with pytest.raises(DataError, match="2 that cannot be read.*fractions, negative or"):
        read(tmp_path)


def test_unreadable_pictures_are_counted_and_the_first_are_named(tmp_path):
    picture(tmp_path / "good.png", grey(1))
    whole = (tmp_path / "good.png").read_bytes()
    for number in range(7):
        (tmp_path / f"bad{number}.png").write_bytes(whole[: 20 + number])
    (note,) = read(tmp_path).notes[:1]
    assert note.startswith("left out 7 that cannot be read: bad0.png (") and note.endswith("), ...")
    assert "bad4.png" in note and "bad5" not in note and "\n" not in note


def test_a_file_of_another_format_cannot_be_read_under_any_name(tmp_path):
    picture(tmp_path / "a.png", grey(1), format="PPM")
    with pytest.raises(DataError, match=r"a.png \(cannot identify image file\)"):
        read(tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_huge_picture_is_refused_before_it_is_decoded(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 99)
    picture(tmp_path / "a", grey(1, 10, 10), format=kind)

    def load_anyway(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load_anyway)
    with pytest.raises(CheckpointError, match="10x10 pixels, more than"):
        read_picture(tmp_path / "a")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to measure memory")
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_pictures_take_less_than_a_gigabyte(tmp_path, kind):
    side = int((LARGEST // (1 + (kind == "WEBP"))) ** 0.5)
    blocks = np.random.default_rng(0).integers(0, 256, (side // 10, side // 10, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(blocks.repeat(10, 0).repeat(10, 1))
    if kind in ("PNG", "WEBP", "TIFF"):
        image.putalpha(99)
    options = {"JPEG": {"progressive": True}, "WEBP": {"method": 0}, "PNG": {"compress_level": 1}}
    image.save(tmp_path / "a.png", kind, exif=exif, **options.get(kind, {}))
    for number in range(3):
        os.link(tmp_path / "a.png", tmp_path / f"{number}.png")
    code = f"""
from tests.data.peak import peak
from tinygan.data import load
load({str(tmp_path)!r}, channels=3, say=str)
print(peak())
"""
    environment = os.environ | {"TINYGAN_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert int(done.stdout) < 1 << 30


def test_pictures_decoded_at_the_same_time_share_a_limit_of_memory(monkeypatch):
    monkeypatch.setattr(pictures, "LARGEST", 10)
    room, held, most, lock = Room(5), 0, 0, threading.Lock()

    def work(pixels: int) -> None:
        nonlocal held, most
        with room.taken(pixels):
            with lock:
                held += pixels
                most = max(most, held)
            time.sleep(0.01)
            with lock:
                held -= pixels

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (4, 4, 4, 9, 1, 10, 3, 1, 1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 4 < most <= 10
    with room.taken(99):  # alone
        assert not room.free.acquire(blocking=False)


def test_pictures_stay_in_order_on_many_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "usable_cores", lambda: 5)
    real = pictures.attempt

    def slow(entry, shape, room):
        time.sleep(0.001 * (7 - int(entry.name[0]) % 7))
        return real(entry, shape, room)

    monkeypatch.setattr(pictures, "attempt", slow)
    for number in range(40):
        picture(tmp_path / f"{number:02}.png", grey(100 + number))
    assert read(tmp_path).images[:, 0, 0, 0].tolist() == list(range(100, 140))


def test_reading_leaves_no_thread_behind(tmp_path):
    picture(tmp_path / "a.png", grey(100))
    before = threading.active_count()
    read(tmp_path)
    assert threading.active_count() == before


def test_limit_takes_the_first_pictures(tmp_path):
    for number in range(5):
        picture(tmp_path / f"{number}.png", grey(100 + number))
    assert read(tmp_path, limit=2).images[:, 0, 0, 0].tolist() == [100, 101]


def test_a_16_bit_png_with_a_transparent_grey_is_read_exactly(tmp_path):
    values = np.array([[[0], [257], [65535], [300]]] * 4)
    (tmp_path / "a.png").write_bytes(png(values, 16, 0, struct.pack(">H", 300)))
    assert read(tmp_path).images[0, 0, :, 0].tolist() == [0, 1, 255, 255]


def test_a_grey_picture_has_one_channel(tmp_path):
    picture(tmp_path / "a.png", grey(9))
    assert read_picture(tmp_path / "a.png")[..., 0].tolist() == grey(9).tolist()
