"""``python -m tinygan.train``: train the DCGAN and leave pictures, checkpoints and an animation."""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, redirect_stdout, suppress
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import imageio
import numpy as np
import PIL

import tinygan
from tinygan import backend, cli, data, machine
from tinygan.arrays import Backend
from tinygan.data import Dataset
from tinygan.data.sources import NAMES
from tinygan.errors import CheckpointError, DataError, DeviceError, TinyganError
from tinygan.evaluation.evaluation import Evaluation, unmeasurable
from tinygan.ranks.alone import Ranks
from tinygan.ranks.mpi import started
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder
from tinygan.runs.loop import train
from tinygan.runs.progress import Progress, duration
from tinygan.runs.settings import RECIPES, Settings, new_settings, resumed_settings
from tinygan.runs.state import State, saved_settings
from tinygan.runs.trainer import StepByStep, measure_step_seconds, schedule, trainer, unsuited
from tinygan.views.summary import summary


def parser() -> cli.Parser:
    """Options that were not given are absent from the result: defaults and recipes come later."""
    parser = cli.Parser("tinygan.train", "Train the DCGAN on small pictures.")
    main, advanced = parser, parser.add_argument_group("advanced")
    absent: dict[str, Any] = {"default": argparse.SUPPRESS}

    main.add_argument("--device", choices=backend.DEVICES, help="default: auto, the GPU if usable", **absent)
    main.add_argument(
        "--data",
        metavar="NAME|PATH",
        help="auto (default: Fashion-MNIST, or the built-in strokes where it can't be had), fashion-mnist, "
        "mnist, strokes, a folder of PNG and JPEG pictures, or an .npy/.npz file",
        **absent,
    )
    main.add_argument("--data-dir", metavar="DIR", help="where fashion-mnist/ or mnist/ lies", **absent)
    main.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="seed (default): the tutorial's settings, batch 256, Adam 1e-4, beta1 0.9; "
        "quick: batch 64, Adam 2e-4, beta1 0.5, clear pictures after 3 epochs; "
        "best: batch 64, Adam 8e-4 (D 4e-4, or it runs away), beta1 0 (no momentum), beta2 0.99 (a short "
        "memory), pictures by averaged weights (0.999): the best ones in the same time",
        **absent,
    )
    main.add_argument("--epochs", type=int, help="default: 100", **absent)
    main.add_argument("--batch-size", type=int, help="default: the recipe's", **absent)
    main.add_argument(
        "--lr", type=float, help="Adam's step size (see --lr-d); default: the recipe's", **absent
    )
    main.add_argument("--seed", type=int, help="of all random numbers; default: 0", **absent)
    main.add_argument("--out", type=Path, default=Path("runs"), help="folder of the runs; default: runs")
    main.add_argument(
        "--resume",
        nargs="?",
        const="",
        metavar="RUN|FILE",
        help="go on with a run (bare: the newest) or from one of its checkpoint files",
    )
    main.add_argument("-n", "--dry-run", action="store_true", help="check everything, train nothing")

    advanced.add_argument("--limit", type=int, metavar="N", help="use the first N images", **absent)
    advanced.add_argument("--steps", type=int, metavar="N", help="stop after N steps in all", **absent)
    advanced.add_argument("--size", type=int, help="side of the pictures, default: 28", **absent)
    advanced.add_argument("--channels", type=int, help="1 grey (default) or 3 colour", **absent)
    advanced.add_argument("--width", type=int, help="channels at half size; default: 64", **absent)
    advanced.add_argument("--noise-dim", type=int, help="numbers behind a picture; default: 100", **absent)
    advanced.add_argument("--lr-d", type=float, help="D's own step size; default: the recipe's", **absent)
    advanced.add_argument("--beta1", type=float, help="Adam's memory; default: the recipe's", **absent)
    advanced.add_argument("--beta2", type=float, help="... of squares; default: the recipe's", **absent)
    advanced.add_argument(
        "--average",
        type=float,
        metavar="DECAY",
        help="paint with weights averaged over the steps, which forget at this rate (such as 0.999); "
        "0: with the last ones; default: the recipe's",
        **absent,
    )
    advanced.add_argument("--engine", choices=backend.ENGINES, help="default: auto", **absent)
    advanced.add_argument(
        "--precision",
        choices=backend.PRECISIONS,
        help="of matrix products on a GPU: tf32 rounds their factors to 10 bits and is faster, float32 "
        "does not. auto (default): tf32 where the card and the engine have it; config.json says which",
        **absent,
    )
    advanced.add_argument("--threads", type=int, metavar="N", help="default: all usable cores", **absent)
    advanced.add_argument("--sample-every", type=int, metavar="EPOCHS", help="default: 1", **absent)
    advanced.add_argument("--checkpoint-every", type=int, metavar="EPOCHS", help="default: 20", **absent)
    advanced.add_argument(
        "--metrics-every",
        type=int,
        metavar="EPOCHS",
        help="evaluate (see tinygan.evaluate) so often",
        **absent,
    )
    advanced.add_argument("--no-gif", action="store_true", help="make no animation", **absent)
    advanced.add_argument("--no-report", action="store_true", help="write no report.html", **absent)
    advanced.add_argument("--quiet", action="store_true", help="print errors only")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Train as `arguments` say; returns the exit code."""
    ranks = started()
    with ranks.together(), ExitStack() as held:
        if not ranks.writes:
            held.enter_context(redirect_stdout(held.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        return _main(arguments, held, ranks)


def _main(arguments: Sequence[str], held: ExitStack, ranks: Ranks) -> int:
    """`held` keeps the run's lock until the end; of several `ranks` the first alone speaks and writes."""
    given = vars(parser().parse_args(arguments))
    out, resume, dry_run, quiet = (given.pop(name) for name in ("out", "resume", "dry_run", "quiet"))
    told: list[str] = []  # before there is a log to write to

    def say(line: str) -> None:
        told.append(line)
        if not quiet:
            print(line, flush=True)

    def caution(line: str) -> None:
        told.append(line)
        if ranks.writes:
            cli.warn(line)

    run = arrays = meta = file = None
    if "data" in given and given["data"] not in NAMES and os.path.exists(given["data"]):
        given["data"] = os.path.abspath(given["data"])  # a run may be resumed from elsewhere
    if resume is None:
        settings = new_settings(given)
    else:

        def found() -> tuple[RunFolder, Path, dict[str, np.ndarray], dict[str, Any]]:
            run, file = RunFolder.find(resume or None, out)
            if not dry_run:
                held.enter_context(run.locked())
                run.sweep()
            return run, *checkpoint.newest_intact([file] if file else run.checkpoints(), caution)

        run, file, arrays, meta = ranks.by_first(found)
        if given.get("data") == "auto":  # whatever was found then
            del given["data"]
        settings = resumed_settings(asdict(saved_settings(meta, file, arrays)), given, str(run.path))

    machine.keep_memory()
    how = {"precision": settings.precision, "number": ranks.number_here}
    device = backend.choose(settings.device, settings.engine, say, **how)
    if settings.engine == "auto" and (why := unsuited(settings, device)):
        say(f"engine   readable: {why}")
        device = backend.choose("gpu", "readable", say, **how)
    computes = f"on the {device.device} in {device.precision}"
    if others := ranks.others(computes):
        raise DeviceError(
            f"rank 0 computes {ranks.from_first(computes)}, and {', '.join(others)} not so. Use --device cpu."
        )
    device = backend.shared_by(device, ranks)
    ranks = device.ranks
    threads = settings.threads or ranks.threads(machine.usable_cores())
    if not backend.use_threads(threads) and settings.threads:
        caution("warning: this NumPy's BLAS cannot be told how many threads to use; --threads has no effect.")
    with ranks.first_alone():  # what it downloads, the others find
        images = data.load(
            settings.data,
            data_dir=Path(settings.data_dir) if settings.data_dir else None,
            size=settings.size,
            channels=settings.channels,
            limit=settings.limit,
            say=say,
        )
    if others := ranks.others(images.fingerprint):
        raise DataError(
            f"{', '.join(others)}: {images.source} holds other images than rank 0 has. "
            "Give every host the same data."
        )
    digest = ranks.from_first(images.sha256 if ranks.writes else "")  # one reads all of them for it
    if settings.data == "auto":  # a run that resumes must not choose again
        settings = replace(settings, data=images.name)
    steps_per_epoch, total_steps = schedule(settings, len(images.images), ranks.size)

    def failures() -> AbstractContextManager[None]:
        return device.failures(settings.batch_size, lambda: run and next(iter(run.checkpoints()), None))

    with failures():
        state = State(settings, device)
    if run and file and arrays and meta:
        if meta.get("data_sha256") != digest:
            raise CheckpointError(f"{run.path} was trained on other images than {images.source} holds now.")
        state.restore(arrays, file)

    with failures():  # on a card a trainer takes its memory, before there is a folder
        taking = (StepByStep if dry_run else trainer)(state, images, settings, device)
    N, H, W, C = images.images.shape
    card = device.card()
    where = f"{card['card']}, {device.precision}" if card else f"{threads} threads"
    facts = [*images.notes]
    if settings.batch_size == 1:
        facts.append("note     --batch-size 1: batch normalisation of a single picture takes G's noise away")
    facts += [
        f"data     {images.name}: {N:,} images {H}x{W}x{C} ({images.source})",
        f"device   {device.device}, {versions(device)}, engine {device.engine}, {where}",
        f"step     {taking.how}",
        *([ranks.words] if ranks.size > 1 else []),
        f"recipe   {settings.recipe}: {settings.epochs} epochs of {steps_per_epoch} steps, batch "
        f"{settings.batch_size}, Adam lr {settings.lr:g} "
        + (f"(D {settings.lr_d:g}) " if settings.lr_d else "")
        + f"beta1 {settings.beta1:g} beta2 {settings.beta2:g}, "
        + (f"averaged with {settings.average:g}, " if settings.average else "")
        + f"seed {settings.seed}",
    ]
    if dry_run:
        if run is None and ranks.writes:
            RunFolder.try_out(out)
        plans = taking.one.plans() if isinstance(taking, StepByStep) else []
        facts = [*(f"conv     {plan}" for plan in plans), *facts]
        with failures():
            step_seconds = measure_step_seconds(settings, images, device)
        steps = max(0, total_steps - state.step)
        left = duration(step_seconds * steps)
        for line in [*summary(state.G), "", *summary(state.D), "", *facts]:
            say(line)
        say(f"time     about {left}: {steps:,} steps of {step_seconds:.3g} s (measured)")
        return 0

    evaluation = None
    if settings.metrics_every and ranks.writes:
        if why := unmeasurable():
            caution(f"warning: --metrics-every is left out. {why}")
        else:
            evaluation = Evaluation(settings, say=say)
    config = {}
    if ranks.writes:
        config = configuration(arguments, settings, device, images, threads, taking.how)

    def opened() -> RunFolder:
        """The run's folder, made or prepared for going on."""
        if run is None:
            new = RunFolder.create(out, images.name)
            held.enter_context(new.locked())
            new.write_config(config)
            return new
        before = run.read_config()
        if not all(isinstance(before.get(group, {}), dict) for group in ("device", "versions")):
            raise CheckpointError(f"{run.config_path} is damaged: no configuration. Name another run.")
        run.keep_stats_until(state.step)
        for path in run.checkpoints():  # newer ones, to which the next --resume would jump
            if file and path.name == file.name:
                break
            path.replace(path.with_name(path.name + ".old"))
        for line in differences(before, config):
            caution(line)
        config["commands"] = [*(before.get("commands") or []), *config["commands"]]
        run.write_config(config)
        return run

    run = ranks.by_first(opened)

    progress = Progress(sys.stdout, total_steps, state.step, quiet)

    def log(*lines: str) -> None:
        if ranks.writes:
            run.log(*lines)
        for line in () if quiet else lines:
            progress.line(line)

    if ranks.writes and told:
        run.log(*told)
    if state.step:
        facts.append(f"resume   {file} at step {state.step:,} of {total_steps:,}")
        if state.step >= total_steps:
            facts.append("         That is complete: use a larger --epochs or --steps to go on.")
    log(f"run      {run.path}", *facts)

    def remedy() -> str:
        newest = next(iter(run.checkpoints()), None)
        return f"Last checkpoint: {newest}." if newest else ""

    try:
        with ranks.together(remedy):  # outside of what notes a failure, for it may end this process
            try:
                with failures():
                    train(run, state, images, settings, taking, progress, log, evaluation)
            except TinyganError as problem:
                with suppress(TinyganError):  # a full disk may be the problem
                    if ranks.writes:
                        run.log(f"{problem.mark}{problem}")
                raise
    finally:
        progress.close()
        taking.close()
    log(f"done     {state.step:,} steps. Pictures: {run.samples_dir}, checkpoints: {run.checkpoints_dir}")
    if not settings.no_gif:
        log(f"         The training as a film: {run.gif_path}")
    if not settings.no_report and run.report_path.is_file():
        log(f"         The report, to open in a browser: {run.report_path}")
    log(f"         More pictures: python -m tinygan.sample {run.path}")
    if state.step < settings.epochs * steps_per_epoch:
        log(f"         Go on with: {run.resume_command}")
    return 0


