"""Decode the picture files of a folder or an archive and resize them for the model, on all cores."""

import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageFile, ImageOps

from tinygan.data.collection import Collection, Entry, in_words
from tinygan.data.converted import NAMED, Conversion, Tally, converted
from tinygan.data.dataset import Dataset, Shape, reading, refusing
from tinygan.errors import DataError, Printer, plural
from tinygan.machine import release_memory, usable_cores

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
LARGEST = 64_000_000  # pixels decoded at a time, in one picture or several; a small file can hold more
GREYS = {"L;2": 85, "L;4": 17}  # Pillow multiplies 2- and 4-bit pixels by this, but not the transparent grey
WEIGHTS: dict[str | None, int] = {"WEBP": 2}  # decoders that take more memory than the others, and how much
FEW, LIGHT = 1000, 64 << 20  # pictures, and bytes of their files: up to both, decoding takes seconds
AHEAD = 4  # pictures in the queue for each core
HELD = 128 << 20  # bytes of files in the queue
TRIMMED = 1_000_000  # pixels: after a larger picture, freed memory is returned to the system
BAND = 256  # rows put on white at a time
GREYISH = 32  # of 255: a larger difference between red, green and blue is a colour
LOST = "turned grey: --channels 3 keeps the colours"

Found: TypeAlias = tuple[np.ndarray, tuple[int, int], bool, int]


