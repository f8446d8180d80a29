"""The kind of step is chosen once: as a whole, op by op, or a `train_step` that a reader changed."""

from typing import Any

import numpy as np
import pytest

from tests.game import Game
from tinygan import gan, layers, optim, step
from tinygan.arrays import CPU, Backend
from tinygan.autograd import Tensor
from tinygan.backend import cpu, shared_by
from tinygan.errors import UsageError
from tinygan.fast import gan as fast_gan
from tinygan.fast.conv import Saved
from tinygan.layers import Mode, Network
from tinygan.ops.loss import bce_with_logits
from tinygan.optim import Adam
from tinygan.ranks.alone import Ranks
from tinygan.rng import Stream, stream
from tinygan.step import AS_A_WHOLE, BY_OPS, Step

N = M = 32


def networks(backend: Backend) -> tuple[Network, Network]:
    return Game(backend, width=8).players[:2]


def made(backend: Backend, batches: Any = ((N, M),)) -> Step:
    return Step(*Game(backend, width=8).players, batches)


def batch() -> tuple[Any, ...]:
    images, noise, *_ = Game(width=8).batch(0, N, M)
    places = stream(0, "dropout").at(0)
    return images, noise, places.at(0).split(), places.at(1).split()


def weights(taken: Step) -> list[np.ndarray]:
    return [p.data.copy() for net in (taken.G, taken.D) for p in net.parameters.values()]


def taken(backend: Backend) -> tuple[Step, list[float]]:
    one = made(backend)
    return one, [float(number) for number in one.take(*batch())]


def test_the_fast_engine_takes_a_step_as_a_whole_and_the_readable_one_op_by_op() -> None:
    assert made(cpu("fast")).how == AS_A_WHOLE
    assert made(CPU).how == BY_OPS


def test_the_fast_engine_takes_a_batch_of_any_size_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_gan, "gan", None)  # what a batch that does not fit would use
    for count in (1, 3, 70):
        game = Game(cpu("fast"), width=8)
        one = Step(*game.players, [(count, count)])
        assert one.how == AS_A_WHOLE and one.take(*game.batch(0, count, count)).discriminator_loss > 0


@pytest.mark.parametrize("count", [1, 4, 64])
def test_op_by_op_the_ops_follow_the_plans(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan, "generator_loss", lambda logits: bce_with_logits(logits, 1.0))
    game = Game(cpu("fast"), width=8)
    images, noise, *_ = game.batch(0, count, count)
    one = Step(*game.players, [(count, count)])
    taken = [
        isinstance(y.node.saved, Saved)
        for network, x in ((game.G, noise), (game.D, images))
        for name, y in network.outputs(Tensor(x, game.backend), Mode())
        if y.node and "conv" in name
    ]
    assert one.how.startswith(BY_OPS) and ["definition" not in line for line in one.plans()] == taken
    assert False in taken or count == 64


def test_the_kind_of_step_is_not_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(cpu("fast"))
    for module, name in ((step, "changed"), (fast_gan, "plans"), (fast_gan, "unfit")):
        monkeypatch.setattr(module, name, None)  # a call fails
    one.take(*batch())
    one.take(*batch())


def test_a_changed_loss_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = taken(cpu("fast"))
    monkeypatch.setattr(gan, "generator_loss", lambda logits: gan.bce_with_logits(logits, target=0.5))
    one, after = taken(cpu("fast"))
    assert one.how == f"{BY_OPS}: gan.generator_loss was changed; about 1.3 times slower"
    with pytest.raises(UsageError, match=r"^--engine fast: gan\.generator_loss was changed\. Use --eng"):
        Step(*Game(cpu("fast"), width=8).players, [(N, M)], strict=True)
    assert after[0] != pytest.approx(before[0], rel=1e-3) and after[1] == pytest.approx(before[1], rel=1e-5)


def test_a_changed_convolution_is_reported_as_much_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    original = layers.conv2d.forward
    monkeypatch.setattr(layers.conv2d, "forward", lambda *given, **more: original(*given, **more))
    assert made(cpu("fast")).how == f"{BY_OPS}: ops.conv.conv2d was changed; up to 4 times slower"


def test_a_changed_train_step_is_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_D(G: Any, D: Any, adam_G: Any, adam_D: Any, *batch: Any) -> Any:  # noqa: N802
        found = gan.losses_and_gradients(G, D, *batch)
        adam_D.step(found.d_gradients)
        return found

    monkeypatch.setattr(gan, "train_step", only_D)
    for backend in (CPU, cpu("fast")):
        one = made(backend)
        before = weights(one)
        one.take(*batch())
        same = [(a == b).all() for a, b in zip(before, weights(one), strict=True)]
        of_G = len(one.G.parameters)
        assert all(same[:of_G]) and not any(same[of_G:])
        with_penalty = Step(one.G, one.D, one.adam_G, one.adam_D, one.batches, penalty=1.0)
        assert with_penalty.how == f"{one.how}; the changed gan.train_step ignores --penalty"


