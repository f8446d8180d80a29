"""``python -m tinygan.sample``: new pictures from a trained generator, and its discriminator's decision."""

import hashlib
import os
import re
import sys
from argparse import ArgumentTypeError, Namespace
from itertools import dropwhile
from pathlib import Path

import numpy as np

from tinygan import backend, cli
from tinygan.data.collection import SUFFIXES
from tinygan.data.dataset import Shape, refusing
from tinygan.data.pictures import fit_all
from tinygan.errors import CheckpointError, DataError, UsageError, failing, filled, pip, plural, say
from tinygan.evaluation.classifier import NAMES, class_called, features_and_classes
from tinygan.evaluation.evaluation import classifier_of
from tinygan.files import write_atomically
from tinygan.layers import Network
from tinygan.ops.loss import sigmoid
from tinygan.runs.folder import RunFolder
from tinygan.runs.progress import Progress, working
from tinygan.runs.state import PREVIEWS, State, pictures_of, restored, sample_noise
from tinygan.trained import BLOCK, MOST, Trained, great_circle, load, vectors
from tinygan.views.animation import endings, title, write_animation
from tinygan.views.pictures import grid, panels, read_picture, save_png, to_uint8

MOST_FRAMES = 3_000  # of a walk: two and a half minutes
CANDIDATES = 32  # pictures generated for each one that --class or --best selects
EXAMPLES = {
    "--num 64": "64 in one PNG",
    "2 --seeds 0-15": "of run 2, by seed",
    "--class 'ankle boot' --best 16": "choose",
    "--interpolate 20": "a film",
}
FILMS = (".mp4", ".webp", ".gif")  # file formats of walks


def parser() -> cli.Parser:
    shared = "run", "--runs", "--device", "--out"
    parser = cli.Parser("tinygan.sample", "Make new pictures with a trained generator.", *shared, **EXAMPLES)
    which = parser.add_argument_group("which pictures")
    add, one = which.add_argument, which.add_mutually_exclusive_group().add_argument
    add("--num", type=int, metavar="N", help=f"how many (default: {PREVIEWS}, or as many as --grid holds)")
    add("--seed", **cli.OPTIONS["--seed"])
    one("--seeds", type=seeds, metavar="LIST", help="one for each of these seeds, such as 3,7,20-24")
    one("--noise", type=noise_file, metavar="FILE.npy", help="one for each row of this array (N, noise_dim)")
    one("--like", type=picture_file, metavar="FILE", help="the closest to this picture that G can generate")
    kind = "those classified as NAME, such as 'ankle boot' or 9"
    add("--class", dest="kind", type=filled, metavar="NAME", help=kind)
    best = f"the N of --num, else of {CANDIDATES} N, with D's highest scores"
    add("--best", type=int, metavar="N", help=best)
    shorter = "scales the noise, up to 1: 0.7 gives fewer odd pictures and less variety (default: 1)"
    add("--truncation", type=float, default=1.0, metavar="FACTOR", help=shorter)
    how = parser.add_argument_group("what to make of them (default: one PNG)")
    add, way = how.add_argument, how.add_mutually_exclusive_group().add_argument
    add("--grid", type=rows_and_columns, metavar="ROWSxCOLS", help="arrange them in this grid")
    add("--format", choices=("png", "npy"), help="npy: float32 (N, H, W, C) in [-1, 1] (default: png)")
    way("--separate", action="store_true", help="one file per picture, not enlarged")
    walk = "a looping film, FRAMES pictures from each of --num noise vectors to the next, as MP4 (needs "
    walk += "imageio-ffmpeg), WebP or GIF; with --grid, one in each place"
    way("--interpolate", type=int, metavar="FRAMES", help=walk)
    through = "the same noise before training and at each checkpoint"
    way("--through-training", action="store_true", help=through)
    return parser


