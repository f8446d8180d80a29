"""``python -m tinygan.sample``: new pictures from a trained generator, and what its critic says of them."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygan import backend, commands
from tinygan.errors import CheckpointError, UsageError
from tinygan.ops.loss import sigmoid
from tinygan.runs.animation import write_gif
from tinygan.runs.pictures import grid, save_png, to_uint8
from tinygan.runs.state import State, Trained, load, paint, sample_noise


def parser() -> commands.Parser:
    parser = commands.Parser("tinygan.sample", "Make new pictures with a trained generator.")
    parser.add_argument(
        "run", nargs="?", metavar="RUN|FILE", help="run folder or checkpoint; default: the newest run"
    )
    parser.add_argument("--num", type=int, default=16, metavar="N", help="how many pictures; default: 16")
    parser.add_argument("--seed", type=int, help="of the noise; default: one more than the run's own")
    parser.add_argument("--separate", action="store_true", help="one file a picture, not magnified")
    parser.add_argument(
        "--interpolate",
        type=int,
        metavar="FRAMES",
        help="a looping GIF instead: FRAMES pictures on the way from each noise vector to the next",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="a .png (--interpolate: .gif) file, or with --separate a folder; default: in the run folder",
    )
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs; default: runs")
    parser.add_argument("--device", choices=backend.DEVICES, default="auto", help="default: auto")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Make pictures as `arguments` say; returns the exit code."""
    options = parser().parse_args(arguments)
    if options.num < 1:
        raise UsageError(f"--num {options.num} is less than 1.")
    if options.seed is not None and options.seed < 0:
        raise UsageError(f"--seed {options.seed} is less than 0.")
    if options.interpolate is not None and (options.interpolate < 2 or options.separate):
        raise UsageError("--interpolate needs at least 2 frames, and does not go with --separate.")
    device = backend.choose(options.device, report=lambda line: None)
    with device.failures():
        return make(options, device)


def make(options: argparse.Namespace, device: backend.Backend) -> int:
    """Make the pictures on `device`."""
    trained = load(options.run, options.runs, device, report=lambda line: print(line, file=sys.stderr))
    seed = trained.settings.seed + 1 if options.seed is None else options.seed
    folder = trained.run_folder
    name = f"{trained.path.stem}_seed_{seed}"

    if options.interpolate:
        path = options.out or folder / f"interpolation_{name}.gif"
        write_interpolation(trained, options.num, options.interpolate, seed, path)
        print(f"{options.num} noise vectors, {options.interpolate} frames between neighbours: {path}")
        return 0

    pictures = trained.generate(options.num, seed)
    if options.separate:
        target = options.out or folder / f"samples_{name}"
        make_folder(target)
        digits = len(str(options.num - 1))
        for number, picture in enumerate(to_uint8(pictures)):
            save_png(target / f"{number:0{digits}}.png", picture)
        print(f"{options.num} pictures from {trained.path}: {target}/")
    else:
        target = options.out or folder / f"samples_{name}.png"
        make_folder(target.parent)
        save_png(target, grid(to_uint8(pictures)))
        print(f"{options.num} pictures from {trained.path}: {target}")
    print_decisions(trained, pictures[:1])
    return 0


def print_decisions(trained: Trained, picture: np.ndarray) -> None:
    """What the discriminator says of a generated `picture` (1, H, W, C), before its training and after."""
    untrained = State(trained.settings, trained.D.backend)
    before = float(Trained(untrained.G, untrained.D, trained.settings, trained.path).judge(picture)[0])
    after = float(trained.judge(picture)[0])
    for when, logit in (("untrained", before), ("trained", after)):
        real = float(sigmoid(np, np.asarray(logit)))
        print(f"D's decision on the first picture, {when}: logit {logit:+.4f}, {real:.0%} real")


def write_interpolation(trained: Trained, num: int, frames: int, seed: int, path: Path) -> None:
    """A looping GIF that walks through `num` noise vectors and back to the first.

    On great circles: normal noise lies close to a sphere, and a straight line would cut through its
    inside, where the generator was never trained.
    """
    noise = sample_noise(seed, num, trained.G)
    steps = [great_circle(noise[i], noise[(i + 1) % num], frames) for i in range(num)]
    pictures = to_uint8(paint(trained.G, np.concatenate(steps)))
    make_folder(path.parent)
    write_gif(path, np.stack([grid(picture[None]) for picture in pictures]), seconds_per_frame=0.05)


def great_circle(a: np.ndarray, b: np.ndarray, frames: int) -> np.ndarray:
    """`frames` points (frames, noise_dim) from `a` towards `b`, both (noise_dim,), without b itself.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between a and b (Shoemake 1985).
    """
    t = np.arange(frames, dtype=np.float32)[:, None] / np.float32(frames)
    cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    angle = np.float32(math.acos(max(-1.0, min(1.0, cosine))))
    if math.sin(angle) < 1e-6:  # the same direction, or opposite ones
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def make_folder(path: Path) -> None:
    """Make `path` and its parents. Raises CheckpointError where that is impossible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise CheckpointError(f"cannot make {path}: {problem.strerror}. Use another --out.") from problem


if __name__ == "__main__":
    sys.exit(commands.run(main))
