"""A number that has got out of hand is seen before any weight moves, and named."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.test_gan import Game, masks, pictures
from tinygan.backend import cpu
from tinygan.errors import NonFiniteError
from tinygan.step import AS_A_WHOLE, BY_OPS, Step, check_finite

TENSORS = [f"{net}/{name}" for net in "GD" for name in getattr(Game(size=8), net).parameters]


def batch() -> tuple[np.ndarray, np.ndarray]:
    """Images and noise: of fewer than 32 the fast engine would go op by op, too."""
    return pictures(1, 32, size=8), np.random.default_rng(0).standard_normal((32, 10), np.float32)


def step(game: Game, images: np.ndarray, noise: np.ndarray) -> None:
    step = Step(*game.players, batches=[(len(images), len(noise))])
    assert step.how == {"fast": AS_A_WHOLE, "readable": BY_OPS}[game.G.backend.engine]
    step.take(images, noise, masks(0, 0), masks(0, 1))


@pytest.mark.parametrize("engine", ["readable", "fast"])
@pytest.mark.parametrize(
    ("where", "value"), [*((where, np.nan) for where in TENSORS), ("images", np.inf), ("noise", -np.inf)]
)
def test_nothing_moves_when_a_number_is_not_finite(engine: str, where: str, value: float) -> None:
    game = Game(size=8, backend=cpu(engine))
    images, noise = batch()
    step(game, images, noise)
    if where in ("images", "noise"):
        {"images": images, "noise": noise}[where].flat[3] = value
    else:
        network = {"G": game.G, "D": game.D}[where[0]]
        network.parameters[where[2:]].data.flat[0] = value
    before, moments = game.bytes(), (game.adam_G.t, game.adam_D.t)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="is not finite") as problem:
        step(game, images, noise)
    named = re.fullmatch(r"(the gradient of (\w+)/(\S+)|[GD]'s loss) is not finite", str(problem.value))
    assert named and (named[2] is None or named[3] in {"g": game.G, "d": game.D}[named[2][0]].parameters)
    after = game.bytes()
    for name in before:
        if "statistics" not in name:  # those have seen the fakes
            assert before[name] == after[name], name
    assert moments == (game.adam_G.t, game.adam_D.t) == (1, 1)


@pytest.mark.parametrize("engine", ["readable", "fast"])
@pytest.mark.parametrize("network", ["discriminator", "generator"])
def test_a_gradient_is_seen_that_overflows_while_the_losses_look_well(engine: str, network: str) -> None:
    game = Game(size=8, backend=cpu(engine))
    images, noise = batch()
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
        step(game, images, noise)
    after = game.bytes()
    assert all(before[name] == after[name] for name in before if "statistics" not in name)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e20])
def test_the_first_array_that_is_not_finite_is_named(value: float) -> None:
    good, bad = np.ones((2, 3), np.float32), np.ones((2, 3), np.float32)
    bad[1, 2] = value
    check_finite([("a", good)])
    with np.errstate(over="ignore"), pytest.raises(NonFiniteError, match="^b is not finite"):
        check_finite([("a", good), ("b", bad), ("c", bad)])
