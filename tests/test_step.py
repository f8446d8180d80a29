"""How a step is taken is decided once: as a whole, op by op, or by a `train_step` that a reader changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.checks import numbers
from tinygan import gan, layers, models, optim, step
from tinygan.arrays import CPU, Backend
from tinygan.backend import cpu, shared_by
from tinygan.errors import NonFiniteError, UsageError
from tinygan.fast import gan as fast_gan
from tinygan.optim import Adam
from tinygan.ranks.alone import Ranks
from tinygan.rng import stream
from tinygan.step import AS_A_WHOLE, BY_OPS, Step

N = M = 32
SIZES: dict[str, Any] = {"size": 8, "width": 8}


def made(backend: Backend, batches: Any = ((N, M),), **options: Any) -> Step:
    G = models.generator(noise_dim=5, backend=backend, **SIZES)
    D = models.discriminator(backend=backend, **SIZES)
    return Step(G, D, Adam(G.parameters), Adam(D.parameters), batches, **options)


def batch() -> tuple[Any, ...]:
    images = np.tanh(numbers(1, N, 8, 8, 1)).astype("f")
    masks = stream(0, "dropout").at(0)
    return images, numbers(2, M, 5).astype("f"), masks.at(0).split(), masks.at(1).split()


def weights(taken: Step) -> list[np.ndarray]:
    return [p.data.copy() for net in (taken.G, taken.D) for p in net.parameters.values()]


def taken(backend: Backend) -> tuple[Step, list[float]]:
    one = made(backend)
    return one, [float(number) for number in one.take(*batch())]


def test_the_fast_engine_takes_it_as_a_whole_and_the_readable_one_op_by_op() -> None:
    assert made(cpu("fast")).how == AS_A_WHOLE
    assert made(CPU).how == BY_OPS


def test_one_size_that_does_not_pay_is_enough_to_go_op_by_op() -> None:
    one = made(cpu("fast"), batches=[(N, M), (1, 1)])
    assert one.how.startswith(BY_OPS) and "small" in one.how
    assert one.losses_and_gradients is gan.losses_and_gradients


def test_it_is_not_decided_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one = made(cpu("fast"))
    for module, name in ((step, "changed"), (fast_gan, "planned"), (fast_gan, "unfit")):
        monkeypatch.setattr(module, name, None)  # whoever calls it fails
    one.take(*batch())
    one.take(*batch())


def test_both_ways_measure_the_same() -> None:
    assert taken(cpu("fast"))[1] == pytest.approx(taken(CPU)[1], rel=1e-5)


def test_a_changed_loss_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    _, before = taken(cpu("fast"))
    monkeypatch.setattr(gan, "generator_loss", lambda logits: gan.bce_with_logits(logits, target=0.5))
    one, after = taken(cpu("fast"))
    assert one.how == f"{BY_OPS}: gan.generator_loss was changed; about 1.3 times slower"
    assert after[0] != pytest.approx(before[0], rel=1e-3) and after[1] == pytest.approx(before[1], rel=1e-5)


def test_a_changed_convolution_is_said_to_be_much_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    original = layers.conv2d.forward
    monkeypatch.setattr(layers.conv2d, "forward", lambda *given, **more: original(*given, **more))
    assert made(cpu("fast")).how == f"{BY_OPS}: ops.conv.conv2d was changed; about 4 times slower"


def test_a_changed_train_step_is_called_as_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_changed_adam_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optim.Adam, "step", lambda self, gradients: None)
    one = made(cpu("fast"))
    before = weights(one)
    one.take(*batch())
    assert "optim.Adam was changed" in one.how
    assert all((a == b).all() for a, b in zip(before, weights(one), strict=True))


def test_other_layers_are_told_and_asked_for_in_vain() -> None:
    backend = cpu("fast")
    G = models.generator(noise_dim=5, backend=backend, **SIZES)
    D = models.discriminator(backend=backend, **SIZES)
    kept = [layer for layer in D.layers.values() if layer.name != "dropout"]
    D = layers.Network(D.name, D.input_shape, kept)
    adams = Adam(G.parameters), Adam(D.parameters)
    one = Step(G, D, *adams, [(N, M)])
    assert one.how.startswith(f"{BY_OPS}: models.discriminator makes other layers")
    one.take(*batch())
    with pytest.raises(UsageError, match="--engine fast: models.discriminator .*Use --engine auto"):
        Step(G, D, *adams, [(N, M)], strict=True)


class Pair(Ranks):
    size = 2


@pytest.mark.parametrize("name", ["generator_loss", "train_step"])
def test_several_ranks_refuse_what_they_have_a_version_of(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(gan, name, lambda *given: None)
    with pytest.raises(UsageError, match=rf"^gan\.{name} was changed, .*Start one process\.$"):
        made(shared_by(CPU, Pair()))


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_nothing_moves_where_a_number_is_not_finite(engine: str) -> None:
    one = made(cpu(engine))
    images, *rest = batch()
    images[3, 2, 1] = np.nan
    before = weights(one)
    with np.errstate(all="ignore"), pytest.raises(NonFiniteError, match="D's loss is not finite"):
        one.take(images, *rest)
    assert all((a == b).all() for a, b in zip(before, weights(one), strict=True))
    assert one.adam_D.t == one.adam_G.t == 0


def test_plans_name_every_convolution() -> None:
    lines = made(cpu("fast")).plans()
    assert [line.partition(":")[0] for line in lines] == [
        "generator/04_conv_transpose", "generator/07_conv_transpose", "generator/10_conv_transpose",
        "discriminator/00_conv", "discriminator/03_conv",
    ]  # fmt: skip
    assert any("frequencies" in line for line in lines) and any("windows" in line for line in lines)
    assert all("its definition (tinygan/ops/conv.py)" in line for line in made(CPU).plans())