def rows_and_columns(text: str) -> tuple[int, int]:
    """``"2x8"`` -> (2, 8)."""
    match = re.fullmatch(r"([1-9]\d{0,3})[xX]([1-9]\d{0,3})", text)
    if not match:
        raise ArgumentTypeError(f"{text!r} is not ROWSxCOLS, such as 4x4")
    return int(match[1]), int(match[2])


def seeds(text: str) -> tuple[str, list[int]]:
    """``"3,7-9"`` -> a label for file names, and [3, 7, 8, 9]."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]+)(?:-([0-9]+))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + MOST:
            raise ArgumentTypeError(f"{text!r} is not a list of seeds such as 0-15 or 3,7,20-24")
        found += range(first, last + 1)
    name = text if len(text) <= 100 else hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"seeds_{name}", found


def noise_file(text: str) -> tuple[str, np.ndarray]:
    """The path of an .npy file -> a label for file names, and the array. Raises: DataError if unreadable."""
    path = cli.path(text)
    with refusing(f"--noise {path} cannot be read", ". Write one with numpy.save."), path.open("rb") as file:
        array = np.lib.format.read_array(file, allow_pickle=False)
    return named_after("noise", path, array), np.atleast_2d(array)


def picture_file(text: str) -> tuple[str, np.ndarray]:
    """The path of a picture -> a label, and its pixels (1, H, W, C). Raises: DataError if unreadable."""
    path = cli.path(text)
    pixels = read_picture(path, DataError)
    return named_after("like", path, pixels), pixels[None]


def named_after(what: str, path: Path, array: np.ndarray) -> str:
    """A label: `what`, the name of the file `path`, and 8 hexadecimal digits that identify its `array`."""
    plain = re.sub(r"[^\w-]+", "-", path.stem)
    return f"{what}_{plain}_{hashlib.sha256(array.tobytes()).hexdigest()[:8]}"


def main(arguments: cli.Arguments = ()) -> int:
    """Make pictures as `arguments` say, and return the exit code."""
    options = parser().parse(arguments)
    check(options)
    with cli.computing(options.device) as device, working() as progress:
        return make(options, device, progress)


def check(options: Namespace) -> None:
    """Derive `options.walks` (walks side by side), `wanted` (noise vectors in all) and `ending` (of the file)
    from the other options. Raises: UsageError if options contradict each other."""
    places = options.grid[0] * options.grid[1] if options.grid else PREVIEWS
    walking = options.grid and options.interpolate
    options.walks = places if walking else 1
    if options.grid and (options.separate or options.through_training):
        raise UsageError("--grid is not allowed with --separate or --through-training.")
    options.named = options.seeds or options.noise or options.like
    seed = None if options.like else options.seed  # with --like it is the start of the search
    if options.named and (options.num, seed, options.kind, options.best) != (None,) * 4:
        which = "--seeds" if options.seeds else "--noise" if options.noise else "--like"
        own = "" if options.like else " --seed,"
        raise UsageError(f"{which} already selects the pictures. Leave out --num,{own} --class and --best.")
    for name, number in (("num", options.num), ("best", options.best)):
        if number is not None and number < 1:
            raise UsageError(f"--{name} {number} is less than 1.")
    if not 0 < options.truncation <= 1:
        raise UsageError(f"--truncation {options.truncation} must be more than 0 and at most 1, such as 0.7.")
    if options.truncation < 1 and (options.noise or options.like):
        raise UsageError("--truncation scales random noise: leave it out with --noise and --like.")
    if options.num is None:
        options.num = min(MOST, CANDIDATES * options.best) if options.best else 4 if walking else places
    options.wanted = len(options.named[1]) if options.named else options.best or options.num * options.walks
    if options.best and options.best > options.num:
        raise UsageError(f"--best {options.best} is more than --num {options.num}.")
    if options.wanted > places and options.grid and not walking:
        raise UsageError("{} pictures do not fit into --grid {}x{}.".format(options.wanted, *options.grid))
    pictures = max(options.num, options.wanted * (options.interpolate or 1))
    if pictures > MOST:
        raise UsageError(f"{pictures} pictures are more than {MOST:,}. Make them in parts, one --seed each.")
    if options.interpolate is not None and (options.interpolate < 2 or options.wanted < 2 * options.walks):
        raise UsageError("--interpolate needs at least 2 frames, and 2 pictures to move between.")
    if options.wanted % options.walks:
        raise UsageError(f"{options.wanted} pictures do not fill --grid evenly. Use a multiple of {places}.")
    if options.interpolate and (frames := pictures // options.walks) > MOST_FRAMES:
        raise UsageError(f"{frames:,} frames are more than {MOST_FRAMES:,}. Use a smaller --interpolate.")
    options.ending = ending(options)


def ending(options: Namespace) -> str:
    """The ending of the file to write, such as ``.png``. Raises: UsageError if --out is invalid."""
    allowed = FILMS if options.interpolate else [f".{options.format}"] if options.format else [".png", ".npy"]
    named = "" if options.separate else cli.ending(options.out, *allowed)
    out = options.separate and options.out
    if out and out.suffix.lower() in SUFFIXES and not os.path.isdir(out):
        raise UsageError(f"--out {out} names a file, but --separate writes a folder. Name a folder.")
    if named in FILMS and named not in endings():
        needed = pip("install", "imageio-ffmpeg") if named == ".mp4" else "install a Pillow with WebP support"
        raise UsageError(f"--out {options.out}: no encoder for {named}: {needed}, or name a .gif.")
    other = options.separate or options.interpolate or options.through_training
    if other and ".npy" in (named, f".{options.format}"):
        raise UsageError(".npy holds one array. Leave out --separate, --interpolate and --through-training.")
    return named or next(iter(endings() if options.interpolate else allowed))


def make(options: Namespace, device: backend.Backend, progress: Progress) -> int:
    trained = load(options.run, options.runs, device, say=cli.warn)
    seed = trained.settings.seed + 1 if options.seed is None else options.seed
    noise = chosen(options, trained, seed, progress)
    count = plural(len(noise), "picture")
    way = options.interpolate and "interpolation" or options.through_training and "through_training"
    name = f"{way or 'samples'}_{trained.name}_{described(options, seed)}"
    if options.separate:
        path = cli.made(options.out or trained.run_folder / name)
        files = separate_files(options, path, len(noise))
    else:
        path, files = cli.placed(options.out, trained.run_folder, name + options.ending), []
    if options.interpolate:
        line = write_walks(options, trained.G, noise, path, progress)
    elif options.through_training:
        line = f"{count}, {', '.join(write_through_training(trained, noise, path, progress))}"
    else:
        pictures = made(trained.G, noise, progress)
        if options.ending == ".npy":
            write_atomically(path, lambda file: np.save(file, pictures))
        elif options.separate:
            for file, picture in zip(files, to_uint8(pictures), strict=True):
                save_png(file, picture)
        else:
            shown = np.concatenate([options.given, to_uint8(pictures)]) if options.like else pictures
            save_png(path, grid(shown, options.grid[1] if options.grid else None))
        line = f"{count} from {trained.path}"
    progress.close(keep=False)
    say(f"{line}: {path}{'/' * options.separate}")
    if not way:
        print_decisions(trained, pictures_of(trained.G, noise[:1]))
    return 0


def made(G: Network, noise: np.ndarray, progress: Progress) -> np.ndarray:
    """`pictures_of` in blocks, with a count in `progress`."""
    parts = []
    for start in range(0, len(noise), BLOCK):
        progress.show("making pictures", f"{start:,} of {len(noise):,}")
        parts.append(pictures_of(G, noise[start : start + BLOCK]))
    return np.concatenate(parts)


def described(options: Namespace, seed: int) -> str:
    """All options that determine the pictures, for the name of their file."""
    words = (
        options.named[0] if options.named else f"seed_{seed}_num_{options.num}",
        options.like and f"seed_{seed}",
        options.kind and "class_" + re.sub("[^a-z0-9]+", "-", options.kind.lower()),
        options.best and f"best_{options.best}",
        options.truncation < 1 and f"truncation_{options.truncation}",
        options.grid and "{}x{}".format(*options.grid),
        options.interpolate and f"frames_{options.interpolate}",
    )
    return "_".join(filter(None, words))


def print_decisions(trained: Trained, picture: np.ndarray) -> None:
    """Print the logit of a generated `picture` (1, H, W, C) by D before and after its training."""
    before = Trained(State(trained.settings, trained.D.backend), trained.path)
    for when, model in (("before", before), ("after", trained))[bool(trained.settings.start_from) :]:
        logit = float(model.logits(picture)[0])
        real = float(sigmoid(np.asarray(logit)))
        print(f"D on the first picture, {when} training: {real:.0%} real (logit {logit:+.4f})")


def separate_files(options: Namespace, folder: Path, count: int) -> list[Path]:
    """Paths in `folder` for `count` pictures. Raises: UsageError if it contains other pictures."""
    if options.seeds:
        names = [f"seed_{seed:04}.png" for seed in options.seeds[1]]
    else:
        names = [f"{number:0{len(str(count - 1))}}.png" for number in range(count)]
    with failing(f"cannot list {folder}", "Use another --out."):
        found = {file.name for file in folder.iterdir() if file.suffix.lower() in SUFFIXES}
    if others := sorted(found - {*names}):
        more = f"{plural(len(others), 'other picture')}, such as {others[0]}"
        raise UsageError(f"{folder} contains {more}. Name a new folder with --out.")
    return [folder / name for name in names]


def chosen(options: Namespace, trained: Trained, seed: int, progress: Progress) -> np.ndarray:
    """The noise (N, noise_dim) of the selected pictures. Raises: UsageError if --class selects none."""
    G, wanted = trained.G, options.wanted
    if options.noise:
        return vectors(options.noise[1], G, name="--noise")
    if options.like:
        return search(options, trained, seed, progress)
    classifier = classifier_of(trained.settings) if options.kind else None
    options.kind = options.kind and class_called(options.kind, trained.settings.data)
    drawn = options.num if options.best else min(MOST, CANDIDATES * wanted) if options.kind else wanted
    noise = trained.noise(seed=options.seeds[1]) if options.seeds else sample_noise(seed, drawn, G)
    noise = options.truncation * noise
    if not options.best and not options.kind:
        return noise
    ranked: list[tuple[float, int]] = []  # best first with --best, otherwise in order
    seen = 0
    while seen < len(noise) and (options.best or len(ranked) < wanted):
        progress.show("choosing", f"{len(ranked):,} of {seen:,} pictures so far")
        pictures = pictures_of(G, noise[seen : seen + BLOCK])
        score = trained.logits(pictures) if options.best else np.zeros(len(pictures))
        fits = [True] * len(pictures)
        if classifier:
            _, classes = features_and_classes(classifier, to_uint8(pictures))
            fits = classes == NAMES[trained.settings.data].index(options.kind)
        ranked += [(-float(score[i]), seen + int(i)) for i in np.flatnonzero(fits)]
        seen += len(pictures)
    kept = [index for _, index in sorted(ranked)[:wanted]]
    if not kept:
        what = f"the classifier recognises none of {plural(seen, 'picture')} as {options.kind!r}"
        raise UsageError(f"{what}. Use another --seed, or train the generator for longer.")
    by = (classifier and f"the classifier ({options.kind})", options.best and "D's score")
    found = f"{len(kept):,} of {plural(seen, 'picture')}" + f" ({wanted:,} wanted)" * (len(kept) < wanted)
    but = f"the generator itself cannot be asked for {'a class' if classifier else 'better ones'}"
    progress.around(say, f"{found}, chosen by {' and '.join(filter(None, by))}: {but}")
    return noise[kept]


def search(options: Namespace, trained: Trained, seed: int, progress: Progress) -> np.ndarray:
    """The noise (1, noise_dim) of a picture like ``--like``, which `options.given` gets at G's size."""
    settings = trained.settings
    options.given = fit_all(options.like[1], Shape(settings.size, settings.channels, settings.resize))
    progress.show("searching for the noise", now=True)
    ends = np.concatenate([trained.like(options.given, seed, steps=0), trained.like(options.given, seed)])
    apart = to_uint8(pictures_of(trained.G, ends)) - options.given.astype(float)
    before, after = np.sqrt((apart**2).mean(axis=(1, 2, 3)))
    found = f"{after:.0f} of 255 (root mean square over the pixels), down from {before:.0f}"
    progress.around(say, f"the picture found differs from --like by {found}")
    return ends[1:]


