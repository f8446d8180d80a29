"""``python -m tinygan.evaluate``: measures how good a generator is, compared with real images and noise."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import backend, cli
from tinygan.errors import Printer, UsageError, by_product, filled, say
from tinygan.evaluation.classifier import NAMES, THINGS
from tinygan.evaluation.evaluation import SAMPLES, Compared, Evaluation
from tinygan.evaluation.neighbours import EACH, K, good_typical_bad, memorised, nearest
from tinygan.files import write_atomically
from tinygan.runs.progress import working
from tinygan.trained import load
from tinygan.views.pictures import captioned, grid, save_png

RANKED = 1000  # pictures to choose good, typical and bad ones from: in more, the bad ones are outliers
LEAST = 100  # pictures: fewer say nothing about a distribution
RARE = 0.7  # times its share of the test images: below, a class is rare
MEANING = (
    "FCD       Fréchet distance in the features of tinygan's classifier, lower is better. It is not FID:",
    "          compare it only with the FCD of the same number of pictures of the same data set",
    f"precision are the pictures good?  recall, coverage: is every kind there?  By {K} nearest neighbours,",
    "          so a single outlier among the real images can give noise a high precision",
)


def parser() -> cli.Parser:
    shared = "run", "--runs", "--device", "--data-dir", "--seed", "--out"
    examples = {"": "the newest run", "2 --json figures.json": "run 2, also as JSON"}
    parser = cli.Parser("tinygan.evaluate", "Measure how good a run's pictures are.", *shared, **examples)
    samples = f"pictures to measure (default: {SAMPLES})"
    parser.add_argument("--samples", type=int, default=SAMPLES, metavar="N", help=samples)
    figures = "also write all figures to FILE; -: print them and nothing else"
    parser.add_argument("--json", type=filled, metavar="FILE", help=figures)
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    options = parser().parse(arguments)
    if options.samples < LEAST:
        raise UsageError(f"--samples {options.samples} is too few to measure. Use {LEAST} or more.")
    cli.ending(options.out, ".png")  # fails now, not after a minute
    alone, file = options.json == "-", Path(options.json or "-")
    if not file.absolute().parent.is_dir():  # fails now, not after a minute
        raise UsageError(f"--json {file}: there is no folder {file.parent}. Make it first.")
    if file.is_dir() and not alone:
        raise UsageError(f"--json {file} is a folder. Name a file in it.")
    with cli.computing(options.device) as device:
        figures = evaluate(options, device, cli.warn if alone else say)
    text = json.dumps(figures, indent=2)
    if alone:
        print(text)
    elif options.json:
        write_atomically(file, f"{text}\n".encode())
        say(f"figures   {file}")
    return 0


def evaluate(options: argparse.Namespace, device: backend.Backend, say: Printer) -> dict[str, Any]:
    """Measure new pictures, `say` the result, save a page of good and bad ones, and return the figures."""
    with working() as progress:
        progress.show("loading the model and the images")
        trained = load(options.run, options.runs, device, say=cli.warn)
        note = partial(progress.around, say)
        evaluation = Evaluation(trained.settings, options.data_dir, note, options.samples, options.seed)
        n, seed = options.samples, evaluation.seed
        train = evaluation.load(say=note).images
        progress.show(f"making {n:,} pictures", "1 of 6", now=True)
        pictures = evaluation.pictures(trained.G)
        others, compared = evaluation.others(train), {}
        for number, (name, images) in enumerate({"generator": pictures, **others}.items(), start=2):
            progress.show(f"comparing {name} with test images", f"{number} of 6", now=True)
            compared[name] = evaluation.compare(images)
        progress.show("shrinking real images", "5 of 6", now=True)
        how, side = evaluation.side_as_far(compared["generator"].figures["fcd"], others["real images"])
        progress.show("finding the nearest training images", "6 of 6", now=True)
        chosen = good_typical_bad(evaluation.realism(pictures[:RANKED]))
        three = pictures[chosen], pictures[: len(chosen)], evaluation.test[: len(chosen)]
        indices, distances = nearest(np.concatenate(three), train)
        index, (_, apart, usual) = indices[: len(chosen)], np.split(distances, 3)
    names, things = NAMES[trained.settings.data], THINGS[trained.settings.data]
    say(f"model     {trained.path}, {n:,} pictures from seed {seed}, compared with {n:,} test images")
    found = [*zip(names, compared["generator"].classes, evaluation.classes, strict=True)]
    for line in [*table(compared), in_short(things, how, side), *MEANING, *about_classes(found)]:
        say(line)
    far = f"{apart.mean():.0f} of 255 (root mean square over pixels), test images by {usual.mean():.0f}"
    verdict = "memorised?" if memorised(apart, usual) else "not memorised"
    say(f"nearest   the first {len(apart)} differ from their nearest training images by {far}: {verdict}")
    with by_product("picture of good and bad samples", cli.warn):
        path = cli.placed(options.out, trained.run_folder, f"evaluated_{trained.name}_seed_{seed}.png")
        save_png(path, good_and_bad(pictures[chosen], train[index]))
        few = f"of the first {min(RANKED, n):,}, each above its nearest training image"
        say(f"pictures  {path}: {EACH} good, {EACH} typical and {EACH} bad ones {few}")
        say("          good: well inside the real images' neighbourhoods, in the classifier's features")
    return {
        "model": str(trained.path), "data": trained.settings.data, "samples": n, "seed": seed,
        "measured": {name: one.figures for name, one in compared.items()},
        "classes": dict(zip(names, compared["generator"].classes.tolist(), strict=True)),
        "test_classes": dict(zip(names, evaluation.classes.tolist(), strict=True)),
        "shrunk_as_far": [how, side],
        "shown": {"pictures": chosen.tolist(), "training_images": index.tolist()},
        "nearest": {"rms": apart.tolist(), "test_rms": usual.tolist()},
    }  # fmt: skip


def good_and_bad(pictures: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Good, typical and bad `pictures` (24, H, W, C) uint8, each above one of the `images`, on one page."""
    rows = np.stack([part.reshape(3, EACH, *part.shape[1:]) for part in (pictures, images)], axis=1)
    kinds = zip(("good", "typical", "bad"), rows.reshape(3, 2 * EACH, *pictures.shape[1:]), strict=True)
    below = "below each: the nearest training image"
    return np.concatenate([captioned(grid(part, columns=EACH), f"{kind}; {below}") for kind, part in kinds])


