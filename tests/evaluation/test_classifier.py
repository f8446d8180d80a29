"""The shipped classifiers: their accuracy, and that other weights are refused."""

import os
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from benchmarks.train_classifier import labels, pack, varied
from tests.checks import one_line
from tinygan.autograd import Tensor, no_grad
from tinygan.backend import cpu
from tinygan.data import load, normalise
from tinygan.data.strokes import strokes
from tinygan.errors import CheckpointError, UsageError
from tinygan.evaluation import classifier as module
from tinygan.evaluation.classifier import DIGESTS, NAMES, features_and_classes, load_classifier
from tinygan.layers import Mode

DATA = Path(os.environ.get("TINYGAN_DATA") or Path(__file__).parents[3] / "shared" / "data")


def test_drawn_digits_are_recognised():
    images, answers = strokes(1000, 1)
    _, found = features_and_classes(load_classifier("strokes"), images)
    assert (found == answers).mean() > 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("name", "accuracy"), [("fashion-mnist", 0.9147), ("strokes", 0.9988)])
def test_the_stated_accuracy_is_reached_on_all_test_images(name, accuracy):
    """As stated in its module and the training script. Rounding differs a little between machines."""
    if name == "fashion-mnist" and not (DATA / name).is_dir():
        pytest.skip(f"{DATA / name} does not exist")
    images = load(name, data_dir=DATA if DATA.is_dir() else None, split="test").images
    answers = labels(name, "test", DATA if DATA.is_dir() else None)
    assert len(images) == len(answers) == 10_000
    _, found = features_and_classes(load_classifier(name, cpu("fast")), images)
    assert (found == answers).mean() == pytest.approx(accuracy, abs=0.0005)


@pytest.mark.parametrize("name", DIGESTS)
def test_weights_take_less_than_500_kilobytes(name):
    path = resources.files("tinygan.evaluation") / "weights" / f"{name}.npz"
    assert len(path.read_bytes()) < 500_000
    assert len(NAMES[name]) == 10


def test_features_are_what_the_last_layer_decides_by():
    network = load_classifier("strokes")
    images, _ = strokes(7, 5)
    features, chosen = features_and_classes(network, images)
    assert features.shape == (7, 64) and features.dtype == np.float32
    *_, last = network.layers.values()
    with no_grad():
        logits = network(normalise(images)).data
        assert last(Tensor(features), Mode()).data == pytest.approx(logits, abs=1e-5)
    assert (chosen == logits.argmax(axis=1)).all()


def test_features_depend_on_their_own_picture_only(monkeypatch):
    images, _ = strokes(20, 5)
    found = load_classifier("strokes")
    together = features_and_classes(found, images)
    monkeypatch.setattr(module, "BATCH", 6)
    parts = features_and_classes(found, images)
    assert together[0] == pytest.approx(parts[0], abs=1e-3)
    assert (together[1] == parts[1]).all()


def test_there_is_no_classifier_for_other_sets():
    with pytest.raises(
        UsageError, match="no classifier for mnist: there is one for fashion-mnist and"
    ) as caught:
        load_classifier("mnist")
    one_line(caught)


def test_weights_other_than_the_pinned_ones_are_refused(monkeypatch):
    monkeypatch.setitem(DIGESTS, "strokes", "0" * 64)
    with pytest.raises(CheckpointError, match="damaged. Install tinygan again"):
        load_classifier("strokes")


def test_packing_is_reproducible_and_rounds_to_float16():
    network = module.new_classifier()
    packed = pack(network)
    assert packed == pack(module.new_classifier())
    for tensor in network.parameters.values():
        tensor.data = tensor.data * 2
    assert packed != pack(network)


def test_variations_shift_by_a_pixel_and_mirror_half():
    images, _ = strokes(400, 2)
    same = varied(images, np.random.default_rng(3), mirrored=False)
    shift = [
        (down, right)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
        if (np.roll(images, (down, right), (1, 2)) == same).all()
    ]
    assert len(shift) == 1
    turned = varied(images, np.random.default_rng(3), mirrored=True)
    kept = (turned == same).all(axis=(1, 2, 3))
    mirrored = (turned == same[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (kept | mirrored).all() and 150 < mirrored.sum() < 250
