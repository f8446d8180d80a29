"""Trained models, runs and pictures, for Python programs and notebooks."""

from __future__ import annotations

import base64
import html
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tinygan.arrays import Backend
from tinygan.autograd import Op, Tensor, grad, no_grad
from tinygan.backend import choose
from tinygan.data import normalise
from tinygan.errors import CheckpointError, Printer, ShapeError, UsageError, plural, say
from tinygan.layers import Network
from tinygan.optim import Adam
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import PREVIEWS, State, folder_of, found, pictures_of, sample_noise
from tinygan.views.health import Verdict, squared_distances
from tinygan.views.pictures import grid, png, save_png
from tinygan.views.webpage import MEASURED, statistics

Seeds: TypeAlias = "int | Sequence[int]"
MOST = 1_000_000  # pictures at a time: they take 3 GB
BLOCK = 256  # pictures in a batch
SHOWN = 256  # pictures of an array that a notebook shows
POINTS = 300  # in a curve
CURVES = {"g_loss": ("G's loss", "#e8590c"), "d_loss": ("D's loss", "#1c7ed6")}


class Pictures(np.ndarray):
    """An array of pictures (N, H, W, C), or one picture (H, W, C), float32 in [-1, 1] or uint8. A notebook
    displays it. A slice is also a `Pictures`; the result of arithmetic is a plain array."""

    if TYPE_CHECKING:  # a slice or a number

        def __getitem__(self, which: Any) -> Any: ...

    def __array_wrap__(self, array: np.ndarray, context: Any = None, return_scalar: bool = False) -> Any:
        return np.asarray(array)[()]

    def _grid(self) -> np.ndarray:
        return grid(np.asarray(self if self.ndim == 4 else self[None])[:SHOWN])

    def _repr_png_(self) -> bytes | None:
        with suppress(ShapeError):  # not a picture, such as a row of pixels
            return png(self._grid())

    def save(self, path: str | Path) -> None:
        """Write the first 256 as a grid, in a PNG. Raises: ShapeError if they are not pictures; FileError."""
        save_png(Path(path), self._grid())


class Run(RunFolder):
    """A run. A notebook displays its verdict, its newest samples and the curves of both losses."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises: CheckpointError if `path` is not a run folder."""
        super().__init__(Path(os.path.abspath(path)))
        if not self.config_path.is_file():
            raise CheckpointError(f"{path} is not a run: {self.config_path} is missing. Name a run folder.")

    @property
    def losses(self) -> np.ndarray:
        """The losses of every step: (steps,) with the float32 fields g_loss, d_loss, real_score, fake_score;
        NaN for steps that were not recorded. Raises: CheckpointError if the file is damaged."""
        return self.read_losses().view([(name, np.float32) for name in MEASURED])[:, 0]

    @property
    def epochs(self) -> np.ndarray:
        """The statistics of every epoch: (epochs,) with the fields epoch, step, those of `losses` (means),
        seconds, images_per_second and fcd, float64; NaN if not measured. Raises: as `losses`."""
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
    """The verdict in an epoch's statistics, and what to try."""
    return str(Verdict("", row.get("verdict", ""), row.get("advice", "")))


