"""``python -m tinygan.sample``: new pictures from a trained generator, and its discriminator's decision."""

import argparse
import math
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tinygan import backend, cli
from tinygan.errors import CheckpointError, UsageError, failing, filled, say
from tinygan.evaluation.classifier import NAMES, class_called, features_and_classes, load_classifier
from tinygan.evaluation.evaluation import unmeasurable
from tinygan.files import write_atomically
from tinygan.layers import Network
from tinygan.ops.loss import sigmoid
from tinygan.runs.folder import RunFolder
from tinygan.runs.state import PREVIEWS, State, Trained, load, pictures_of, restored, sample_noise
from tinygan.views.animation import endings, title, write_animation
from tinygan.views.pictures import grid, panels, save_png, to_uint8

MOST = 1_000_000  # pictures at a time: 3 GB of them
MOST_FRAMES = 3_000  # of a walk: two and a half minutes
PER_SECOND = 20  # frames of a walk
BLOCK = 256  # pictures that are made together
CANDIDATES = 32  # for each picture that --class or --best is to find
PICTURES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff"}
FILMS = {".mp4": "pip install imageio-ffmpeg", ".webp": "install a Pillow with WebP", ".gif": ""}


def parser() -> cli.Parser:
    shared = *cli.OF_A_RUN, "--device", "--seed", "--out"
    parser = cli.Parser("tinygan.sample", "Make new pictures with a trained generator.", *shared)
    parser.add_argument("--num", type=int, metavar="N", help="how many pictures; default: 16")
    several = "one picture for each of these seeds, such as 0-15 or 3,7,20-24"
    parser.add_argument("--seeds", type=seeds, metavar="LIST", help=several)
    parser.add_argument(
        "--class", type=filled, dest="kind", metavar="NAME",
        help="only pictures that tinygan's classifier takes for this class, such as 'ankle boot' or 9: "
        "chosen among many, since the generator cannot be asked for a class",
    )  # fmt: skip
    best = f"the N pictures that D scores highest, of --num; default: of {CANDIDATES} for each"
    parser.add_argument("--best", type=int, metavar="N", help=best)
    parser.add_argument(
        "--format", choices=("png", "npy"),
        help="png (default), or npy: an array (N, H, W, C) float32 in [-1, 1]; default: as --out ends",
    )  # fmt: skip
    parser.add_argument("--grid", type=rows_and_columns, metavar="ROWSxCOLS", help="how to arrange them")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--separate", action="store_true", help="one file a picture, not magnified")
    kind.add_argument(
        "--interpolate", type=int, metavar="FRAMES",
        help="a looping film instead: FRAMES pictures on the way from each noise vector to the next; an MP4 "
        "where imageio-ffmpeg is installed, else a WebP or a GIF, or as --out ends. With --grid each place "
        "walks through --num vectors of its own; default: 4",
    )  # fmt: skip
    kind.add_argument(
        "--through-training", action="store_true",
        help="the same noise before the training and at every checkpoint of the run",
    )  # fmt: skip
    return parser


