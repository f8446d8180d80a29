"""A trained model, a run and pictures, as Python programs use them and notebooks show them."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinygan.arrays import Backend
from tinygan.autograd import Op, Tensor, grad, no_grad
from tinygan.backend import choose
from tinygan.data import normalise
from tinygan.errors import CheckpointError, Printer, ShapeError, UsageError, say
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import PREVIEWS, State, folder_of, found, pictures_of, sample_noise
from tinygan.views.health import Verdict, squared_distances
from tinygan.views.pictures import grid, png, save_png
from tinygan.views.webpage import MEASURED, statistics

Seeds: TypeAlias = "int | Sequence[int]"
MOST = 1_000_000  # pictures at a time: 3 GB of them
BLOCK = 256  # pictures that a network takes together
SHOWN = 256  # pictures of an array: more are too many to look at
POINTS = 300  # of a curve
CURVES = {"g_loss": ("G's loss", "#e8590c"), "d_loss": ("D's loss", "#1c7ed6")}


class Pictures(np.ndarray):
    """An array of pictures (N, H, W, C), or of one (H, W, C), float32 in [-1, 1] or uint8, which a notebook
    shows. A part of it is one as well; the result of arithmetic is a plain array."""

    if TYPE_CHECKING:  # a part, or a number

        def __getitem__(self, which: Any) -> Any: ...

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        return np.asarray(array)[()]

    def _grid(self) -> np.ndarray:
        return grid(np.asarray(self if self.ndim == 4 else self[None])[:SHOWN])

    def _repr_png_(self) -> bytes | None:
        try:
            return png(self._grid())
        except ShapeError:  # a single row of pixels, or something else that is no picture
            return None

    def save(self, path: str | Path) -> None:
        """Write the first 256 as a grid, a PNG file. Raises ShapeError for what is no picture, FileError."""
        save_png(Path(path), self._grid())


class Run(RunFolder):
    """A run, which a notebook shows: its verdict, its newest samples and the curves of both losses."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises CheckpointError where there is no run."""
        super().__init__(Path(os.path.abspath(path)))
        if not self.config_path.is_file():
            raise CheckpointError(f"{path} is no run: {self.config_path} is missing. Name the folder of one.")

    @property
    def losses(self) -> np.ndarray:
        """What every step measured: (steps,) with the fields g_loss, d_loss, real_score and fake_score,
        float32, such as ``losses["g_loss"]``; NaN for steps that were not kept. Raises CheckpointError."""
        return self.read_losses().view([(name, np.float32) for name in MEASURED])[:, 0]

    @property
    def epochs(self) -> np.ndarray:
        """What every epoch measured: (epochs,) with the fields epoch, step, those of `losses` (means),
        seconds, images_per_second and fcd, float64; NaN for what was not. Raises CheckpointError."""
        names = ("epoch", "step", *MEASURED, "seconds", "images_per_second", "fcd")
        rows = [row["evaluation"] | row for row in statistics(self)]
        numbers = [tuple(row.get(name, math.nan) for name in names) for row in rows]
        return np.array(numbers, [(name, int if name in ("epoch", "step") else float) for name in names])

    def _repr_html_(self) -> str:
        rows = statistics(self)
        last = rows[-1] if rows else {"epoch": 0, "verdict": "no epoch is complete yet"}
        words = f"epoch {last['epoch']}: {verdict_of(last)}"
        parts = [f"<p><b>{html.escape(str(self.path))}</b>, {html.escape(words)}</p>"]
        for sample in self.samples()[-1:]:
            data = base64.b64encode(sample.path.read_bytes()).decode()
            parts.append(f'<img alt="samples" width="280" src="data:image/png;base64,{data}">')
        return "".join([*parts, _curves(self.losses)])


def verdict_of(row: dict[str, Any]) -> str:
    """What the statistics of an epoch say of it, and what to try."""
    return str(Verdict("", row.get("verdict", ""), row.get("advice", "")))