class Room:
    """Memory for `LARGEST` pixels in equal `parts`; a picture takes as many as it needs."""

    def __init__(self, parts: int) -> None:
        self.parts, self.free, self.turn = parts, threading.Semaphore(parts), threading.Lock()

    @contextmanager
    def taken(self, pixels: int) -> Iterator[None]:
        parts = min(self.parts, 1 + pixels * self.parts // LARGEST)
        with self.turn:  # or two pictures with some parts each could wait for each other
            for _ in range(parts):
                self.free.acquire()
        try:
            yield
        finally:
            self.free.release(parts)


def load_pictures(collection: Collection, shape: Shape, limit: int | None, say: Printer) -> Dataset:
    """Load the first `limit` pictures, through the cache unless few. Raises: DataError if there are none."""
    names, source = collection.names, collection.source
    most = min(len(names), limit or len(names))

    def pieces(tally: Tally) -> Iterator[np.ndarray]:
        for decoded in decoding(collection.entries(tally.done), shape, most, tally):
            tally.done += 1
            try:
                image, (width, height), transparent, colours = decoded.result()
            except DataError as problem:
                tally.unreadable += 1
                if len(tally.named) < NAMED:
                    tally.named.append(f"{names[tally.done - 1]} ({problem})")
                continue
            side = min(width, height)
            tally.resized += (width, height) != image.shape[:2]
            tally.transparent += transparent
            tally.coloured += colours
            tally.small += 2 * side < shape.size
            tally.area, tally.square = tally.area + width * height, tally.square + side**2
            yield image[None]

    limited = most if most < len(names) else None
    conversion = Conversion(source, collection.state, most, shape, pieces, limited)
    is_large = most > FEW or collection.size * most > LIGHT * len(names)
    with reading(f"{source} cannot be read", ". Get a fresh copy."):  # an archive
        images, tally, stored = converted(conversion, is_large, say)
    left_out = in_words(collection.left_out)
    if tally.unreadable:
        more = ", ..." if tally.unreadable > len(tally.named) else ""
        left_out.append(f"{tally.unreadable:,} that cannot be read: {', '.join(tally.named)}{more}")
    if not len(images):
        there = f" Left out: {', '.join(left_out)}." if left_out else ""
        raise DataError(f"no pictures ({', '.join(FORMATS)}) in {source}.{there} Use other data.")
    notes = [f"left out {', '.join(left_out)}"] if left_out else []
    if tally.transparent:
        notes.append(f"on white {plural(tally.transparent, 'picture')} with transparent parts")
    notes += [f"note     {plural(tally.coloured, 'colour picture')} {LOST}"] if tally.coloured else []
    if tally.resized:
        what = f"{plural(tally.resized, 'picture')} to {shape.size}x{shape.size}"
        notes += shape.remarks(what, tally.area, tally.square, tally.small)
    name = source.name if source.is_dir() else source.stem
    return Dataset(name or "pictures", images, str(source), (*notes, *stored), tuple(names[: tally.done]))


def decoding(entries: Iterator[Entry], shape: Shape, most: int, tally: Tally) -> Iterator[Future[Found]]:
    """Decode `entries` in parallel and yield them in order, opening no more than `most` pictures can need."""
    cores = usable_cores()
    room = Room(cores)
    waiting: deque[tuple[int, Future[Found]]] = deque()
    pool = ThreadPoolExecutor(cores, "decode")  # Pillow releases the GIL
    try:
        while True:
            missing = most - (tally.done - tally.unreadable)
            while len(waiting) < min(AHEAD * cores, missing) and sum(size for size, _ in waiting) < HELD:
                if not (entry := next(entries, None)):
                    break
                waiting.append((entry.size, pool.submit(attempt, entry, shape, room)))
            if not waiting:
                return
            yield waiting.popleft()[1]
    finally:
        pool.shutdown(cancel_futures=True)


def attempt(entry: Entry, shape: Shape, room: Room) -> Found:
    """Fit a picture; return it, its old size, if it is transparent or loses colours. Raises: DataError."""
    with refusing(), entry.open() as file, Image.open(file, formats=FORMATS) as picture:
        pixels = picture.width * picture.height * WEIGHTS.get(picture.format, 1)
        with room.taken(pixels):
            upright, transparent = decode(picture)
            few = np.asarray(upright.resize((16, 16), Image.Resampling.NEAREST).convert("RGB"))
            found = fit(upright, shape), upright.size, transparent, coloured(few[None], shape)
            del upright  # nothing large is held from here on
            picture.close()
            if pixels > TRIMMED:  # or each thread would keep the memory
                release_memory()
            return found


def decode(file: ImageFile.ImageFile) -> tuple[Image.Image, bool]:
    """As `on_white`, for a file just opened, upright. Raises: DataError above `LARGEST` pixels or 16 bits."""
    most = LARGEST // WEIGHTS.get(file.format, 1)
    if file.width * file.height > most:
        raise DataError(f"{file.width}x{file.height} pixels, more than {most:,}")
    layout = str(file.tile[0][3]) if file.tile else ""  # the stored layout, which `load` forgets
    file.load()
    ImageOps.exif_transpose(file, in_place=True)
    key = file.info.get("transparency")  # the transparent grey, an int, or colour, a tuple
    if file.mode in ("F", "I", "I;16", "I;16B", "I;16L"):
        numbers = np.asarray(file)
        if file.mode == "F" or numbers.min() < 0 or numbers.max() > 0xFFFF:
            raise DataError("its pixels are fractions, negative or wider than 16 bits")
        if getattr(file, "tag_v2", {}).get(262) == 0:  # a TIFF's photometric interpretation: 0 is white
            numbers = 0xFFFF - numbers
        clear = numbers == key if isinstance(key, int) else np.zeros(1, bool)
        return Image.fromarray(np.where(clear, 255, numbers >> 8).astype(np.uint8)), bool(clear.any())
    if isinstance(key, tuple) and "16" in layout:
        file.info["transparency"] = tuple(number >> 8 for number in key)
    elif isinstance(key, int) and layout in GREYS:
        file.info["transparency"] = key * GREYS[layout]
    return on_white(file)


def fit(picture: Image.Image, shape: Shape) -> np.ndarray:
    """Convert `picture` to (size, size, channels) uint8."""
    side, target = min(picture.size), (shape.size, shape.size)
    if shape.resize == "crop" and picture.size != (side, side):
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    picture = picture.convert("L" if shape.channels == 1 else "RGB")
    if shape.resize == "pad":
        picture = ImageOps.pad(picture, target, Image.Resampling.LANCZOS)
    elif picture.size != target:
        picture = picture.resize(target, Image.Resampling.LANCZOS)
    return np.asarray(picture).reshape(shape.image)


def coloured(images: np.ndarray, shape: Shape) -> int:
    """Count the `images` (N, H, W, C) uint8 that lose colours in `fit`; grey ones stored as RGB do not."""
    return int((np.ptp(images[..., :3], axis=3).max((1, 2)) > GREYISH).sum()) if shape.channels == 1 else 0


def on_white(picture: Image.Image) -> tuple[Image.Image, bool]:
    """Put `picture`, made grey or RGB, on white where it is transparent; return it and whether it was."""
    if not picture.has_transparency_data:
        return picture.convert("L" if picture.mode in ("1", "L") else "RGB"), False
    result, transparent = Image.new("RGB", picture.size), False
    for top in range(0, picture.height, BAND):  # at once, it would take five times the memory
        band = picture.crop((0, top, picture.width, min(top + BAND, picture.height))).convert("RGBA")
        transparent = transparent or band.getchannel("A").getextrema() != (255, 255)
        white = Image.new("RGBA", band.size, "white")
        result.paste(Image.alpha_composite(white, band).convert("RGB"), (0, top))
    return result, transparent


def fit_all(images: np.ndarray, shape: Shape) -> np.ndarray:
    """Fit `images` (N, H, W, C) uint8, C 1, 3 or 4 (with alpha), to (N, size, size, channels)."""
    if images.shape[1:] == shape.image:
        return images
    fitted = np.empty((len(images), *shape.image), np.uint8)
    for target, image in zip(fitted, images, strict=True):
        target[:] = fit(on_white(Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image))[0], shape)
    return fitted
