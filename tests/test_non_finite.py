"""A number that is not finite is detected before any weight moves, and named."""

import re

import numpy as np
import pytest

from tests.game import Game
from tinygan.arrays import Backend
from tinygan.errors import NonFiniteError
from tinygan.step import check_finite


@pytest.fixture(autouse=True)
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Game, "WHOLE", True)


TENSORS = [f"{net}/{name}" for net in "GD" for name in getattr(Game(), net).parameters]


@pytest.mark.parametrize(
    ("where", "value"), [*((where, np.nan) for where in TENSORS), ("images", np.inf), ("noise", -np.inf)]
)
def test_nothing_moves_when_a_number_is_not_finite(backend: Backend, where: str, value: float) -> None:
    game = Game(backend)
    images, noise, *sources = game.batch(0)
    game.take((images, noise, *sources))
    if where in ("images", "noise"):
        {"images": images, "noise": noise}[where].reshape(-1)[3] = value
    else:
        network = {"G": game.G, "D": game.D}[where[0]]
        network.parameters[where[2:]].data.reshape(-1)[0] = value
    before, moments = game.bytes(), (game.adam_G.t, game.adam_D.t)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="is not finite") as problem:
        game.take((images, noise, *sources))
    named = re.fullmatch(r"(the gradient of (\w+)/(\S+)|[GD]'s loss) is not finite", str(problem.value))
    assert named and (named[2] is None or named[3] in {"g": game.G, "d": game.D}[named[2][0]].parameters)
    after = game.bytes()
    for name in before:
        if "running" not in name:  # running statistics have already seen the fakes
            assert before[name] == after[name], name
    assert moments == (game.adam_G.t, game.adam_D.t) == (1, 1)


@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_an_overflowing_gradient_is_detected_despite_finite_losses(backend: Backend, network: str) -> None:
    game = Game(backend)
    images, noise, *sources = game.batch(0)
    if network == "discriminator":  # huge activations before a last layer of zeros: every logit is 0
        images *= 1e25
        last = "07_dense/kernel"
        game.D.parameters[last].data[...] = 0
    else:  # the same in the generator: every pixel is 0
        last = "10_conv_transpose/kernel"
        game.G.parameters[last].data[...] = 0
        game.G.parameters["08_batchnorm/gamma"].data[...] = 1e25
    before = game.bytes()
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match=f"of {network}/{last} is not"):
        game.take((images, noise, *sources))
    after = game.bytes()
    assert all(before[name] == after[name] for name in before if "running" not in name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
def test_the_first_array_that_is_not_finite_is_named(value: float) -> None:
    good, bad = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    bad[1, 2] = value
    check_finite([("a", good)])
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="^b is not finite"):
        check_finite([("a", good), ("b", bad), ("c", bad)])
