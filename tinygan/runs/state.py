"""Everything that training changes, in one object: both networks, both Adams, and the position."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tinygan import gan, models, optim
from tinygan.arrays import Backend
from tinygan.autograd import Tensor
from tinygan.average import Average
from tinygan.errors import CheckpointError, Printer, UsageError
from tinygan.layers import Network
from tinygan.rng import stream
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder, name_of
from tinygan.runs.formats import read_safetensors
from tinygan.runs.settings import SIZES, Settings, resumed_settings

PREVIEWS = 16
MOST_STEPS = 1 << 31  # would take centuries, but their losses would still fit on a disk
MOST_UNTRAINED = 1 << 24  # weights of a model without a checkpoint; the "seed" recipe's has 2.5 million


def sample_noise(seed: int, n: int, G: Network) -> np.ndarray:
    """The noise (n, noise_dim) float32 of all previews and samples."""
    return stream(seed, "samples").normal((n, *G.input_shape))


def pictures_of(G: Network, noise: np.ndarray) -> np.ndarray:
    """G's pictures (N, H, W, C) float32 from `noise` (N, noise_dim); both are NumPy arrays."""
    return G.backend.numpy(gan.generate(G, G.backend.array(noise)))


class State:
    """The networks, their Adams and the position of a run; a new state is the one before the first step."""

    def __init__(self, settings: Settings, backend: Backend) -> None:
        self.settings, self.backend = settings, backend
        init = stream(settings.seed, "init")
        for_G: dict[str, Any] = {name: getattr(settings, name) for name in SIZES} | {"backend": backend}
        for_D = {name: value for name, value in for_G.items() if name != "noise_dim"}
        for_D["dropout"] = settings.dropout
        self.G, self.D = models.generator(init.at(0), **for_G), models.discriminator(init.at(1), **for_D)
        betas = settings.beta1, settings.beta2
        self.adam_G = optim.Adam(self.G.parameters, settings.lr, *betas)
        self.adam_D = optim.Adam(self.D.parameters, settings.lr_d or settings.lr, *betas)
        networks = {"generator": self.G, "discriminator": self.D}
        self.adams = {"generator": self.adam_G, "discriminator": self.adam_D}
        self.shown_G, self.average = self.G, None  # the generator whose pictures are shown and saved
        if settings.average:
            self.shown_G = models.generator(init.at(0), **for_G)
            self.average = Average(_tensors(self.shown_G), _tensors(self.G), settings.average)
            networks["average"] = self.shown_G
        self.tensors = {  # of all networks
            f"{name}/{key}": one for name, net in networks.items() for key, one in _tensors(net).items()
        }
        self.name = "untrained"  # of the checkpoint that it comes from
        self.step = 0  # total steps taken; they determine the epoch and the place in it
        self.sums = np.zeros(4)  # of this epoch so far: both losses and both scores (float64)
        self.preview_noise = sample_noise(settings.seed, PREVIEWS, self.G)  # the same in every epoch

    def weights(self) -> dict[str, np.ndarray]:
        """The parameters and running statistics of all networks, under the names that `arrays` uses."""
        return {name: self.backend.numpy(tensor.data) for name, tensor in self.tensors.items()}

    def set_weights(self, arrays: checkpoint.Arrays) -> None:
        """Replace the weights by `arrays`, such as `weights` returns."""
        for name, tensor in self.tensors.items():
            tensor.data = self.backend.array(arrays[name].copy())

    def arrays(self) -> dict[str, np.ndarray]:
        """The whole state as named NumPy arrays."""
        arrays = {"step": np.array(self.step, np.int64), "sums": self.sums, **self.weights()}
        arrays["preview_noise"] = self.preview_noise
        for name, adam in self.adams.items():
            for kind, averages in (("m", adam.m), ("v", adam.v)):
                arrays |= {f"{name}/{key}/{kind}": self.backend.numpy(averages[key]) for key in averages}
            arrays[f"{name}/adam_t"] = np.array(adam.t, np.int64)
        return arrays

    def restore(self, arrays: checkpoint.Arrays, path: Path) -> None:
        """Replace this state by the saved `arrays`. Raises: CheckpointError if one is missing, unknown or of
        another shape or dtype than in this state, or counts an impossible number of steps."""
        _check_fit(self.arrays(), arrays, path)
        for name in ("step", "generator/adam_t", "discriminator/adam_t"):
            if not 0 <= arrays[name] <= MOST_STEPS:
                raise CheckpointError(f"{path} is damaged: {name} is {arrays[name]}. Use another checkpoint.")
        self.step = int(arrays["step"])
        self.sums = arrays["sums"].copy()
        self.preview_noise = arrays["preview_noise"]
        self.set_weights(arrays)
        for name, adam in self.adams.items():
            for kind, averages in (("m", adam.m), ("v", adam.v)):
                for key in averages:  # copies, since Adam may update them in place
                    averages[key] = self.backend.array(arrays[f"{name}/{key}/{kind}"].copy())
            adam.t = int(arrays[f"{name}/adam_t"])


