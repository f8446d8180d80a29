"""The settings of a run, each described once: help, bounds, and whether a resumed run may change it."""

from __future__ import annotations

from argparse import SUPPRESS, ArgumentParser
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from math import inf
from typing import Any

from tinygan.arrays import DEVICES, ENGINES, PRECISIONS
from tinygan.data.dataset import WAYS
from tinygan.errors import CheckpointError, UsageError, filled
from tinygan.models import check_sizes

RECIPES: dict[str, dict[str, Any]] = {
    # Exactly the tutorial's settings.
    "seed": {"batch_size": 256, "lr": 1e-4, "beta1": 0.9},
    # The same networks, but more and larger steps and less momentum, as in the DCGAN paper (section 4).
    "quick": {"batch_size": 64, "lr": 2e-4, "beta1": 0.5},
    # Tuned by `benchmarks.recipes`. Without momentum, and with D's learning rate half of G's, much larger
    # learning rates are stable. A penalty calms D instead of dropout. Averaging the weights smooths out the
    # noise of their steps.
    "best": {
        "batch_size": 32, "lr": 8e-4, "lr_d": 4e-4, "beta1": 0.0, "beta2": 0.99, "average": 0.999,
        "penalty": 1.0, "dropout": 0.0,
    },
}  # fmt: skip

LARGEST = 1 << 31  # weights: 8.6 GB, not counting Adam's averages
SIZES = ("size", "channels", "width", "noise_dim")  # of the model
MOST = 1 << 53  # the largest integer allowed: up to here floats are exact
# The Python types that each word in a setting's type allows; the first parses its text. A bool is not an int.
KINDS = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "None": (type(None),)}

Check = Callable[[Any], str]  # the end of a sentence that says what is wrong with a value, or ""


def at_least(least: int, most: float = inf) -> Check:
    over = f"is more than {most}"
    return lambda value: f"is less than {least}" if value < least else over if value > most else ""


def positive(value: float) -> str:
    return "" if 0 < value < inf else "is not a positive number"


def below_one(value: float) -> str:
    return "" if 0 <= value < 1 else "is not in [0, 1)"


def setting(
    default: Any, help: str, check: Check | None = None, *, resumed: str = "may change", added: bool = False,
    **option: Any,
) -> Any:  # fmt: skip
    """A setting and its `option`, argparse's arguments. `resumed`: whether a resumed run can change it.
    ``"fixed"``: no, because it decides the run's numbers (as do the data, in any folder: the checkpoint has
    their digest). ``"named"``: only by ``--change``. ``"forgets"``: it is the default unless the command
    sets it. `added`: older checkpoints lack it; they use the default."""
    facts = {"check": check, "resumed": resumed, "added": added}
    return field(default=default, metadata={**facts, "option": {"help": help, **option}})


def side(text: str) -> int:
    """The side of square pictures, parsed from `text`. Raises: UsageError if it is not a whole number."""
    if not text.strip().lstrip("+-").isdecimal():
        raise UsageError(f"--size {text!r:.40} is not a whole number. Give one number: pictures are square.")
    return int(text)


def device(text: str) -> str:
    """The name of a device, parsed from `text`: ``cuda`` means ``gpu``."""
    return {"cuda": "gpu"}.get(text, text)


