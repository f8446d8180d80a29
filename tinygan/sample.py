"""``python -m tinygan.sample``: new pictures from a trained generator, and its discriminator's decision."""

import argparse
import math
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygan import backend, cli
from tinygan.errors import CheckpointError, UsageError, say
from tinygan.files import write_atomically
from tinygan.ops.loss import sigmoid
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import PREVIEWS, State, Trained, load, pictures_of, restored, sample_noise
from tinygan.views.animation import write_gif
from tinygan.views.pictures import grid, save_png, to_uint8

FORMATS = ("png", "npy")
MOST = 1_000_000  # pictures at a time: 3 GB of them


def parser() -> cli.Parser:
    shared = *cli.OF_A_RUN, "--device", "--seed", "--out"
    parser = cli.Parser("tinygan.sample", "Make new pictures with a trained generator.", *shared)
    parser.add_argument("--num", type=int, metavar="N", help="how many pictures; default: 16")
    parser.add_argument(
        "--format", choices=FORMATS,
        help="png (default), or npy: an array (N, H, W, C) float32 in [-1, 1]; default: as --out ends",
    )  # fmt: skip
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--grid", type=rows_and_columns, metavar="ROWSxCOLS", help="how to arrange them")
    kind.add_argument("--separate", action="store_true", help="one file a picture, not magnified")
    kind.add_argument(
        "--interpolate", type=int, metavar="FRAMES",
        help="a looping GIF instead: FRAMES pictures on the way from each noise vector to the next",
    )  # fmt: skip
    kind.add_argument(
        "--through-training", action="store_true",
        help="the same noise at every checkpoint of the run: a row a picture, the oldest on the left",
    )  # fmt: skip
    return parser


def rows_and_columns(text: str) -> tuple[int, int]:
    """``"2x8"`` -> (2, 8)."""
    match = re.fullmatch(r"([1-9]\d{0,3})[xX]([1-9]\d{0,3})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLS, such as 4x4")
    return int(match[1]), int(match[2])


def main(arguments: cli.Arguments = ()) -> int:
    """Make pictures as `arguments` say; returns the exit code."""
    options = parser().parse(arguments)
    check(options)
    with cli.computing(options.device) as device:
        return make(options, device)


def check(options: argparse.Namespace) -> None:
    """Fill in what follows from other options. Raises UsageError for what does not go together."""
    places = options.grid[0] * options.grid[1] if options.grid else PREVIEWS
    options.num = places if options.num is None else options.num
    if options.num < 1:
        raise UsageError(f"--num {options.num} is less than 1.")
    pictures = options.num * (options.interpolate or 1)
    if pictures > MOST:
        raise UsageError(f"{pictures} pictures are more than {MOST:,}. Make them in parts, by --seed.")
    if options.num > places and options.grid:
        size = "{}x{}".format(*options.grid)
        raise UsageError(f"--num {options.num} is more than --grid {size} holds.")
    if options.interpolate is not None and (options.interpolate < 2 or options.num < 2):
        raise UsageError("--interpolate needs at least 2 frames, and --num at least 2 ends.")
    fitting = ("gif",) if options.interpolate else (options.format,) if options.format else FORMATS
    ending = "" if options.separate else cli.ending(options.out, *(f".{known}" for known in fitting))
    options.format = options.format or ending[1:] or "png"
    if options.format == "npy" and (options.separate or options.interpolate or options.through_training):
        raise UsageError("--format npy writes one array of pictures; leave the other kinds out.")