def with_average(arrays: checkpoint.Arrays, averages: bool) -> dict[str, np.ndarray]:
    """A state's `arrays` with averaged weights if `averages` (they start at the weights), else without."""
    if not averages:
        return {name: array for name, array in arrays.items() if not name.startswith("average/")}
    of_G = [name for name in arrays if name.startswith("generator/") and name.count("/") == 2]  # not Adam's
    return {name.replace("generator", "average", 1): arrays[name] for name in of_G} | {**arrays}


def _tensors(network: Network) -> dict[str, Tensor]:
    return network.parameters | network.statistics


def _check_fit(expected: checkpoint.Arrays, arrays: checkpoint.Arrays, path: Path) -> None:
    """Raise CheckpointError unless `arrays` has the names, shapes and dtypes of `expected`."""
    for name in sorted(expected.keys() | arrays.keys()):
        wanted, found = expected.get(name), arrays.get(name)
        if wanted is None or found is None or (wanted.shape, wanted.dtype) != (found.shape, found.dtype):
            raise CheckpointError(f"{path} does not fit the model: {name} differs. Start a new run.")


def folder_of(checkpoint_file: Path) -> Path:
    """The folder of the run that a checkpoint belongs to, or otherwise the folder it is in."""
    folder = checkpoint_file.parent
    return folder.parent if folder.name == "checkpoints" else folder


def found(where: str | Path | None, out: Path, backend: Backend, say: Printer) -> tuple[State, Path]:
    """The state in the newest intact checkpoint of the run `where`, in a checkpoint file or, if `where` is
    None, in the newest trained run of `out`; and that file. A .safetensors file holds only weights. Raises:
    CheckpointError if there is no intact checkpoint; UsageError if the package safetensors is missing."""
    if where is None or Path(where).suffix.lower() != ".safetensors":
        return restored(RunFolder.checkpoint_files(where, out), backend, say)
    path = Path(where)
    arrays, meta = read_safetensors(path)
    state = State(saved_settings(meta, path, arrays), backend)
    _check_fit(state.weights(), arrays, path)
    state.set_weights(arrays)
    state.name = path.stem
    return state, path


def restored(files: Sequence[Path], backend: Backend, say: Printer) -> tuple[State, Path]:
    """The state in the first intact checkpoint of `files`, and that file. Raises: CheckpointError."""
    path, arrays, meta = checkpoint.newest_intact(files, say)
    state = State(saved_settings(meta, path, arrays), backend)
    state.restore(arrays, path)
    state.name = name_of(path, meta)
    return state, path


def saved_settings(meta: Mapping[str, Any], path: Path, arrays: checkpoint.Arrays | None = None) -> Settings:
    """The settings in the `meta` of a checkpoint, or in the configuration of a run without one. Raises:
    CheckpointError if they are invalid, or ask for more weights than `arrays` hold (without arrays,
    `MOST_UNTRAINED`), so that no small file can make `State` take much memory."""
    try:
        settings = resumed_settings(dict(meta["settings"]), {}, str(path))
    except (KeyError, TypeError, ValueError, OverflowError, UsageError) as problem:
        what = str(problem).rstrip(".")[:200]
        raise CheckpointError(f"{path} has damaged settings: {what}. Use another checkpoint.") from problem
    held = MOST_UNTRAINED if arrays is None else sum(array.size for array in arrays.values())
    if settings.kernels > held:
        if arrays is None:
            asks = f"{path} asks for {settings.kernels:,} weights, but there is no checkpoint"
            raise CheckpointError(f"{asks}; untrained models have at most {held:,}. Name another run.")
        asks = f"its settings ask for {settings.kernels:,} weights, but it holds {held:,} numbers"
        raise CheckpointError(f"{path} does not fit the model: {asks}. Start a new run.")
    return settings