def _curves(losses: np.ndarray) -> str:
    """An SVG of the losses of G and D by step, averaged over up to `POINTS` intervals."""
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
    """A generator and its discriminator, loaded by `load`. It can be pickled and copied."""

    def __init__(self, state: State, path: Path) -> None:
        self.G, self.D, self.settings, self.path = state.shown_G, state.D, state.settings, path
        self.run_folder, self.name = folder_of(path), state.name  # where its pictures go, as what

    def __repr__(self) -> str:
        return f"Trained({str(self.path)!r}, {self.name})"

    @property
    def run(self) -> Run:
        """The run that this model belongs to."""
        return Run(self.run_folder)

    def noise(self, n: int | None = None, seed: Seeds = 0) -> np.ndarray:
        """Standard normal noise (n, noise_dim) float32, a function of `seed`; n is 16 by default. A list of
        seeds gives one vector each, like ``sample --seeds``. Raises: UsageError if n or a seed is invalid."""
        seeds: Any = seed
        if np.ndim(seeds):
            if not len(seeds) or n is not None:
                raise UsageError(f"noise got {plural(len(seeds), 'seed')} and n {n}. Give seeds and no n.")
            return np.concatenate([sample_noise(one, 1, self.G) for one in seeds])
        return sample_noise(seeds, whole("n", PREVIEWS if n is None else n, 1), self.G)

    def generate(self, n: int | None = None, seed: Seeds | None = None, noise: Any = None) -> Pictures:
        """New pictures (n, H, W, C) float32 in [-1, 1] from `noise` (n, noise_dim), or ``noise(n, seed)``.
        Scaling noise down gives fewer odd pictures, and fewer kinds. Raises: as `noise` and `vectors`."""
        if noise is not None and (n, seed) != (None, None):
            raise UsageError("generate got noise together with n or seed. Leave n and seed out.")
        taken = self.noise(n, 0 if seed is None else seed) if noise is None else vectors(noise, self.G)
        return pictures_of(self.G, taken).view(Pictures)

    def interpolate(self, a: Any, b: Any, frames: int = 16) -> Pictures:
        """Pictures (frames, H, W, C) on a great circle from noise `a` to noise `b`, both (noise_dim,), ends
        included. Raises: UsageError if frames < 2; as `vectors`."""
        (start,), (end,) = vectors(a, self.G, 1), vectors(b, self.G, 1)
        way = great_circle(start, end, np.linspace(0, 1, whole("frames", frames, 2), dtype=np.float32))
        return self.generate(noise=way)

    def scores(self, pictures: Any, say: Printer = say) -> np.ndarray:
        """The discriminator's logits (N,) float32 for pictures (N, H, W, C), uint8 or floats in [-1, 1];
        above 0 means "real". Prints how the numbers were read. Raises: as `pixels` and `logits`."""
        array, words = pixels(pictures, "scores")
        logits = self.logits(array)
        say(f"scores   {plural(len(array), 'picture')} with values {words}")
        return logits

    def like(self, pictures: Any, seed: int = 0, steps: int = 300, lr: float = 0.1) -> np.ndarray:
        """Noise (N, noise_dim) float32 for `pictures` (N, H, W, C), N <= 256, or (H, W, C), uint8 or floats
        in [-1, 1]: the closest of 256 vectors of `seed`, then `steps` of Adam on the mean squared difference
        of the pixels (Lipton & Tripathi 2017, arXiv 1702.04782). Raises: as `pixels`, `whole`; ShapeError."""
        targets, (*_, shape) = pixels(pictures, "like")[0], self.G.shapes.values()
        targets = targets[None] if targets.ndim == 3 else targets
        if targets.shape[1:] != shape or not 0 < len(targets) <= BLOCK:
            wanted = f"like takes 1 to {BLOCK} pictures of {', '.join(map(str, shape))}"
            raise ShapeError(f"{wanted}. These have shape {targets.shape}.")
        candidates, backend = sample_noise(seed, BLOCK, self.G), self.G.backend
        flat = (part.reshape(len(part), -1) for part in (targets, pictures_of(self.G, candidates)))
        noise = Tensor(backend.array(candidates[squared_distances(*flat).argmin(axis=1)]), backend)
        target, adam = backend.array(targets), Adam({"noise": noise}, lr)
        for _ in range(whole("steps", steps, 0)):
            adam.step(grad(squares(self.G(noise), target=target), [noise]))
        return backend.numpy(noise.data)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """The discriminator's logits (N,) for images (N, H, W, C) float32 in [-1, 1]. Raises: ShapeError."""
        backend = self.D.backend
        parts = [images[at : at + BLOCK] for at in range(0, max(1, len(images)), BLOCK)]
        with no_grad():
            return np.concatenate([backend.numpy(self.D(backend.array(part)).data)[:, 0] for part in parts])


