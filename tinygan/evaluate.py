"""``python -m tinygan.evaluate``: how good a generator is, in numbers, beside real images and noise."""

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import backend, cli
from tinygan.errors import Printer, UsageError, by_product, filled, say
from tinygan.evaluation.classifier import NAMES
from tinygan.evaluation.evaluation import SAMPLES, Compared, Evaluation
from tinygan.evaluation.neighbours import K, memorised, nearest
from tinygan.files import write_atomically
from tinygan.runs.progress import working
from tinygan.trained import load
from tinygan.views.pictures import grid, save_png

SHOWN = 16  # samples whose nearest training images are shown
LEAST = 100  # fewer pictures say nothing about a distribution


def parser() -> cli.Parser:
    shared = *cli.OF_A_RUN, "--device", "--data-dir", "--seed", "--out"
    parser = cli.Parser("tinygan.evaluate", "Measure how good a run's pictures are.", *shared)
    samples = f"pictures to measure; default: {SAMPLES}"
    parser.add_argument("--samples", type=int, default=SAMPLES, metavar="N", help=samples)
    figures = "write all figures there as well; -: print them, and nothing else"
    parser.add_argument("--json", type=filled, metavar="FILE", help=figures)
    return parser


def main(arguments: cli.Arguments = ()) -> int:
    options = parser().parse(arguments)
    if options.samples < LEAST:
        raise UsageError(f"--samples {options.samples} is less than {LEAST}: too few to say anything.")
    cli.ending(options.out, ".png")  # refused now, not after a minute
    alone, file = options.json == "-", Path(options.json or "-")
    if not file.absolute().parent.is_dir():  # found now, not after a minute
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
    """Generate, measure, `say` what was found, and show the nearest training images; returns the figures."""
    with working() as progress:
        progress.show("loading the model and the images")
        trained = load(options.run, options.runs, device, say=cli.warn)
        beside = partial(progress.around, say)
        evaluation = Evaluation(trained.settings, options.data_dir, beside, options.samples, options.seed)
        n, seed = options.samples, evaluation.seed
        train = evaluation.load(say=beside).images
        progress.show(f"making {n:,} pictures", "1 of 5", now=True)
        pictures = evaluation.pictures(trained.G)
        rows, compared = {"generator": pictures, **evaluation.others(train)}, {}
        for number, (name, images) in enumerate(rows.items(), start=2):
            progress.show(f"test images against {name}", f"{number} of 5", now=True)
            compared[name] = evaluation.compare(images)
        progress.show("looking for neighbours", "5 of 5", now=True)
        index, apart = nearest(pictures[:SHOWN], train)
        _, usual = nearest(evaluation.test[:SHOWN], train)
    names = NAMES[trained.settings.data]
    say(f"model     {trained.path}, {n:,} pictures of seed {seed}, against {n:,} test images")
    for line in table(compared):
        say(line)
    found = zip(names, compared["generator"].classes, evaluation.classes, strict=True)
    shares = [f"{name} {share:.0%} ({wanted:.0%})" for name, share, wanted in found]
    say(f"classes   {', '.join(shares[:5])},")
    say(f"          {', '.join(shares[5:])}")
    far = f"{apart.mean():.0f} of 255 (root mean square of the pixels), test images by {usual.mean():.0f}"
    verdict = "memorised?" if memorised(apart, usual) else "not memorised"
    say(f"nearest   {SHOWN} of them differ from the nearest training image by {far}: {verdict}")
    with by_product("picture of the nearest images", cli.warn):
        path = cli.placed(options.out, trained.run_folder, f"nearest_{trained.name}_seed_{seed}.png")
        rows_of_8 = [part.reshape(-1, 8, *part.shape[1:]) for part in (pictures[:SHOWN], train[index])]
        save_png(path, grid(np.stack(rows_of_8, axis=1).reshape(-1, *train.shape[1:]), columns=8))
        say(f"          each beside that image: {path}")
    return {
        "model": str(trained.path), "data": trained.settings.data, "samples": n, "seed": seed,
        "judged": {name: one.figures for name, one in compared.items()},
        "classes": dict(zip(names, compared["generator"].classes.tolist(), strict=True)),
        "test_classes": dict(zip(names, evaluation.classes.tolist(), strict=True)),
        "nearest": {"training_images": index.tolist(), "rms": apart.tolist(), "test_rms": usual.tolist()},
    }  # fmt: skip


def table(compared: dict[str, Compared]) -> list[str]:
    """A line for the generator, and for what it is to be compared with."""
    meaning = {"real images": "the floor: training images; no generator need beat it", "noise": "the ceiling"}
    lines = [f"          {'':<13}{'FCD':>16}{'precision':>11}{'recall':>8}{'coverage':>10}"]
    for name, (found, _) in compared.items():
        fcd = f"{found['fcd']:.2f} +- {found['error']:.2f}"
        shares = f"{found['precision']:>11.2f}{found['recall']:>8.2f}{found['coverage']:>10.2f}"
        lines.append(f"          {name:<13}{fcd:>16}{shares}   {meaning.get(name, '')}".rstrip())
    return [
        *lines,
        "FCD       a Fréchet distance in the features of tinygan's classifier, smaller is better. No FID:",
        "          to be compared only with the FCD of as many pictures of the same set",
        f"precision are they good?  recall, coverage: is everything there?  By {K} nearest neighbours, so",
        "          that one odd real image, far from all others, can lend noise a high precision",
    ]


if __name__ == "__main__":
    sys.exit(cli.run(main))
