"""The same training for any number of ranks: real processes under MPI against one process alone."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.ranks.launch import finish, needs_mpi
from tests.ranks.play import ENGINES
from tests.standin.kernels import COMPILER

pytestmark = needs_mpi
Left = dict[str, np.ndarray]
# The last batch has no image for one of three ranks.
MANY = [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow)]


def player(folder: Path, *more: str) -> Callable[[int], Left]:
    """A function: the results of `tests.ranks.play` on a number of ranks, which it runs when first needed."""

    @cache
    def left(ranks: int) -> Left:
        file = folder / f"{ranks}.npz"
        code, _, errors = finish(ranks, "-m", "tests.ranks.play", str(file), *more, cwd=folder)
        assert code == 0, errors
        with np.load(file) as arrays:
            return dict(arrays)

    return left


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Left]:
    """The results of 20 steps on processors."""
    return player(tmp_path_factory.mktemp("played"))


@pytest.fixture(scope="module")
def left_on_cards(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Left]:
    """The results of three epochs on the stand-ins for graphics cards."""
    if COMPILER is None:
        pytest.skip("no C compiler to run the kernels with")
    return player(tmp_path_factory.mktemp("cards"), "card")


def distance(one: Left, many: Left, part: str) -> tuple[float, str]:
    """The largest difference of an array from its counterpart, relative to its largest number; its name."""
    names = [name for name in one if name.startswith(part)]
    assert names and one.keys() == many.keys()
    return max((float(abs(one[name] - many[name]).max() / abs(one[name]).max()), name) for name in names)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ranks", MANY)
def test_many_ranks_get_the_results_of_one(left: Callable[[int], Left], ranks: int, engine: str) -> None:
    worst, name = distance(left(1), left(ranks), f"{engine}/float64/")
    assert worst < 1e-10, name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ranks", MANY)
def test_they_differ_by_rounding_in_float32(left: Callable[[int], Left], ranks: int, engine: str) -> None:
    one, many = (left(n)[f"{engine}/float32/measured"] for n in (1, ranks))
    assert many[:4] == pytest.approx(one[:4], abs=1e-6)
    # Later some number is rounded to the other side of LeakyReLU's kink, where the slope differs. Then a
    # float32 run differs from float64 by 1e-4, with any number of ranks.
    assert many == pytest.approx(one, abs=5e-4)


@pytest.mark.parametrize("ranks", [1, *MANY])
def test_float32_stays_float32(left: Callable[[int], Left], ranks: int) -> None:
    for name, array in left(ranks).items():
        assert array.dtype == name.split("/")[1], name


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["readable", "fast"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_many_cards_get_the_results_of_one(
    left_on_cards: Callable[[int], Left], ranks: int, engine: str
) -> None:
    """Sums by NCCL, on the fast engine within the captured graph."""
    one, many = left_on_cards(1), left_on_cards(ranks)
    assert many[f"{engine}/measured"] == pytest.approx(one[f"{engine}/measured"], abs=1e-6)
    for network in ("generator", "discriminator"):
        worst, name = distance(one, many, f"{engine}/{network}/")
        assert worst < 1e-4, name  # from rounding, where a gradient is almost 0 and Adam scales it up