def rows_and_columns(text: str) -> tuple[int, int]:
    """``"2x8"`` -> (2, 8)."""
    match = re.fullmatch(r"([1-9]\d{0,3})[xX]([1-9]\d{0,3})", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROWSxCOLS, such as 4x4")
    return int(match[1]), int(match[2])


def seeds(text: str) -> tuple[str, list[int]]:
    """``"3,7-9"`` -> itself and [3, 7, 8, 9]."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MOST:
            raise argparse.ArgumentTypeError(f"{text!r} is no list of seeds, such as 0-15 or 3,7,20-24")
        found += range(first, last + 1)
    return text, found


def main(arguments: cli.Arguments = ()) -> int:
    """Make pictures as `arguments` say; returns the exit code."""
    options = parser().parse(arguments)
    check(options)
    with cli.computing(options.device) as device:
        return make(options, device)


def check(options: argparse.Namespace) -> None:
    """Fill in what follows from other options: `walks`, side by side; `wanted`, how many noise vectors in
    all; `ending`, of the file. Raises UsageError for what does not go together."""
    places = options.grid[0] * options.grid[1] if options.grid else PREVIEWS
    walking = options.grid and options.interpolate
    options.walks = places if walking else 1
    if options.grid and (options.separate or options.through_training):
        raise UsageError("--grid is not allowed with --separate or --through-training.")
    if options.seeds and (options.num, options.seed, options.kind, options.best) != (None,) * 4:
        raise UsageError("--seeds says which pictures: leave out --num, --seed, --class and --best.")
    for name, number in (("num", options.num), ("best", options.best)):
        if number is not None and number < 1:
            raise UsageError(f"--{name} {number} is less than 1.")
    if options.num is None:
        options.num = min(MOST, CANDIDATES * options.best) if options.best else 4 if walking else places
    options.wanted = len(options.seeds[1]) if options.seeds else options.best or options.num * options.walks
    if options.best and options.best > options.num:
        raise UsageError(f"--best {options.best} is more than --num {options.num}.")
    if options.wanted > places and options.grid and not walking:
        size = "{}x{}".format(*options.grid)
        raise UsageError(f"--num {options.wanted} is more than --grid {size} holds.")
    pictures = max(options.num, options.wanted * (options.interpolate or 1))
    if pictures > MOST:
        raise UsageError(f"{pictures} pictures are more than {MOST:,}. Make them in parts, by --seed.")
    if options.interpolate is not None:
        if options.interpolate < 2 or options.wanted < 2 * options.walks:
            raise UsageError("--interpolate needs at least 2 frames, and --num at least 2 ends.")
        if pictures // options.walks > MOST_FRAMES:
            frames = f"{pictures // options.walks:,} frames"
            raise UsageError(f"{frames} are more than {MOST_FRAMES:,}. Use a smaller --num or --interpolate.")
    options.ending = ending(options)


def ending(options: argparse.Namespace) -> str:
    """The ending of the file to write, such as ``.png``. Raises UsageError where it cannot be."""
    films = endings()
    images = (f".{options.format}",) if options.format else (".png", ".npy")
    named = "" if options.separate else cli.ending(options.out, *(FILMS if options.interpolate else images))
    if named in FILMS and named not in films:
        raise UsageError(f"--out {options.out}: no encoder is here: {FILMS[named]}, or name a .gif.")
    other = options.separate or options.interpolate or options.through_training
    if other and ".npy" in (named, f".{options.format}"):
        raise UsageError("--format npy writes one array of pictures; leave the other kinds out.")
    return named or (films[0] if options.interpolate else images[0])


def make(options: argparse.Namespace, device: backend.Backend) -> int:
    """Make the pictures on `device`."""
    trained = load(options.run, options.runs, device, say=cli.warn)
    seed = trained.settings.seed + 1 if options.seed is None else options.seed
    classifier = classifier_for(options, trained)
    way = options.interpolate and "interpolation" or options.through_training and "through_training"
    name = f"{way or 'samples'}_{trained.name}_{described(options, seed)}"
    if options.separate:
        path = options.out or trained.run_folder / name
        files = separate_files(options, path)
        cli.made(path)
    else:
        path, files = cli.placed(options.out, trained.run_folder, name + options.ending), []
    noise = chosen(options, trained, seed, classifier)
    if options.interpolate:
        say(f"{write_walks(options, trained.G, noise, path)}: {path}")
    elif options.through_training:
        shown = write_through_training(trained, noise, path)
        say(f"{len(noise)} pictures, {', '.join(shown)}: {path}")
    else:
        if options.ending == ".npy":
            pictures = np.concatenate(list(blocks(trained.G, noise)))
            write_atomically(path, lambda file: np.save(file, pictures))
        elif options.separate:
            for file, picture in zip(files, made(trained.G, noise), strict=False):  # fewer may be found
                save_png(file, picture)
        else:
            columns = options.grid[1] if options.grid else None
            save_png(path, grid(made(trained.G, noise), columns))
        say(f"{len(noise)} pictures from {trained.path}: {path}{'/' if options.separate else ''}")
        print_decisions(trained, pictures_of(trained.G, noise[:1]))
    return 0


def described(options: argparse.Namespace, seed: int) -> str:
    """All that decides what the pictures are, for the name of their file."""
    words = [f"seeds_{options.seeds[0]}" if options.seeds else f"seed_{seed}_num_{options.num}"]
    if options.kind:
        words.append("class_" + re.sub("[^a-z0-9]+", "-", options.kind.lower()))
    words += [f"best_{options.best}"] * bool(options.best)
    words += ["{}x{}".format(*options.grid)] if options.grid else []
    words += [f"frames_{options.interpolate}"] * bool(options.interpolate)
    return "_".join(words)
def print_decisions(trained: Trained, picture: np.ndarray) -> None:
    """The discriminator's logit of a generated `picture` (1, H, W, C), before its training and after."""
    before = Trained(State(trained.settings, trained.D.backend), trained.path)
    for when, model in (("untrained", before), ("trained", trained)):
        logit = float(model.logits(picture)[0])
        real = float(sigmoid(np.asarray(logit)))
        print(f"D's decision on the first picture, {when}: logit {logit:+.4f}, {real:.0%} real")


def separate_files(options: argparse.Namespace, folder: Path) -> list[Path]:
    """Where the pictures go one by one. Raises UsageError where `folder` holds others already."""
    if options.seeds:
        names = [f"seed_{seed:04}.png" for seed in options.seeds[1]]
    else:
        digits = len(str(options.wanted - 1))
        names = [f"{number:0{digits}}.png" for number in range(options.wanted)]
    with failing(f"cannot look into {folder}", "Use another --out."):
        found = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    others = sorted(name for name in found - {*names} if Path(name).suffix.lower() in PICTURES)
    if others:
        more = f"{len(others)} other pictures, such as {others[0]}"
        raise UsageError(f"{folder} holds {more}. Name a new folder with --out.")
    return [folder / name for name in names]


def classifier_for(options: argparse.Namespace, trained: Trained) -> Network | None:
    """The classifier that knows ``--class``, whose `kind` becomes its full name. Raises UsageError."""
    if options.kind is None:
        return None
    settings = trained.settings
    if (settings.size, settings.channels) != (28, 1):
        shape = f"{settings.size}x{settings.size}x{settings.channels}"
        raise UsageError(f"no classifier for pictures of {shape}: --class needs 28x28x1.")
    if why := unmeasurable():
        raise UsageError(why)
    classifier = load_classifier(settings.data, backend.cpu("fast"))
    options.kind = class_called(options.kind, settings.data)
    return classifier


def chosen(
    options: argparse.Namespace, trained: Trained, seed: int, classifier: Network | None
) -> np.ndarray:
    """The noise (N, noise_dim) behind the pictures wanted, or as many as are found. Raises UsageError where
    none is."""
    G, wanted = trained.G, options.wanted
    if options.seeds:
        return np.concatenate([sample_noise(one, 1, G) for one in options.seeds[1]])
    if not options.best and not classifier:
        return sample_noise(seed, wanted, G)
    noise = sample_noise(seed, options.num if options.best else min(MOST, CANDIDATES * wanted), G)
    ranked: list[tuple[float, int]] = []  # the best first, else in order
    seen = 0
    for pictures in blocks(G, noise):
        score = trained.logits(pictures) if options.best else np.zeros(len(pictures))
        fits = np.ones(len(pictures), bool)
        if classifier:
            classes = features_and_classes(classifier, to_uint8(pictures))[1]
            fits = classes == NAMES[trained.settings.data].index(options.kind)
        ranked += [(-float(score[i]), seen + int(i)) for i in np.flatnonzero(fits)]
        seen += len(pictures)
        if len(ranked) >= wanted and not options.best:
            break
    kept = [index for _, index in sorted(ranked)[:wanted]]
    if not kept:
        raise UsageError(f"none of {seen:,} pictures is taken for {options.kind!r}. Use another --seed.")
    by = [f"the classifier ({options.kind})"] * bool(classifier) + ["D's score"] * bool(options.best)
    only = "" if len(kept) == wanted else f", {wanted:,} wanted"
    but = "the generator itself cannot be asked for " + ("a class" if classifier else "better ones")
    say(f"{len(kept):,} of {seen:,} pictures{only}, chosen by {' and '.join(by)}: {but}")
    return noise[kept]


def blocks(G: Network, noise: np.ndarray) -> Iterator[np.ndarray]:
    """G's pictures (n, H, W, C) float32 of `noise` (N, noise_dim), some at a time: the slow part."""
    for at in range(0, len(noise), BLOCK):
        yield pictures_of(G, noise[at : at + BLOCK])


def made(G: Network, noise: np.ndarray) -> np.ndarray:
    """G's pictures of `noise` (N, noise_dim) as uint8 (N, H, W, C)."""
    return np.concatenate([to_uint8(pictures) for pictures in blocks(G, noise)])


def write_walks(options: argparse.Namespace, G: Network, noise: np.ndarray, path: Path) -> str:
    """The film of one walk or a grid of them, each through its part of the `noise`; returns what it shows."""
    each = len(noise) // options.walks
    if each < 2:
        raise UsageError(f"{len(noise)} pictures are too few for {options.walks} walks. Use a larger --num.")
    parts = noise[: each * options.walks].reshape(options.walks, each, -1)
    ways = np.stack([walk(part, options.interpolate) for part in parts], axis=1)  # (frames, walks, noise_dim)
    pictures = made(G, ways.reshape(-1, ways.shape[2]))
    if path.suffix.lower() == ".gif":  # five bits instead of eight: a third of the size
        pictures = pictures & 0xF8 | pictures >> 5
    columns = options.grid[1] if options.grid else 1
    # Codecs work on blocks of 16x16: where pixels fill them, or a part, files are small and edges sharp.
    scale = 1 << max(0, min(4, (700 // (columns * pictures.shape[2])).bit_length() - 1))
    pages = pictures.reshape(*ways.shape[:2], *pictures.shape[1:])
    frames = (grid(page, columns, scale, gap=scale) for page in pages)
    write_animation(path, frames, 1 / PER_SECOND)
    several = f"{options.walks} walks through " if options.grid else ""
    return f"{several}{each} noise vectors, {options.interpolate} frames between neighbours"


def walk(ends: np.ndarray, frames: int) -> np.ndarray:
    """A loop (n frames, noise_dim) through the `ends` (n, noise_dim), and from the last one to the first."""
    both = zip(ends, np.roll(ends, -1, axis=0), strict=True)
    return np.concatenate([great_circle(a, b, frames) for a, b in both])


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


def write_through_training(trained: Trained, noise: np.ndarray, path: Path) -> list[str]:
    """Pictures of the same `noise` untrained and at each intact checkpoint up to that of `trained`; returns
    the titles of these panels."""
    checkpoints = RunFolder(trained.run_folder).checkpoints()[::-1]  # the oldest first
    names = [file.name for file in checkpoints]
    if trained.path.name not in names:
        raise CheckpointError(
            f"{trained.path} is in no run's folder: name the run, not a copy of its checkpoint."
        )
    device = trained.D.backend
    shown = {"untrained": made(State(trained.settings, device).shown_G, noise)}
    for file in checkpoints[: names.index(trained.path.name) + 1]:
        try:
            state, _ = restored([file], device, cli.warn)
        except CheckpointError as problem:
            cli.warn(f"warning: {problem}")
            continue
        if title(state.name) not in shown:  # the latest may be one of those that stay
            shown[title(state.name)] = made(state.shown_G, noise)
    save_png(path, panels(np.stack(list(shown.values())), list(shown)))
    return list(shown)


if __name__ == "__main__":
    sys.exit(cli.run(main))