def load(
    where: str | int | os.PathLike[str] | None = None, out: str | Path = "runs",
    device: str | Backend = "auto", engine: str = "auto", say: Printer = say,
) -> Trained:  # fmt: skip
    """The model in a run's newest intact checkpoint, by default of the newest trained run in `out`, or in a
    checkpoint or .safetensors file. `device` and `engine` are as for the commands. Raises: CheckpointError
    if there is no intact checkpoint; as `backend.choose`."""
    chosen = device if isinstance(device, Backend) else choose(device, engine, str)
    return Trained(*found(None if where is None else str(where), Path(out), chosen, say))


def pixels(pictures: Any, taker: str) -> tuple[np.ndarray, str]:
    """`pictures`, uint8 or floats in [-1, 1], as float32 in [-1, 1], and how they were read, in words.
    Raises: UsageError, which names the `taker`, if they are anything else."""
    array, low, high = np.asarray(pictures), 0, 0
    if array.dtype.kind in "buif" and array.size:
        low, high = array.min(), array.max()
    span = f"from {low:g} to {high:g}"
    if array.dtype == np.uint8:
        return normalise(array), f"{span}, read as bytes in [0, 255]"
    if array.dtype.kind == "f" and -1.001 <= low <= high <= 1.001:
        return array.astype(np.float32), f"{span}, read as numbers in [-1, 1]"
    raise UsageError(f"{taker} got {array.dtype} {span}. Use uint8, 0 to 255, or floats in [-1, 1].")


# Each picture's mean squared difference from its target (N, H, W, C), summed: so their gradients do not mix.
squares = Op(
    lambda x, *, target: (((x - target) ** 2 / x[0].size).sum(), x - target),
    lambda error, dy, wanted: (dy * 2 * error / error[0].size,),
)


def vectors(noise: Any, G: Network, at_most: float = math.inf, name: str = "the noise") -> np.ndarray:
    """`noise` as an array (N, noise_dim) float32 for `G`; a single vector (noise_dim,) is N = 1. Raises:
    UsageError if the numbers are not finite; ShapeError if the shape is wrong or N is above `at_most`."""
    try:
        array = np.atleast_2d(np.asarray(noise).astype(np.float32, casting="same_kind"))
    except (TypeError, ValueError) as problem:
        raise UsageError(f"{name} is not an array of numbers. Use standard normal numbers.") from problem
    if array.shape[1:] != G.input_shape or not 0 < len(array) <= at_most:
        wanted = f"({G.input_shape[0]},)" if at_most == 1 else f"(N, {G.input_shape[0]})"
        raise ShapeError(f"{name} has the shape {array.shape}. This generator needs {wanted}.")
    if not np.isfinite(array).all():
        raise UsageError(f"{name} holds numbers that are not finite (NaN or infinity). Replace them.")
    return array


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an int. Raises: UsageError if it is not a whole number from `least` to a million."""
    if type(value) is not bool and isinstance(value, int | np.integer) and least <= value <= MOST:
        return int(value)
    raise UsageError(f"{name} is {value!r:.40}. Use a whole number from {least} to {MOST:,}.")


def great_circle(a: np.ndarray, b: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Points (N, noise_dim) from `a` (t = 0) to `b` (t = 1), both (noise_dim,), for t (N,):
    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, where w is the angle between a and b (Shoemake 1985).
    Normal noise is close to a sphere. A straight line leaves it, and G was never trained inside."""
    t = t[:, None]
    cosine = float(a @ b) / (math.sqrt(float(a @ a) * float(b @ b)) or 1.0)
    angle = np.float32(math.acos(max(-1.0, min(1.0, cosine))))
    if math.sin(angle) < 1e-6:  # the same or the opposite direction
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)