def test_a_changed_adam_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim.Adam, "step", lambda self, gradients: None)
    one = made(cpu("fast"))
    before = weights(one)
    one.take(*batch())
    assert "optim.Adam was changed" in one.how
    assert all((a == b).all() for a, b in zip(before, weights(one), strict=True))


def test_changed_layers_are_reported_and_refused_under_engine_fast() -> None:
    G, D = networks(cpu("fast"))
    kept = [layer for layer in D.layers.values() if layer.name != "dropout"]
    D = Network(D.name, D.input_shape, kept)
    adams = Adam(G.parameters), Adam(D.parameters)
    one = Step(G, D, *adams, [(N, M)])
    assert one.how.startswith(f"{BY_OPS}: models.py was changed at ")
    one.take(*batch())
    refusal = r"^--engine fast: models\.py was changed at discriminator/02_conv\. Use --engine auto\.$"
    with pytest.raises(UsageError, match=refusal):
        Step(G, D, *adams, [(N, M)], strict=True)


class Pair(Ranks):
    size = 2


@pytest.mark.parametrize("name", ["generator_loss", "train_step"])
def test_several_ranks_refuse_a_change_to_their_twins(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(gan, name, lambda *given: None)
    with pytest.raises(UsageError, match=rf"^gan\.{name} was changed: it might need .*Start one process\.$"):
        made(shared_by(CPU, Pair()))


def test_several_ranks_refuse_a_layer_that_a_reader_added() -> None:
    class Centre(layers.Tanh):
        pass

    backend = shared_by(CPU, Pair())
    G, D = networks(backend)
    G = Network("generator", (5,), [*G.layers.values(), Centre()])
    with pytest.raises(UsageError, match=r"\.Centre is new: it might need .*Start one process\.$"):
        Step(G, D, Adam(G.parameters), Adam(D.parameters), [(N, M)])


def test_plans_name_every_convolution() -> None:
    lines = list(made(cpu("fast")).plans())
    assert [line.partition(":")[0] for line in lines] == [
        "generator/04_conv_transpose", "generator/07_conv_transpose", "generator/10_conv_transpose",
        "discriminator/00_conv", "discriminator/03_conv",
    ]  # fmt: skip
    assert any("frequencies" in line for line in lines) and any(": direct: " in line for line in lines)
    assert all("its definition (tinygan/ops/conv.py)" in line for line in made(CPU).plans())


class Sgd(Adam):
    """Plain gradient descent, under Adam's arguments."""

    def step(self, gradients: Any) -> None:
        for parameter, g in zip(self.parameters.values(), gradients, strict=True):
            parameter.data = parameter.data - g


class Doubled(Network):
    """A network whose last layer runs twice."""

    def outputs(self, x: Any, mode: Any) -> Any:
        found = dict(super().outputs(x, mode))
        yield from found.items()
        yield "again", found["07_dense"] + found["07_dense"]


def losses_of(backend: Backend, kind: str) -> list[float]:
    """The losses of two steps with a reader's own optimiser or network."""
    G, D = networks(backend)
    make: Any = Sgd if kind == "optimiser" else Adam
    if kind == "network":
        D = Doubled(D.name, D.input_shape, list(D.layers.values()))
    if kind == "one layer twice":
        first, act, drop, *_, flat, last = D.layers.values()
        init = layers.Init(stream(3, "init"), backend)
        conv = layers.Conv2D(init, 8, 8, kernel=5, stride=1)
        last = layers.Dense(init, 4 * 4 * 8, 1)
        more = [conv, act, layers.Dropout(0.1), conv, act, layers.Dropout(0.1)]
        D = Network(D.name, D.input_shape, [first, act, drop, *more, layers.Reshape(4 * 4 * 8), last])
    one = Step(G, D, make(G.parameters), make(D.parameters), [(N, M)])
    return [float(number) for _ in range(2) for number in one.take(*batch())]


@pytest.mark.parametrize("kind", ["optimiser", "network", "one layer twice"])
def test_what_a_reader_derives_is_what_runs(kind: str) -> None:
    assert losses_of(cpu("fast"), kind) == pytest.approx(losses_of(CPU, kind), rel=1e-4)
    assert losses_of(CPU, kind) != pytest.approx(losses_of(CPU, "nothing"), rel=1e-4)


def test_masks_that_a_reader_draws_differently_are_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stream, "keep", lambda self, shape, rate: np.ones(shape, bool))
    one, found = taken(cpu("fast"))
    assert "rng.Stream was changed" in one.how and found == pytest.approx(taken(CPU)[1], rel=1e-5)


def test_an_op_that_is_replaced_after_the_backend_was_made_is_what_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    backend, original = cpu("fast"), layers.leaky_relu.forward

    def steeper(x: Any, *, slope: float = 0.3) -> Any:
        return original(x, slope=slope / 2)

    monkeypatch.setattr(layers.leaky_relu, "forward", steeper)
    assert taken(backend)[1] == pytest.approx(taken(CPU)[1], rel=1e-5)


def test_a_train_step_that_returns_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gan, "train_step", lambda *given: None)
    with pytest.raises(UsageError, match="^gan.train_step returned a NoneType, not LossesAndGradients.$"):
        taken(CPU)
