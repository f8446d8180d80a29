"""``python -m tinygan.sample``: new pictures from a trained generator, and what its critic says of them."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygan import backend, cli
from tinygan.errors import CheckpointError, UsageError
from tinygan.files import write_atomically
from tinygan.ops.loss import sigmoid
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import PREVIEWS, State, Trained, load, pictures_of, restored, sample_noise
from tinygan.views.animation import write_gif
from tinygan.views.pictures import grid, save_png, to_uint8

FORMATS = ("png", "npy")
MOST = 1_000_000  # pictures at a time: 3 GB of them


def parser() -> cli.Parser:
    parser = cli.Parser("tinygan.sample", "Make new pictures with a trained generator.", of_a_run=True)
    parser.add_argument("--num", type=int, metavar="N", help="how many pictures; default: 16")
    parser.add_argument("--grid", type=rows_and_columns, metavar="ROWSxCOLS", help="how to arrange them")
    parser.add_argument("--seed", type=int, help="of the noise; default: one more than the run's own")
    parser.add_argument(
        "--format",
        choices=FORMATS,
        help="png (default), or npy: an array (N, H, W, C) float32 in [-1, 1]; default: as --out ends",
    )
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--separate", action="store_true", help="one file a picture, not magnified")
    kind.add_argument(
        "--interpolate",
        type=int,
        metavar="FRAMES",
        help="a looping GIF instead: FRAMES pictures on the way from each noise vector to the next",
    )
    kind.add_argument(
        "--through-training",
        action="store_true",
        help="the same noise at every checkpoint of the run: a row a picture, the oldest on the left",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="PATH",
        help="a .png, .npy or (--interpolate) .gif file, or (--separate) a folder; default: in the run",
    )
    parser.add_argument("--device", choices=backend.DEVICES, default="auto", help="default: auto")
    return parser


def rows_and_columns(text: str) -> tuple[int, int]:
    """``"2x8"`` -> (2, 8)."""
    match = re.fullmatch(r"([1-9]\d{0,3})[xX]([1-9]\d{0,3})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLS, such as 4x4")
    return int(match[1]), int(match[2])


def main(arguments: Sequence[str]) -> int:
    """Make pictures as `arguments` say; returns the exit code."""
    options = parser().parse_args(arguments)
    check(options)
    device = backend.choose(options.device, say=lambda line: None)
    with device.failures():
        return make(options, device)


def check(options: argparse.Namespace) -> None:
    """Fill in what follows from other options. Raises UsageError for what does not go together."""
    if options.grid and (options.separate or options.interpolate or options.through_training):
        raise UsageError("--grid arranges pictures on one page; leave it out here.")
    places = options.grid[0] * options.grid[1] if options.grid else PREVIEWS
    options.num = places if options.num is None else options.num
    if options.num < 1:
        raise UsageError(f"--num {options.num} is less than 1.")
    pictures = options.num * (options.interpolate or 1)
    if pictures > MOST:
        raise UsageError(f"{pictures} pictures are more than {MOST:,}. Make them in parts, by --seed.")
    if options.num > places and options.grid:
        raise UsageError(
            f"--num {options.num} is more than --grid {options.grid[0]}x{options.grid[1]} holds."
        )
    if options.seed is not None and options.seed < 0:
        raise UsageError(f"--seed {options.seed} is less than 0.")
    if options.interpolate is not None and (options.interpolate < 2 or options.num < 2):
        raise UsageError("--interpolate needs at least 2 frames, and --num at least 2 ends.")
    if options.out and not options.separate:
        ending = options.out.suffix.lower()
        wanted = ".gif" if options.interpolate else f".{options.format}" if options.format else None
        if ending not in ([wanted] if wanted else [f".{known}" for known in FORMATS]):
            fitting = wanted or " or ".join(f".{known}" for known in FORMATS)
            raise UsageError(f"--out {options.out} does not end in {fitting}. Choose another name.")
        options.format = options.format or ending[1:]
    options.format = options.format or "png"
    if options.format == "npy" and (options.separate or options.interpolate or options.through_training):
        raise UsageError("--format npy writes one array of pictures; leave the other kinds out.")


def make(options: argparse.Namespace, device: backend.Backend) -> int:
    """Make the pictures on `device`."""
    trained = load(options.run, options.runs, device, say=cli.warn)
    seed = trained.settings.seed + 1 if options.seed is None else options.seed
    folder = trained.run_folder
    name = f"{trained.path.stem}_seed_{seed}"

    if options.interpolate:
        path = options.out or folder / f"interpolation_{name}.gif"
        write_interpolation(trained, options.num, options.interpolate, seed, path)
        print(f"{options.num} noise vectors, {options.interpolate} frames between neighbours: {path}")
        return 0
    if options.through_training:
        path = options.out or folder / f"through_training_seed_{seed}.png"
        columns = write_through_training(trained, options.num, seed, path)
        print(f"{options.num} pictures from {', '.join(columns)}: {path}")
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
        target = options.out or folder / f"samples_{name}.{options.format}"
        make_folder(target.parent)
        if options.format == "npy":
            write_atomically(target, lambda file: np.save(file, pictures))
        else:
            save_png(target, grid(to_uint8(pictures), columns=options.grid[1] if options.grid else None))
        print(f"{options.num} pictures from {trained.path}: {target}")
    print_decisions(trained, pictures[:1])
    return 0


def print_decisions(trained: Trained, picture: np.ndarray) -> None:
    """What the discriminator says of a generated `picture` (1, H, W, C), before its training and after."""
    untrained = State(trained.settings, trained.D.backend)
    before = float(Trained(untrained.G, untrained.D, trained.settings, trained.path).logits(picture)[0])
    after = float(trained.logits(picture)[0])
    for when, logit in (("untrained", before), ("trained", after)):
        real = float(sigmoid(np.asarray(logit)))
        print(f"D's decision on the first picture, {when}: logit {logit:+.4f}, {real:.0%} real")


def write_interpolation(trained: Trained, num: int, frames: int, seed: int, path: Path) -> None:
    """A looping GIF that walks through `num` noise vectors and back to the first.

    On great circles: normal noise lies close to a sphere, and a straight line would cut through its
    inside, where the generator was never trained.
    """
    noise = sample_noise(seed, num, trained.G)
    steps = [great_circle(noise[i], noise[(i + 1) % num], frames) for i in range(num)]
    pictures = to_uint8(pictures_of(trained.G, np.concatenate(steps)))
    make_folder(path.parent)
    write_gif(path, np.stack([grid(picture[None]) for picture in pictures]), seconds_per_frame=0.05)


def write_through_training(trained: Trained, num: int, seed: int, path: Path) -> list[str]:
    """The same `num` noise vectors at each intact checkpoint of the run, a row each; returns their names.

    Raises CheckpointError where the model is no longer in the folder of its run.
    """
    files = RunFolder(trained.run_folder).checkpoints()
    if trained.path.name not in [file.name for file in files]:
        raise CheckpointError(
            f"{trained.path} is in no run's folder: name the run, not a copy of its checkpoint."
        )
    noise = sample_noise(seed, num, trained.G)
    columns, names = [], []
    for file in reversed(files):
        try:
            state, _, _ = restored([file], trained.G.backend, cli.warn)
        except CheckpointError as problem:
            cli.warn(f"warning: {problem}")
            continue
        columns.append(to_uint8(pictures_of(state.shown_G, noise)))
        names.append(file.stem)
    make_folder(path.parent)
    in_rows = np.stack(columns, axis=1)  # (num, checkpoints, H, W, C)
    save_png(path, grid(in_rows.reshape(-1, *in_rows.shape[2:]), columns=len(columns)))
    return names


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
    sys.exit(cli.run(main))