def _curves(losses: np.ndarray) -> str:
    """The losses of G and D by step as a picture in SVG: means of up to `POINTS` parts."""
    kept = losses[np.isfinite(losses["g_loss"])]
    if not len(kept):
        return ""
    parts = np.array_split(kept, min(POINTS, len(kept)))
    means = {name: [(i, float(part[name].mean())) for i, part in enumerate(parts)] for name in CURVES}
    top = 1.1 * max(y for curve in means.values() for _, y in curve) or 1.0
    lines = [f'<text x="4" y="14">{top:.2f}</text><text x="4" y="198">0, step 1 to {len(losses):,}</text>']
    for number, (name, (title, color)) in enumerate(CURVES.items()):
        points = (f"{40 + 440 * i / len(parts):.1f},{180 - 175 * y / top:.1f}" for i, y in means[name])
        lines.append(f'<polyline fill="none" stroke="{color}" points="{" ".join(points)}"/>')
        lines.append(f'<text x="{300 + 90 * number}" y="198" fill="{color}">{title}</text>')
    style = "font:12px sans-serif;fill:currentColor"
    return f'<svg width="490" height="204" style="{style}">{"".join(lines)}</svg>'


class Trained:
    """A generator and its discriminator, ready to use. Made by `load`; it can be pickled and copied."""

    def __init__(self, state: State, path: Path) -> None:
        self.G, self.D, self.settings, self.path = state.shown_G, state.D, state.settings, path
        self.run_folder, self.name = folder_of(path), state.name  # where its pictures belong, and as what

    def __repr__(self) -> str:
        return f"Trained({str(self.path)!r}, {self.name})"

    @property
    def run(self) -> Run:
        """The run that it is of."""
        return Run(self.run_folder)

    def noise(self, n: int | None = None, seed: Seeds = 0) -> np.ndarray:
        """Noise (n, noise_dim) float32, standard normal, the same for the same `seed`; n is by default 16.
        Several seeds give one vector each, as ``sample --seeds`` does. Raises UsageError."""
        seeds: Any = seed
        if np.ndim(seeds):
            if not len(seeds) or n is not None:
                raise UsageError(f"noise got {len(seeds)} seeds and n {n}. Each gives one: leave n out.")
            return np.concatenate([sample_noise(one, 1, self.G) for one in seeds])
        return sample_noise(seeds, whole("n", PREVIEWS if n is None else n, 1), self.G)

    def generate(self, n: int | None = None, seed: Seeds | None = None, noise: Any = None) -> Pictures:
        """New pictures (n, H, W, C) float32 in [-1, 1], of `noise` (n, noise_dim) or of ``noise(n, seed)``.
        A factor below 1 on the noise gives safer pictures, and fewer kinds. Raises UsageError, ShapeError."""
        if noise is not None and (n, seed) != (None, None):
            raise UsageError("generate got noise, and n or seed as well. The noise says it: leave them out.")
        taken = self.noise(n, 0 if seed is None else seed) if noise is None else vectors(noise, self.G)
        return pictures_of(self.G, taken).view(Pictures)

    def interpolate(self, a: Any, b: Any, frames: int = 16) -> Pictures:
        """Pictures (frames, H, W, C) on the way from noise `a` to noise `b`, both (noise_dim,), ends
        included, along a great circle. Raises UsageError for fewer than 2 frames, ShapeError."""
        (start,), (end,) = vectors(a, self.G, 1), vectors(b, self.G, 1)
        way = great_circle(start, end, np.linspace(0, 1, whole("frames", frames, 2), dtype=np.float32))
        return self.generate(noise=way)

    def scores(self, pictures: Any, say: Printer = say) -> np.ndarray:
        """The discriminator's logits (N,) float32 for pictures (N, H, W, C): above 0 means "real". These
        are uint8, or floats in [-1, 1]: `say` gets which. Raises UsageError, ShapeError."""
        array, words = pixels(pictures, "scores")
        logits = self.logits(array)
        say(f"scores   {len(array):,} pictures {words}")
        return logits

    def like(self, pictures: Any, seed: int = 0, steps: int = 300, lr: float = 0.1) -> np.ndarray:
        """Noise (N, noise_dim) float32 whose pictures are like `pictures` (N, H, W, C), or one (H, W, C),
        uint8 or floats in [-1, 1], N up to 256: the nearest of 256 vectors of `seed`, then `steps` of Adam
        down the mean squared difference of the pixels (Lipton & Tripathi 2017, arXiv 1702.04782). Raises
        UsageError, ShapeError."""
        targets, (*_, shape) = pixels(pictures, "like")[0], self.G.shapes.values()
        targets = targets[None] if targets.ndim == 3 else targets
        if targets.shape[1:] != shape or not 0 < len(targets) <= BLOCK:
            problem = f"like got pictures of shape {targets.shape}"
            raise ShapeError(f"{problem}. This generator makes (N, *{shape}); give it up to {BLOCK}.")
        candidates, backend = sample_noise(seed, BLOCK, self.G), self.G.backend
        flat = (part.reshape(len(part), -1) for part in (targets, pictures_of(self.G, candidates)))
        noise = Tensor(backend.array(candidates[squared_distances(*flat).argmin(axis=1)]), backend)
        target, adam = backend.array(targets), Adam({"noise": noise}, lr)
        for _ in range(whole("steps", steps, 0)):
            adam.step(grad(squares(self.G(noise), target=target), [noise]))
        return backend.numpy(noise.data)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The discriminator's logits (N,) for images (N, H, W, C) float32 in [-1, 1]. Raises ShapeError."""
        backend = self.D.backend
        parts = [images[at : at + BLOCK] for at in range(0, max(1, len(images)), BLOCK)]
        with no_grad():
            return np.concatenate([backend.numpy(self.D(backend.array(part)).data)[:, 0] for part in parts])