def write_walks(options: Namespace, G: Network, noise: np.ndarray, path: Path, progress: Progress) -> str:
    """Film a walk, or a grid of walks, each a loop through its part of the `noise`; returns a description."""
    each = len(noise) // options.walks
    if each < 2:
        raise UsageError(f"{options.walks} walks need 2 pictures each; found {len(noise)}. Increase --num.")
    films: list[np.ndarray] = []  # (frames, H, W, C) of each
    for part in noise[: each * options.walks].reshape(options.walks, each, -1):
        ends = zip(part, np.roll(part, -1, axis=0), strict=True)  # the last one leads back to the first
        t = np.arange(options.interpolate, dtype=np.float32) / np.float32(options.interpolate)
        pictures = to_uint8(made(G, np.concatenate([great_circle(*both, t) for both in ends]), progress))
        if path.suffix.lower() == ".gif":  # 5 bits instead of 8 make a third of the size
            pictures = pictures & 0xF8 | pictures >> 5
        films.append(pictures)
    columns = options.grid[1] if options.grid else 1
    # Codecs work on 16x16 blocks: a scale that divides 16 keeps files small and edges sharp.
    scale = 1 << max(0, min(4, (700 // (columns * films[0].shape[2])).bit_length() - 1))
    frames = (grid(np.stack(page), columns, scale, gap=scale) for page in zip(*films, strict=True))
    progress.show("writing the film")
    write_animation(path, frames, [0.05] * len(films[0]))
    several = f"{plural(options.walks, 'walk')}, each through " if options.grid else ""
    return f"{several}{each} noise vectors, {options.interpolate} frames between neighbours"


def write_through_training(trained: Trained, noise: np.ndarray, path: Path, progress: Progress) -> list[str]:
    """Write panels of `noise`, untrained and at intact checkpoints up to `trained`; return their titles."""
    files = RunFolder(trained.run_folder).checkpoints()  # newest first
    until = [*dropwhile(lambda file: file.name != trained.path.name, files)]
    if not until:
        what = f"{trained.path} is neither the latest nor a numbered checkpoint of a run"
        raise CheckpointError(f"{what}: name the run, not best.npz or a copy.")
    shown: dict[str, np.ndarray] = {}
    if not trained.settings.start_from:
        shown["before training"] = pictures_of(State(trained.settings, trained.D.backend).shown_G, noise)
    for number, file in enumerate(reversed(until), start=1):
        progress.show("reading checkpoints", f"{number} of {len(until)}")
        try:
            state, _ = restored([file], trained.D.backend, cli.warn)
            shown[title(state.name)] = pictures_of(state.shown_G, noise)  # latest.npz may repeat one
        except CheckpointError as problem:
            cli.warn(f"warning: {problem}")
    save_png(path, panels(np.stack(list(shown.values())), list(shown)))
    return list(shown)


if __name__ == "__main__":
    sys.exit(cli.run(main))
