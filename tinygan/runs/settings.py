"""The settings of a run: what the command line may say, the recipes, and what a resumed run may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from tinygan.errors import CheckpointError, UsageError, printable
from tinygan.models import check_sizes

RECIPES: dict[str, dict[str, Any]] = {
    # The tutorial's settings to the letter.
    "seed": {"batch_size": 256, "lr": 1e-4, "beta1": 0.9},
    # Same networks; more and larger steps, and less momentum, as in the DCGAN paper (section 4).
    "quick": {"batch_size": 64, "lr": 2e-4, "beta1": 0.5},
    # Tuned by `benchmarks.recipes`. Without momentum, and with D's steps half as long as G's, much larger
    # ones are stable; the weights' average takes out what is restless about them.
    "best": {
        "batch_size": 64, "lr": 8e-4, "lr_d": 4e-4, "beta1": 0.0, "beta2": 0.99, "average": 0.999,
    },
}  # fmt: skip

# What decides the numbers of a run: a resumed run must keep it. (The data, too, wherever they lie: the
# checkpoint knows their digest.)
FIXED = (
    "limit", "recipe", "batch_size", "lr", "lr_d", "beta1", "beta2", "average", "seed", "size", "channels",
    "width", "noise_dim",
)  # fmt: skip

# What each command says for itself; a resumed run forgets it.
FORGOTTEN = ("steps", "no_gif", "no_report")

LARGEST = 1 << 31  # weights: 8.6 GB, without Adam's averages
MOST = 1 << 53  # of anything: up to here numbers are exact, as floats, too
MOST_THREADS = 1024  # each takes memory of its own

# What the words in a setting's type allow; a bool is an int elsewhere, but not here.
KINDS = {"int": (int,), "float": (float, int), "str": (str,), "bool": (bool,), "None": (type(None),)}

# Settings that older checkpoints do not have; their defaults say what was done then.
ADDED = {
    "precision": "auto",
    "no_report": False,
    "metrics_every": None,
    "lr_d": None,
    "beta2": 0.999,
    "average": 0.0,
}


@dataclass(frozen=True)
class Settings:
    """Everything ``python -m tinygan.train`` can be told; `None` means: decided when the run starts."""

    data: str = "auto"
    data_dir: str | None = None
    recipe: str = "seed"
    epochs: int = 100
    batch_size: int = 256
    lr: float = 1e-4
    lr_d: float | None = None  # of the discriminator, where it differs
    beta1: float = 0.9
    beta2: float = 0.999
    average: float = 0.0
    seed: int = 0
    limit: int | None = None
    steps: int | None = None
    size: int = 28
    channels: int = 1
    width: int = 64
    noise_dim: int = 100
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    sample_every: int = 1
    checkpoint_every: int = 20
    metrics_every: int | None = None
    no_gif: bool = False
    no_report: bool = False

    @property
    def kernels(self) -> int:
        """How many numbers the kernels of both networks hold, at least: nearly all of a model."""
        return self.noise_dim * (self.size // 4) ** 2 * 4 * self.width + 25 * 12 * self.width**2

    def check(self) -> Settings:
        """These settings, or a `UsageError` that names the first one that makes no sense.

        Raises TypeError for one of another type: a file may hold anything.
        """
        for field in fields(self):
            value, kinds = getattr(self, field.name), str(field.type).split(" | ")
            if not any(type(value) in KINDS[kind] for kind in kinds):
                raise TypeError(f"{field.name} is {value!r:.40}, no {field.type}")
            if type(value) is int and value > MOST and field.name != "seed":
                raise UsageError(f"{option(field.name)} is more than {MOST:,}.")
        if self.recipe not in RECIPES:
            raise UsageError(f"--recipe {self.recipe!r:.40} is none of {', '.join(RECIPES)}.")
        least = {
            "epochs": 0, "batch_size": 1, "seed": 0, "limit": 1, "steps": 0, "threads": 1,
            "sample_every": 1, "checkpoint_every": 1, "metrics_every": 1,
        }  # fmt: skip
        for name, minimum in least.items():
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise UsageError(f"{option(name)} {value} is less than {minimum}.")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UsageError(f"--threads {self.threads} is more than {MOST_THREADS}.")
        if self.channels not in (1, 3):
            raise UsageError(f"--channels {self.channels} is neither 1 (grey) nor 3 (colour).")
        check_sizes(self.size, width=self.width, noise_dim=self.noise_dim)
        if self.kernels > LARGEST:
            raise UsageError(
                f"--size {self.size}, --width {self.width} and --noise-dim {self.noise_dim} make a model of "
                f"{self.kernels:.1e} weights, more than {LARGEST:.1e}. Use smaller ones."
            )
        for name in ("lr", "lr_d"):
            if (value := getattr(self, name)) is not None and not 0 < value < float("inf"):
                raise UsageError(f"{option(name)} {value} is not a positive number.")
        for name in ("beta1", "beta2", "average"):
            if not 0 <= (value := getattr(self, name)) < 1:
                raise UsageError(f"{option(name)} {value} is not in [0, 1).")
        return self


def option(name: str) -> str:
    """The command-line spelling of a setting: ``batch_size`` -> ``--batch-size``."""
    return "--" + name.replace("_", "-")


def new_settings(given: Mapping[str, Any]) -> Settings:
    """Defaults, then the recipe's values, then what was `given`."""
    recipe = RECIPES[given.get("recipe", Settings.recipe)]
    return replace(Settings(), **{**recipe, **given}).check()


def resumed_settings(saved: Mapping[str, Any], given: Mapping[str, Any], run: str) -> Settings:
    """The settings of a run, with what was `given` for its continuation; `FORGOTTEN` ones are defaults.

    Raises:
        UsageError: something that decides the run's numbers would change, or the run would shrink.
        CheckpointError: `saved` are not settings of this version.
    """
    saved = {**ADDED, **saved}
    known = {field.name for field in fields(Settings)}
    if set(saved) != known:
        odd = printable(", ".join(sorted(set(saved) ^ known)))
        raise CheckpointError(
            f"{run} has other settings than this version knows ({odd:.80}). Start a new run."
        )
    for name, value in given.items():
        if name in FIXED and value != saved[name]:
            raise UsageError(
                f"{run} was trained with {option(name)} {saved[name]}, not {value}. "
                "Leave it out, or start a new run."
            )
    if given.get("epochs", saved["epochs"]) < saved["epochs"]:
        raise UsageError(f"{run} has --epochs {saved['epochs']}; it may grow, not shrink.")
    try:
        kept = {name: value for name, value in saved.items() if name not in FORGOTTEN}
        return Settings(**{**kept, **given}).check()
    except TypeError as problem:
        raise CheckpointError(f"{run} has damaged settings: {problem}. Start a new run.") from problem
