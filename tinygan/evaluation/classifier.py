"""A small classifier of 28x28 grey pictures; its last hidden layer has 64 features to compare pictures by.

``python -m benchmarks.train_classifier`` trained it, on each set's images and labels; no GAN sees the labels.
It recognises 91.5% (Fashion-MNIST) and 99.9% (`strokes`) of the 10,000 test images."""

import hashlib
import io
from importlib import resources

import numpy as np

from tinygan.arrays import CPU, Backend
from tinygan.autograd import Tensor, no_grad
from tinygan.data import normalise
from tinygan.errors import CheckpointError, UsageError, meant
from tinygan.layers import BatchNorm, Conv2D, Dense, Dropout, Init, LeakyReLU, Mode, Network, Reshape
from tinygan.rng import stream

SIDE, CLASSES, FEATURES = 28, 10, 64
BATCH = 500  # images in one forward pass

# SHA-256 of each file of weights, by the data set that it was trained on.
DIGESTS = {
    "fashion-mnist": "5e79d307f30925ee0b0a32d8b1bcf5b05864b11a93b0d2db8eeab6f9d7266efe",
    "strokes": "f0d683b4a0edbf512703f789849e8306e1b60adda6305949fd8ed7cc3d3d271a",
}

_GARMENTS = "T-shirt/top,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot"
NAMES = {"fashion-mnist": tuple(_GARMENTS.split(",")), "strokes": tuple("0123456789")}
THINGS = {"fashion-mnist": "clothes", "strokes": "digits"}


def new_classifier(backend: Backend = CPU) -> Network:
    """An untrained network: pictures (N, 28, 28, 1) in [-1, 1] -> logits (N, 10), one for each class."""
    init = Init(stream(0, "init"), backend)
    return Network("classifier", (SIDE, SIDE, 1), [               # 28, 28, 1
        Conv2D(init, 1, 24, kernel=5, stride=2, bias=False),   # 14, 14, 24
        BatchNorm(init, 24),                                   # 14, 14, 24
        LeakyReLU(0.1),                                        # 14, 14, 24
        Conv2D(init, 24, 48, kernel=5, stride=2, bias=False),  # 7, 7, 48
        BatchNorm(init, 48),                                   # 7, 7, 48
        LeakyReLU(0.1),                                        # 7, 7, 48
        Reshape(7 * 7 * 48),                                   # 2352
        Dropout(0.2),                                          # 2352
        Dense(init, 7 * 7 * 48, FEATURES),                     # 64
        LeakyReLU(0.1),                                        # 64: the features
        Dropout(0.2),                                          # 64
        Dense(init, FEATURES, CLASSES),                        # 10
    ])  # fmt: skip


def features_and_classes(classifier: Network, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28, 1) uint8 -> features (N, 64) float32, the last layer's input, and classes (N,)."""
    features, logits, backend = [], [], classifier.backend
    with no_grad():
        for start in range(0, len(images), BATCH):
            x = Tensor(backend.array(normalise(images[start : start + BATCH])), backend)
            *_, (_, before), (_, last) = classifier.outputs(x, Mode())
            features.append(backend.numpy(before.data))
            logits.append(backend.numpy(last.data))
    return np.concatenate(features), np.concatenate(logits).argmax(axis=1)


def class_called(name: str, of: str) -> str:
    """The class of the data set `of` by its number, its name in any case, or a unique part of its name.

    Raises: UsageError if there is no such class, or more than one."""
    plain = name.lower().replace("-", " ")
    known = {full.lower().replace("-", " "): full for full in NAMES[of]}
    known |= {str(number): full for number, full in enumerate(NAMES[of])}
    found = [known[plain]] if plain in known else [known[key] for key in known if plain in key]
    if len(found) == 1:
        return found[0]
    names = ", ".join(NAMES[of]) + ("" if "0" in NAMES[of] else f", or 0 to {CLASSES - 1}")
    raise UsageError(f"no class {name!r} in {of}.{meant(plain, known)} Use one of: {names}.")


def load_classifier(name: str, backend: Backend = CPU) -> Network:
    """The classifier for the set `name`. Raises: UsageError if there is none; CheckpointError if damaged."""
    if name not in DIGESTS:
        known = " and ".join(DIGESTS)
        raise UsageError(f"no classifier for {name}: there is one for {known}, pictures of 28x28x1.")
    data = (resources.files("tinygan.evaluation") / "weights" / f"{name}.npz").read_bytes()
    if hashlib.sha256(data).hexdigest() != DIGESTS[name]:
        raise CheckpointError(f"the weights of the classifier for {name} are damaged. Install tinygan again.")
    network = new_classifier(backend)
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        for key, tensor in (network.parameters | network.statistics).items():
            tensor.data = network.backend.array(arrays[key].astype(np.float32))
    return network