@dataclass(frozen=True)
class Settings:
    """All settings of ``python -m tinygan.train``; `None` means: decided when the run starts."""

    device: str = setting("auto", "auto (a GPU if usable), cpu or gpu", choices=DEVICES, type=device)
    data: str = setting(
        "auto", "auto (fashion-mnist, or strokes without a network), fashion-mnist, mnist, strokes; or a "
        "folder, zip, tar, .npy, .npz, IDX, .csv or CIFAR-10", metavar="NAME|PATH", type=filled,
    )  # fmt: skip
    data_dir: str | None = setting(
        None, "where fashion-mnist/ or mnist/ is (default: TINYGAN_DATA, else the cache)",
        metavar="DIR", type=filled,
    )  # fmt: skip
    recipe: str = setting("seed", "seed (the tutorial's), quick or best", choices=RECIPES, resumed="fixed")
    epochs: int = setting(100, "passes over the data", at_least(0))
    batch_size: int = setting(256, "images per step", at_least(1), resumed="fixed")
    lr: float = setting(1e-4, "Adam's learning rate", positive, resumed="named")
    seed: int = setting(0, "seed of all random numbers", at_least(0), resumed="fixed")
    limit: int | None = setting(None, "train on the first N images only", at_least(1), resumed="fixed")
    steps: int | None = setting(None, "stop after N steps in total", at_least(0), resumed="forgets")
    # `check_sizes` checks the model's sizes.
    size: int = setting(28, "side of the pictures in pixels", type=side, resumed="fixed")
    channels: int = setting(1, "1 for grey, 3 for colour", choices=(1, 3), resumed="fixed")
    resize: str = setting(
        "crop", "crop to the centre square, pad with black bars, or stretch",
        choices=tuple(WAYS), metavar="HOW", added=True, resumed="fixed",
    )  # fmt: skip
    flip: bool = setting(False, "also train on mirror images", added=True, resumed="fixed")
    width: int = setting(64, "channels of the layers at half the pictures' size", resumed="fixed")
    noise_dim: int = setting(100, "length of a noise vector", resumed="fixed")
    lr_d: float | None = setting(None, "D's learning rate", positive, added=True, resumed="named")
    beta1: float = setting(0.9, "decay rate of Adam's mean gradient", below_one, resumed="named")
    beta2: float = setting(0.999, "decay rate of Adam's mean square", below_one, added=True, resumed="named")
    average: float = setting(
        0.0, "generate with a moving average of G's weights, which decays at RATE; 0: with the latest ones",
        below_one, added=True, resumed="named",
    )  # fmt: skip
    penalty: float = setting(
        0.0, "weight of R1, a penalty on D's gradient at real images, which calms training",
        at_least(0), added=True, metavar="WEIGHT", resumed="named",
    )  # fmt: skip
    dropout: float = setting(0.3, "share of D's activations set to 0", below_one, added=True, resumed="named")
    start_from: str | None = setting(
        None, "start a new run with the weights and sizes of a run, a checkpoint or a .safetensors file",
        added=True, metavar="RUN|FILE", type=filled, resumed="fixed",
    )  # fmt: skip
    engine: str = setting("auto", "auto (fast), fast, or readable, the code in ops/", choices=ENGINES)
    precision: str = setting(
        "auto", "on a GPU: auto (tf32 if usable), float32, tf32 (matrix products round factors to 10 "
        "bits) or float16 (most of them also stored in 16 bits)", added=True, choices=PRECISIONS,
    )  # fmt: skip
    threads: int | None = setting(  # each needs its own memory
        None, "CPU threads (default: the usable cores, or fewer if OMP_NUM_THREADS or the BLAS says so)",
        at_least(1, 1024),
    )  # fmt: skip
    sample_every: int = setting(1, "save a picture every N epochs", at_least(1))
    sample_steps: int | None = setting(
        None, "in the first epoch, save a picture and latest.npz every N steps (default: after 10, 20, 40 "
        "... seconds)", at_least(1), added=True,
    )  # fmt: skip
    checkpoint_every: int = setting(20, "every N epochs, save a checkpoint next to latest.npz", at_least(1))
    save_minutes: float = setting(
        5.0, "in a long epoch, save latest.npz every N minutes", positive, added=True, metavar="N"
    )
    keep: int | None = setting(
        None, "keep the newest N checkpoints next to latest.npz (default: all)", at_least(1), added=True
    )
    metrics_every: int | None = setting(
        None, "every N epochs, measure as tinygan.evaluate does", at_least(1), added=True
    )
    keep_best: bool = setting(False, "keep best.npz, the best by FCD (needs --metrics-every)", added=True)
    no_gif: bool = setting(False, "do not write training.gif", resumed="forgets")
    no_report: bool = setting(False, "do not write report.html", added=True, resumed="forgets")

    @property
    def kernels(self) -> int:
        """A lower bound of how many numbers the kernels of both networks hold: almost the whole model."""
        return self.noise_dim * (self.size // 4) ** 2 * 4 * self.width + 25 * 12 * self.width**2

    def check(self) -> Settings:
        """These settings. Raises: UsageError for the first invalid value; TypeError for a wrong type."""
        for name, known in DESCRIBED.items():
            value = getattr(self, name)
            if not any(type(value) in KINDS[kind] for kind in str(known.type).split(" | ")):
                raise TypeError(f"{name} is {value!r:.40}, not {known.type}")
            if type(value) is int and value > MOST and name != "seed":
                raise UsageError(f"{option(name)} is more than {MOST:,}.")
            check, choices = known.metadata["check"], known.metadata["option"].get("choices")
            if choices and value not in choices:
                raise UsageError(f"{option(name)} {value!r:.40} is not among {', '.join(map(str, choices))}.")
            if check and value is not None and (problem := check(value)):
                raise UsageError(f"{option(name)} {value!r:.40} {problem}.")
        if self.keep_best and not self.metrics_every:
            raise UsageError("--keep-best compares checkpoints by FCD. Add --metrics-every EPOCHS.")
        check_sizes(self.size, width=self.width, noise_dim=self.noise_dim)
        if self.kernels > LARGEST:
            sizes = f"--size {self.size}, --width {self.width} and --noise-dim {self.noise_dim}"
            many = f"a model of {self.kernels:.1e} weights, more than {LARGEST:.1e}"
            raise UsageError(f"{sizes} make {many}. Use smaller values.")
        return self


METAVARS = {int: "N", float: "RATE", str: "NAME"}
GROUPS = {  # of options, as `--help` shows them; those from MORE on only as `--help-all` does
    "data": "data",
    "training": "recipe epochs batch_size lr seed device",
    "runs": "",
    "more about runs": "start_from",
    "more about the data": "data_dir limit size channels resize flip",
    "more about the training": "steps lr_d beta1 beta2 average penalty dropout width noise_dim",
    "more about speed": "engine precision threads",
    "more about what is saved": "sample_every sample_steps checkpoint_every save_minutes keep metrics_every "
    "keep_best no_gif no_report",
}
DESCRIBED: dict[str, Field[Any]] = {known.name: known for known in fields(Settings)}


def option(name: str) -> str:
    """The command-line spelling of a setting: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def add_options(parser: ArgumentParser) -> dict[str, Any]:
    """Add an option to `parser` for each setting. Options that are not given are absent from its result.
    Returns the argument groups by title, as in `GROUPS`."""
    groups = {}
    for title, names in GROUPS.items():
        groups[title] = parser.add_argument_group(title)
        for name in names.split():
            known = DESCRIBED[name]
            kind = KINDS[str(known.type).split()[0]][0]
            how = {"type": kind, "metavar": METAVARS[kind]} if kind in METAVARS else {"action": "store_true"}
            how |= known.metadata["option"]
            default = "the recipe's" if name in RECIPES["best"] else known.default
            if default is not None and kind is not bool:
                how["help"] += f" (default: {default})"
            groups[title].add_argument(option(name), default=SUPPRESS, **how)
    return groups


def new_settings(given: Mapping[str, Any], start: Settings | None = None) -> Settings:
    """The defaults, overridden by the recipe's values, then by the `given` ones. A run that starts from the
    weights of one with the settings `start` has its sizes. Raises: UsageError, also for other sizes."""
    values = {**RECIPES[given.get("recipe", Settings.recipe)], **given}
    for name in SIZES if start else ():
        if values.setdefault(name, getattr(start, name)) != getattr(start, name):
            has = f"{option(name)} {getattr(start, name)}, not {values[name]}"
            raise UsageError(f"--start-from {given['start_from']} has {has}. Leave it out.")
    return Settings(**values).check()


def resumed_settings(
    saved: Mapping[str, Any], given: Mapping[str, Any], run: str, changes: Mapping[str, Any] | None = None
) -> Settings:
    """The `saved` settings of a run, with those `given` to resume it and the `changes` by ``--change``;
    forgotten ones get their defaults. Raises: UsageError if a setting that decides the run's numbers would
    change without ``--change``, or can never change, or if the run would shrink; CheckpointError if `saved`
    are not this version's settings; TypeError if one has the wrong type."""
    added = {name: known.default for name, known in DESCRIBED.items() if known.metadata["added"]}
    saved, changes = {**added, **saved}, changes or {}
    if odd := ", ".join(sorted(saved.keys() ^ DESCRIBED.keys())):
        differ = f"the settings of {run} differ from this version's ({odd:.80})"
        raise CheckpointError(f"{differ}. Start a new run.")
    how = {name: known.metadata["resumed"] for name, known in DESCRIBED.items()}
    for name, value in given.items():
        if how[name] in ("fixed", "named") and value != saved[name]:
            was = f"{run} was trained with {option(name)} {saved[name]}, not {value}"
            ask = f"use --change {option(name)[2:]}={value}" * (how[name] == "named")
            raise UsageError(f"{was}. Leave it out, or {ask or 'start a new run'}.")
    can = [*(name for name in how if how[name] == "named"), "checkpoint_every"]
    for wrong in changes.keys() - {*can}:
        names = f"only {', '.join(option(name)[2:] for name in can)} can change"
        remedy = "Use --start-from in a new run" if how[wrong] == "fixed" else f"Use {option(wrong)} instead"
        raise UsageError(f"--change {option(wrong)[2:]}: {names}. {remedy}.")
    given = {**given, **changes}
    if given.get("epochs", saved["epochs"]) < saved["epochs"]:
        raise UsageError(f"{run} has --epochs {saved['epochs']}, which can only grow. Use that or more.")
    kept = {name: saved[name] for name in how if how[name] != "forgets"}
    return Settings(**{**kept, **given}).check()
