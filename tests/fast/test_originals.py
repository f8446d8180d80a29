"""What a reader edits is noticed: digests of the functions that twins stand in for."""

from __future__ import annotations

import functools
import inspect
import linecache
import types
from collections.abc import Callable
from typing import Any

import pytest

from tinygan import autograd, gan, layers, models, optim
from tinygan.autograd import Op
from tinygan.backend import choose, cpu
from tinygan.errors import UsageError
from tinygan.fast.originals import CARD_ORIGINALS, ORIGINALS, changed, digest
from tinygan.ops import activation, batchnorm, conv, dense, dropout, geometry, loss

ENTRIES = [(module, name) for module, names in (ORIGINALS | CARD_ORIGINALS).items() for name in names]
# What a step on any engine runs as it is, so that there is nothing to notice.
RUN_AS_THEY_ARE = {
    "gan.generate", "gan.LossesAndGradients", "layers.Init", "autograd.Node", "autograd.no_grad",
}  # fmt: skip


@pytest.mark.parametrize(("module", "name"), ENTRIES, ids=[f"{m.__name__}.{n}" for m, n in ENTRIES])
def test_the_twins_were_written_for_this_version(module: Any, name: str) -> None:
    now = digest(getattr(module, name))
    assert (ORIGINALS | CARD_ORIGINALS)[module][name] == now, (
        f"{name} was changed: compare its twins in fast/, fast/cuda/ and ranks/, then write {now!r} there"
    )


def test_every_function_of_the_path_is_among_them() -> None:
    files = (gan, layers, autograd, optim, activation, batchnorm, conv, dense, dropout, geometry, loss)
    known = {
        f"{module.__name__.removeprefix('tinygan.')}.{name}" for module, name in ENTRIES if module in files
    }
    found = set()
    for module in files:
        joined = {
            function
            for op in vars(module).values()
            if isinstance(op, Op)
            for function in (op.forward, op.backward)
        }
        for name, value in vars(module).items():
            own = value.forward.__module__ if isinstance(value, Op) else getattr(value, "__module__", "")
            if own == module.__name__ and value not in joined and callable(value):
                found.add(f"{module.__name__.removeprefix('tinygan.')}.{name}")
    assert known | RUN_AS_THEY_ARE == found


def test_nothing_is_changed_as_the_package_comes() -> None:
    assert changed(ORIGINALS | CARD_ORIGINALS) == []


def function(source: str) -> Callable[..., Any]:
    """`f` of the source, as if it stood in a file."""
    namespace: dict[str, Any] = {}
    name = f"<{source}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    exec(compile(source, name, "exec"), namespace)
    return namespace["f"]


def test_comments_docstrings_and_layout_do_not_count() -> None:
    plain = function("def f(x, y=1):\n    return x + y\n")
    wordy = 'def f(\n    x, y = 1\n):\n    """Adds."""\n    # so\n    return (x\n            + y)  # there\n'
    assert digest(plain) == digest(function(wordy))


@pytest.mark.parametrize("other", ["x - y", "y + x", "x + y + 0"])
def test_code_and_defaults_count(other: str) -> None:
    plain = digest(function("def f(x, y=1):\n    return x + y\n"))
    assert plain != digest(function(f"def f(x, y=1):\n    return {other}\n"))
    assert plain != digest(function("def f(x, y=2):\n    return x + y\n"))


def test_the_numbers_of_a_class_count() -> None:
    one, two = type("A", (), {"EVERY": 8}), type("A", (), {"EVERY": 9})
    assert digest(one) != digest(two)


def mine(*arguments: Any, **others: Any) -> Any:
    raise AssertionError("only to be noticed")


@pytest.mark.parametrize(
    ("where", "name", "noticed"),
    [
        (gan, "discriminator_loss", "gan.discriminator_loss"),
        (gan, "bce_with_logits", "gan.bce_with_logits"),  # in the file that imports it
        (layers, "leaky_relu", "layers.leaky_relu"),
        (layers.LeakyReLU, "__call__", "layers.LeakyReLU"),
        (layers.Network, "parameters", "layers.Network"),
        (loss, "bce_with_logits", "ops.loss.bce_with_logits"),
        (optim.Adam, "step", "optim.Adam"),
        (conv, "im2col", "ops.conv.im2col"),
    ],
)
def test_what_is_replaced_at_run_time_is_named(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, noticed: str
) -> None:
    monkeypatch.setattr(where, name, mine)
    assert noticed in changed()
    with pytest.raises(UsageError, match=r"^--engine fast: .* changed.*Use --engine auto\.$"):
        choose("cpu", "fast")


def test_a_wrapper_around_the_original_is_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    original = gan.generator_loss
    monkeypatch.setattr(gan, "generator_loss", functools.wraps(original)(lambda logits: original(logits)))
    assert changed() == ["gan.generator_loss"]


def test_a_function_without_a_file_is_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    namespace: dict[str, Any] = {}
    exec(inspect.getsource(gan.generator_loss), vars(gan) | {}, namespace)
    assert isinstance(namespace["generator_loss"], types.FunctionType)
    monkeypatch.setattr(gan, "generator_loss", namespace["generator_loss"])
    assert changed() == ["gan.generator_loss"]


def test_an_edited_op_loses_its_twin_and_the_others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = cpu("fast").twins
    assert set(everything) == {
        activation.leaky_relu, activation.tanh, batchnorm.batch_norm, conv.conv2d, conv.conv2d_transpose,
        dense.dense, dropout.dropout,
    }  # fmt: skip
    monkeypatch.setattr(conv, "col2im", mine)
    assert set(everything) - set(cpu("fast").twins) == {conv.conv2d, conv.conv2d_transpose}
    monkeypatch.undo()
    monkeypatch.setattr(geometry, "_same_pads", mine)
    assert set(everything) - set(cpu("fast").twins) == {conv.conv2d, conv.conv2d_transpose}


def test_networks_are_read_as_they_are_so_models_need_no_digest() -> None:
    assert models not in ORIGINALS
