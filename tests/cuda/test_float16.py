"""--precision float16: lifted arrays have 16-bit numbers, which stay well within their range."""

import numpy as np
import pytest

from tests.cuda.checks import CASES, SMALL, batch, distance, gradients, masks, players, take
from tests.standin import cupy as standin
from tinygan import data
from tinygan.backend import choose
from tinygan.cuda.trainer import Trainer
from tinygan.errors import UsageError
from tinygan.runs.settings import RECIPES, Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import trainer

LARGEST, SMALLEST = 65_504, 2.0**-24  # the positive numbers of float16


class Watch:
    """The largest float16 number in the products of a run, and how many results were rounded to 0."""

    def __init__(self, card: standin.Card) -> None:
        self.largest, self.count, self.lost = 0.0, 0, 0
        card.cublas.note = self

    def __call__(self, a: np.ndarray, b: np.ndarray, exact: np.ndarray, c: np.ndarray) -> None:
        if a.dtype == np.float16:
            self.largest = max(self.largest, *(float(np.abs(x).max()) for x in (a, b)))
        if c.dtype == np.float16:
            self.largest = max(self.largest, float(np.abs(exact).max()))
            self.count += int((exact != 0).sum())
            self.lost += int(((exact != 0) & (c == 0)).sum())


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["seed", "best"])
def test_no_number_in_the_products_of_a_run_leaves_the_range(card: standin.Card, recipe: str):
    """The tutorial's networks on drawn digits, in the first steps, which have the largest numbers."""
    watch = Watch(card)
    settings = Settings(**{"precision": "float16", "seed": 3, **RECIPES[recipe], "batch_size": 32})
    images = data.load("strokes", limit=2000, say=lambda line: None)
    taking = trainer(State(settings, choose("gpu", precision="float16")), images)
    measured = taking.steps(10)
    assert np.isfinite(measured).all() and watch.count > 5e7
    assert watch.largest < LARGEST / 30 and watch.lost < 1e-4 * watch.count


@pytest.mark.parametrize("logit", [-8, -16, -25])
def test_g_learns_even_if_d_is_sure_of_its_pictures(card: standin.Card, logit: int):
    """The gradient of G's loss comes through D with that of D's loss, which is almost 0 then."""
    sizes, found = CASES[0]._replace(width=16), []
    for precision in ("float32", "float16"):
        backend = choose("gpu", precision=precision)
        ours = players(backend, sizes)
        ours.D.parameters["07_dense/bias"].data = backend.array(np.array([logit], np.float32))
        take(ours, *map(backend.array, batch(sizes)), *masks())
        found.append(gradients(ours.arrays(), sizes)["generator/00_dense/kernel/m"])
    assert distance(found[1], found[0]) < 0.2


def test_gradients_are_scaled_by_the_pictures_in_the_smallest_mean(card: standin.Card):
    """So the gradients of the last batch, which can have one real picture, also stay within the range."""
    ours = players(choose("gpu", precision="float16"), SMALL)
    images, scales = np.zeros((SMALL.M + 1, SMALL.size, SMALL.size, 1), np.uint8), []
    taking = Trainer(*ours, images, SMALL.M, 7)
    for _ in range(2):
        taking.steps(1)
        scales.append(taking.card.scale)
    assert scales == [64 * SMALL.M, 64]


def test_float16_is_refused_without_a_card_and_by_the_readable_engine(card: standin.Card):
    with pytest.raises(UsageError, match="--precision float16 needs a GPU"):
        choose("cpu", precision="float16")
    with pytest.raises(UsageError, match="the readable engine computes in float32. Use --precision float32"):
        choose("gpu", "readable", precision="float16")