def in_short(things: str, how: str, side: int) -> str:
    """The meaning of the distance in words, from the answer of `Evaluation.side_as_far`."""
    far = {"about": "about as far from", "nearer": "nearer to", "farther": "farther from"}[how]
    shrunk = f"real {things} shrunk to {side}x{side} pixels and enlarged again"
    return f"in short  the pictures are {far} real {things} {'as' if how == 'about' else 'than'} {shrunk}"


def about_classes(found: list[tuple[str, float, float]]) -> list[str]:
    """Lines from each class's name, its share of the pictures and of the test images; then the rare ones."""
    shares = [f"{name} {share:.0%} ({wanted:.0%})" for name, share, wanted in found]
    rare = [f"{name} {share:.1%} ({wanted:.1%})" for name, share, wanted in found if share < RARE * wanted]
    few = f"{', '.join(rare)}: less than" if rare else "none: all have at least"
    kinds = f"classes   {', '.join(shares[:5])},", f"          {', '.join(shares[5:])}"
    return [*kinds, f"rare      {few} {RARE:.0%} of the share among test images (in brackets)"]


def table(compared: dict[str, Compared]) -> list[str]:
    """A line for the generator, and one for each of the others in `compared`."""
    meaning = {"real images": "the floor: training images; no generator need beat it", "noise": "the ceiling"}
    lines = [f"          {'':<13}{'FCD':>16}{'precision':>11}{'recall':>8}{'coverage':>10}"]
    for name, (found, _) in compared.items():
        fcd = f"{found['fcd']:.2f} +- {found['error']:.2f}"
        shares = f"{found['precision']:>11.2f}{found['recall']:>8.2f}{found['coverage']:>10.2f}"
        lines.append(f"          {name:<13}{fcd:>16}{shares}   {meaning.get(name, '')}".rstrip())
    return lines


if __name__ == "__main__":
    sys.exit(cli.run(main))