def versions(device: Backend) -> str:
    """The array library and its version."""
    return f"{'NumPy' if device.device == 'cpu' else 'CuPy'} {device.xp.__version__}"


def configuration(
    arguments: Sequence[str], settings: Settings, device: Backend, images: Dataset, threads: int, how: str
) -> dict[str, Any]:
    """What ``config.json`` holds. A resumed run has several commands; the rest is of the latest."""
    blas: Any = np.show_config(mode="dicts")
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {
        "commands": [{"time": now, "command": shlex.join(["python", "-m", "tinygan.train", *arguments])}],
        "settings": asdict(settings),
        "data": {
            "name": images.name,
            "source": images.source,
            "shape": list(images.images.shape),
            "sha256": images.sha256,
        },
        "device": {
            "device": device.device,
            "engine": device.engine,
            "step": how.partition(":")[0],
            "changed": backend.changed(),
            "precision": device.precision,
            "threads": threads,
            "ranks": device.ranks.size,
            "processor": machine.processor_name(),
            **device.card(),
        },
        "versions": {
            "tinygan": tinygan.__version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            **({"cupy": device.xp.__version__} if device.device == "gpu" else {}),
            "blas": "{name} {version}".format(**blas["Build Dependencies"]["blas"]),
            "pillow": PIL.__version__,
            "imageio": imageio.__version__,
            "platform": platform.platform(),
        },
    }


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Warnings for what makes a resumed run differ from an uninterrupted one in its last bits."""
    lines = []
    for group, name in (
        ("device", "device"), ("device", "engine"), ("device", "precision"), ("device", "threads"),
        ("device", "ranks"), ("device", "step"), ("device", "changed"), ("device", "processor"),
        ("device", "card"), ("device", "CUDA libraries"), ("versions", "tinygan"), ("versions", "numpy"),
        ("versions", "blas"), ("versions", "cupy"),
    ):  # fmt: skip
        usual = {"ranks": 1, "changed": []}
        old, new = ({**usual, **config.get(group, {})}.get(name) for config in (before, now))
        if old != new and (name, old) != ("step", None):  # which older versions did not write down
            lines.append(f"warning: {name} was {old} and is {new}: the run goes on, but not bit for bit.")
    return lines


if __name__ == "__main__":
    sys.exit(cli.run(main))