def make(options: argparse.Namespace, device: backend.Backend) -> int:
    """Make the pictures on `device`."""
    trained = load(options.run, options.runs, device, say=cli.warn)
    seed = trained.settings.seed + 1 if options.seed is None else options.seed
    noise = sample_noise(seed, options.num, trained.G)
    name = f"{trained.name}_seed_{seed}"
    if options.interpolate:
        path = cli.placed(options.out, trained.run_folder, f"interpolation_{name}.gif")
        ends = zip(noise, np.roll(noise, -1, axis=0), strict=True)  # from the last one back to the first
        ways = [great_circle(*both, options.interpolate) for both in ends]
        frames = [grid(picture[None]) for picture in pictures_of(trained.G, np.concatenate(ways))]
        write_gif(path, np.stack(frames), cli.warn, seconds_per_frame=0.05)
        say(f"{options.num} noise vectors, {options.interpolate} frames between neighbours: {path}")
    elif options.through_training:
        checkpoints = RunFolder(trained.run_folder).checkpoints()[::-1]  # the oldest first
        if trained.path.name not in [file.name for file in checkpoints]:
            where = f"{trained.path} is in no run's folder"
            raise CheckpointError(f"{where}: name the run, not a copy of its checkpoint.")
        path = cli.placed(options.out, trained.run_folder, f"through_training_seed_{seed}.png")
        columns = write_through_training(checkpoints, device, noise, path)
        say(f"{options.num} pictures from {', '.join(columns)}: {path}")
    else:
        pictures = pictures_of(trained.G, noise)
        if options.separate:
            path = cli.made(options.out or trained.run_folder / f"samples_{name}")
            digits = len(str(len(pictures) - 1))
            for number, picture in enumerate(to_uint8(pictures)):
                save_png(path / f"{number:0{digits}}.png", picture)
        else:
            path = cli.placed(options.out, trained.run_folder, f"samples_{name}.{options.format}")
            if options.format == "npy":
                write_atomically(path, lambda file: np.save(file, pictures))
            else:
                save_png(path, grid(pictures, columns=options.grid[1] if options.grid else None))
        say(f"{options.num} pictures from {trained.path}: {path}{'/' if options.separate else ''}")
        print_decisions(trained, pictures[:1])
    return 0


def print_decisions(trained: Trained, picture: np.ndarray) -> None:
    """The discriminator's logit of a generated `picture` (1, H, W, C), before its training and after."""
    before = Trained(State(trained.settings, trained.D.backend), trained.path)
    for when, model in (("untrained", before), ("trained", trained)):
        logit = float(model.logits(picture)[0])
        real = float(sigmoid(np.asarray(logit)))
        print(f"D's decision on the first picture, {when}: logit {logit:+.4f}, {real:.0%} real")


def great_circle(a: np.ndarray, b: np.ndarray, frames: int) -> np.ndarray:
    """`frames` points (frames, noise_dim) from `a` towards `b`, both (noise_dim,), without b itself.

    sin((1 - t) w) / sin(w) a + sin(t w) / sin(w) b, with w the angle between a and b (Shoemake 1985): normal
    noise lies close to a sphere, and a straight line would cut through its inside, where the generator was
    never trained.
    """
    t = np.arange(frames, dtype=np.float32)[:, None] / np.float32(frames)
    cosine = float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
    angle = np.float32(math.acos(max(-1.0, min(1.0, cosine))))
    if math.sin(angle) < 1e-6:  # the same direction, or opposite ones
        return (1 - t) * a + t * b
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * b) / np.sin(angle)


def write_through_training(
    checkpoints: Sequence[Path], device: backend.Backend, noise: np.ndarray, path: Path
) -> list[str]:
    """Pictures of the same `noise` at each intact checkpoint, a row a vector; returns the columns' names."""
    columns: dict[str, np.ndarray] = {}
    for file in checkpoints:
        try:
            state, _ = restored([file], device, cli.warn)
        except CheckpointError as problem:
            cli.warn(f"warning: {problem}")
            continue
        if state.name not in columns:  # the latest may be one of those that stay
            columns[state.name] = to_uint8(pictures_of(state.shown_G, noise))
    in_rows = np.stack(list(columns.values()), axis=1)  # (N, checkpoints, H, W, C)
    save_png(path, grid(in_rows.reshape(-1, *in_rows.shape[2:]), columns=len(columns)))
    return list(columns)


if __name__ == "__main__":
    sys.exit(cli.run(main))