def load(
    where: str | int | os.PathLike[str] | None = None, out: str | Path = "runs",
    device: str | Backend = "auto", engine: str = "auto", say: Printer = say,
) -> Trained:  # fmt: skip
    """The model of a run (its newest intact checkpoint), of a checkpoint file, or of the newest trained run
    in `out`; or of a file that ``python -m tinygan.export --safetensors`` wrote. `device` and `engine` are
    those of the commands. Raises CheckpointError where there is none, or none that is intact; DeviceError,
    UsageError as `backend.choose`."""
    chosen = device if isinstance(device, Backend) else choose(device, engine, str)
    return Trained(*found(None if where is None else str(where), Path(out), chosen, say))


def pixels(pictures: Any, taker: str) -> tuple[np.ndarray, str]:
    """`pictures`, uint8 or floats in [-1, 1], as float32 in [-1, 1], and in words as what they were taken.
    Raises UsageError, which names the `taker`, for others."""
    array, low, high = np.asarray(pictures), 0, 0
    if array.dtype.kind in "buif" and array.size:
        low, high = array.min(), array.max()
    span = f"from {low:g} to {high:g}"
    if array.dtype == np.uint8:
        return normalise(array), f"{span} taken as bytes, 0 to 255"
    if array.dtype.kind == "f" and -1.001 <= low <= high <= 1.001:
        return array.astype(np.float32), f"{span} taken as numbers in [-1, 1]"
    raise UsageError(f"{taker} got {array.dtype} {span}. Give it uint8, 0 to 255, or floats in [-1, 1].")


# The mean squared difference of each picture x from its target, both (N, H, W, C), summed over the pictures:
# so the gradient of each one's noise is its own.
squares = Op(
    lambda x, *, target: (((x - target) ** 2 / x[0].size).sum(), x - target),
    lambda error, dy, wanted: (dy * 2 * error / error[0].size,),
)


def vectors(noise: Any, G: Network, at_most: float = math.inf, name: str = "the noise") -> np.ndarray:
    """`noise` as an array (N, noise_dim) float32 for `G`; a single vector (noise_dim,) is N = 1. Raises
    UsageError for what is no finite numbers, ShapeError for another shape, or for more than `at_most`."""
    try:
        array = np.atleast_2d(np.asarray(noise).astype(np.float32, casting="same_kind"))
    except (TypeError, ValueError) as problem:
        raise UsageError(f"{name} is no array of numbers. Give it standard normal ones.") from problem
    if array.shape[1:] != G.input_shape or not 0 < len(array) <= at_most:
        wanted = f"({G.input_shape[0]},)" if at_most == 1 else f"(N, {G.input_shape[0]})"
        raise ShapeError(f"{name} has the shape {array.shape}. This generator needs {wanted}.")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds numbers that are not finite (NaN or infinity). Replace them.")
    return array


def whole(name: str, value: Any, least: int) -> int:
    """`value`, a whole number from `least` to a million. Raises UsageError for another one."""
    if type(value) is not bool and isinstance(value, int | np.integer) and least <= value <= MOST:
        return int(value)
    raise UsageError(f"{name} is {value!r:.40}. Use a whole number from {least} to {MOST:,}.")


def great_circle(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points (N, noise_dim) on the way from `a` (t = 0) to `b` (t = 1), both (noise_dim,), for t (N,):
    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between a and b (Shoemake 1985). Normal
    noise lies close to a sphere; inside, where a straight line would go, the generator was never trained."""
    t = t[:, None]
    cosine = float(a @ b) / (math.sqrt(float(a @ a) * float(b @ b)) or 1.0)
    angle = np.float32(math.acos(max(-1.0, min(1.0, cosine))))
    if math.sin(angle) < 1e-6:  # the same direction, or opposite ones
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
