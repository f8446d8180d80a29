"""``python -m benchmarks.train_classifier fashion-mnist``: trains a classifier like the shipped ones.

It is one-against-all, ten logistic regressions on shared features, so that the loss is the GAN's. Adam's
learning rate falls along a cosine. Images are shifted by up to a pixel, and garments are also mirrored.
"""

import gzip
import hashlib
import io
import math
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinygan import backend, cli, data
from tinygan.autograd import grad
from tinygan.data import normalise
from tinygan.data.download import Pinned
from tinygan.data.sources import FASHION, STROKES, located
from tinygan.data.strokes import strokes
from tinygan.evaluation.classifier import CLASSES, NAMES, features_and_classes, new_classifier
from tinygan.layers import Network
from tinygan.ops.loss import bce_with_logits
from tinygan.optim import Adam
from tinygan.rng import stream

EPOCHS, BATCH, LR = 20, 128, 2e-3
LABELS = {  # the class of each image
    "train": Pinned(
        "train-labels-idx1-ubyte.gz", FASHION, 29515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    ),
    "test": Pinned(
        "t10k-labels-idx1-ubyte.gz", FASHION, 5148,
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}  # fmt: skip
MIRRORED = ("fashion-mnist",)  # a mirrored shirt is a shirt, but a mirrored 2 is not a digit


def parser() -> cli.Parser:
    parser = cli.Parser("benchmarks.train_classifier", "Train a classifier for evaluations.")
    parser.add_argument("name", choices=list(NAMES), help="data set to train on")
    parser.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: NAME.npz)")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Train, print the accuracy of every epoch, write the weights and print their digest."""
    options = parser().parse_args(arguments)
    device = backend.choose("cpu")
    images = data.load(options.name).images
    wanted = np.eye(CLASSES, dtype=np.float32)[labels(options.name, "train")]
    test, answers = data.load(options.name, split="test").images, labels(options.name, "test")

    network = new_classifier(device)
    parameters = network.parameters
    adam = Adam(parameters, LR)
    steps = len(images) // BATCH  # per epoch; it leaves out the remainder of its order
    for epoch in range(EPOCHS):
        order = stream(0, "shuffle").at(epoch).generator().permutation(len(images))
        random = np.random.default_rng(epoch)
        for step in range(steps):
            adam.lr = LR * 0.5 * (1 + math.cos(math.pi * (adam.t / (EPOCHS * steps))))
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = varied(images[chosen], random, options.name in MIRRORED)
            masks = stream(0, "dropout").at(adam.t).split()
            loss = bce_with_logits(network(normalise(batch), True, masks), target=wanted[chosen])
            adam.step(grad(loss, list(parameters.values())))
        accuracy = (features_and_classes(network, test)[1] == answers).mean()
        print(f"epoch {epoch + 1}/{EPOCHS}  {accuracy:.2%} of {len(test):,} test images", flush=True)
    packed = pack(network)
    out = options.out or Path(f"{options.name}.npz")
    out.write_bytes(packed)
    print(f"{out}: {len(packed):,} bytes, SHA-256 {hashlib.sha256(packed).hexdigest()}")
    return 0


def varied(images: np.ndarray, random: np.random.Generator, mirrored: bool) -> np.ndarray:
    """Shift all images (N, 28, 28, 1) by up to a pixel, and mirror about half of them if `mirrored`."""
    images = np.roll(images, tuple(random.integers(-1, 2, 2)), axis=(1, 2))
    if mirrored:
        half = random.random(len(images)) < 0.5
        images[half] = images[half, :, ::-1]
    return images


def labels(name: str, split: str, data_dir: Path | None = None) -> np.ndarray:
    """The class of each image of "fashion-mnist" or "strokes": (N,) uint8, 0 to 9. Raises: as `data.load`."""
    if name == "strokes":
        return strokes(*STROKES[split])[1]
    path = located(name, LABELS[split], data_dir, print)
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        return np.frombuffer(file.read()[8:], np.uint8)  # after a magic number and their count


def pack(network: Network) -> bytes:
    """The file that `load_classifier` reads, with float16 weights. Equal weights give equal bytes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for key, tensor in (network.parameters | network.statistics).items():
            array = io.BytesIO()
            np.save(array, network.backend.numpy(tensor.data).astype(np.float16))
            archive.writestr(zipfile.ZipInfo(f"{key}.npy"), array.getvalue())  # no date
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(cli.run(main))
