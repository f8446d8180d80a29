"""``python -m benchmarks.truncation``: evaluates a run's pictures with its noise scaled down (truncation)."""

import sys
from collections.abc import Sequence
from pathlib import Path

import tinygan
from benchmarks import report
from benchmarks.competitors import hardware
from tinygan import cli
from tinygan.evaluation.evaluation import SAMPLES, Evaluation
from tinygan.views.pictures import to_uint8

FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.truncation", "Evaluate a run with its noise scaled down.")
    parser.add_argument("run", nargs="?", metavar="RUN|FILE", help="(default: the newest run)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the result to FILE")
    return parser


def main(arguments: Sequence[str]) -> int:
    options = parser().parse_args(arguments)
    model = tinygan.load(options.run, options.runs)
    evaluation = Evaluation(model.settings)
    noise, measured = model.noise(SAMPLES, evaluation.seed), []
    print(f"{model.path}, {SAMPLES:,} pictures of seed {evaluation.seed}")
    print(f"{'factor':>6}{'FCD':>8}{'precision':>11}{'recall':>8}{'coverage':>10}")
    for factor in FACTORS:
        pictures = to_uint8(model.generate(noise=factor * noise))
        found = evaluation.compare(pictures).figures
        measured.append({"factor": factor} | {name: round(number, 4) for name, number in found.items()})
        line = "{fcd:>8.2f}{precision:>11.2f}{recall:>8.2f}{coverage:>10.2f}".format(**found)
        print(f"{factor:>6.1f}{line}", flush=True)
    if options.json:
        facts = {"model": model.run_folder.name, "recipe": model.settings.recipe, "checkpoint": model.name}
        command = " ".join(["python", "-m", "benchmarks.truncation", *arguments])
        report.write_json(
            options.json, {"command": command, "hardware": hardware(), **facts, "measured": measured}
        )
    return 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
