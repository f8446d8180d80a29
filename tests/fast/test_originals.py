"""A reader's edits are noticed: digests of the functions that twins replace."""

import functools
import inspect
import linecache
from collections.abc import Callable
from typing import Any

import pytest

from tinygan import autograd, gan, layers, models, optim
from tinygan.autograd import Op
from tinygan.backend import choose, cpu
from tinygan.errors import UsageError
from tinygan.fast.originals import CARD_ORIGINALS, ORIGINALS, changed, digest, unlike
from tinygan.ops import activation, batchnorm, conv, dense, dropout, geometry, loss

ENTRIES = [(module, name) for module, names in (ORIGINALS | CARD_ORIGINALS).items() for name in names]
# Functions that every engine runs themselves, so edits need no notice.
RUN_AS_THEY_ARE = {
    "gan.generate", "gan.LossesAndGradients", "layers.Init", "autograd.Node", "autograd.no_grad",
}  # fmt: skip


@pytest.mark.parametrize(("module", "name"), ENTRIES, ids=[f"{m.__name__}.{n}" for m, n in ENTRIES])
def test_the_twins_were_written_for_this_version(module: Any, name: str) -> None:
    now = digest(getattr(module, name))
    assert (ORIGINALS | CARD_ORIGINALS)[module][name] == now, (
        f"{name} was changed: compare its twins in fast/, cuda/ and ranks/, then enter {now!r} there"
    )


def test_every_function_of_these_files_has_a_digest() -> None:
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


def test_nothing_is_changed_in_the_package_as_shipped() -> None:
    assert changed(ORIGINALS | CARD_ORIGINALS) == []


def function(source: str) -> Callable[..., Any]:
    """The function `f` of the source, as if read from a file."""
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
    raise AssertionError("replaced, never called")


@pytest.mark.parametrize(
    ("where", "name", "noticed"),
    [
        (gan, "discriminator_loss", "gan.discriminator_loss"),
        (gan, "bce_with_logits", "gan.bce_with_logits"),  # in the file that imports it
        (layers, "leaky_relu", "layers.leaky_relu"),
        (layers.LeakyReLU, "__call__", "layers.LeakyReLU"),
        (layers.Network, "parameters", "layers.Network"),
        (loss, "sigmoid", "ops.loss.sigmoid"),
        (optim.Adam, "step", "optim.Adam"),
        (conv, "im2col", "ops.conv.im2col"),
    ],
)
def test_a_function_replaced_at_run_time_is_named(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, noticed: str
) -> None:
    monkeypatch.setattr(where, name, mine)
    assert noticed in changed()
    with pytest.raises(UsageError, match=r"^--engine fast: .* changed.*Use --engine auto\.$"):
        choose("cpu", "fast")


@pytest.mark.parametrize(
    ("where", "name", "user"),
    [
        (loss, "bce_with_logits", "gan.bce_with_logits"),
        (batchnorm, "moments", "layers.moments"),
        (geometry, "conv2d_pads", "ops.conv.conv2d_pads"),
        (loss, "bce_with_logits_forward", "ops.loss.bce_with_logits, an Op,"),
        (conv, "conv2d_backward", "ops.conv.conv2d, an Op,"),
    ],
)
def test_a_function_replaced_where_no_code_runs_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, where: Any, name: str, user: str
) -> None:
    monkeypatch.setattr(where, name, mine)
    with pytest.raises(UsageError, match=f"{name} was replaced, but {user} still has the original"):
        changed()


def test_without_sources_nothing_counts_as_edited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linecache, "getlines", lambda *given: [])
    assert changed() == []


def test_only_edits_of_functions_that_a_network_uses_make_it_unlike(monkeypatch: pytest.MonkeyPatch) -> None:
    G, D = models.generator(size=4, width=1), models.discriminator(size=4, width=1)
    assert unlike(G, D) == ""
    monkeypatch.setattr(gan, "generator_loss", mine)
    assert unlike(G, D) == ""
    monkeypatch.setattr(conv, "im2col", mine)
    monkeypatch.setattr(layers.BatchNorm, "__call__", mine)
    assert (unlike(G), unlike(D)) == ("layers.BatchNorm was changed", "ops.conv.im2col was changed")
    monkeypatch.setattr(layers, "tanh", mine)
    monkeypatch.setattr(conv, "conv2d_transpose_size", mine)
    assert unlike(G) == "layers.BatchNorm, layers.tanh and ops.conv.conv2d_transpose_size were changed"


def test_a_new_class_of_layer_makes_a_network_unlike() -> None:
    class Mine(layers.Tanh):
        pass

    class LeakyReLU(layers.LeakyReLU):
        pass

    class Doubled(layers.Network):
        pass

    where = __name__
    assert unlike(layers.Network("generator", (4,), [Mine()])) == f"{where}.Mine is new"
    assert unlike(Doubled("generator", (4,), [LeakyReLU()])) == f"{where}.Doubled, {where}.LeakyReLU are new"


def test_a_file_edited_during_a_run_counts_as_unchanged_for_that_run(monkeypatch: pytest.MonkeyPatch) -> None:
    G = models.generator(size=4, width=1)
    with monkeypatch.context() as patch:

        def everything_is_gone() -> None:
            patch.setattr(linecache, "getlines", lambda name, *given: ["def other():\n", "    pass\n"])

        patch.setattr(linecache, "checkcache", everything_is_gone)  # as after an edit of every file
        during_the_run, at_the_next = unlike(G), changed()
    assert during_the_run == "" and "layers.Network" in at_the_next


def test_an_op_that_is_made_again_is_an_edit(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = functools.wraps(activation.tanh.forward)(lambda x: activation.tanh_forward(x))
    anew = Op(forward, functools.partial(activation.tanh_backward))
    monkeypatch.setattr(activation, "tanh", anew)
    monkeypatch.setattr(layers, "tanh", anew)
    assert changed() == ["ops.activation.tanh"]


def test_a_wrapper_around_the_original_and_a_function_without_a_file_are_edits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original, namespace = gan.generator_loss, {}
    exec(inspect.getsource(original), vars(gan) | {}, namespace)
    wrapper = functools.wraps(original)(lambda logits: original(logits))
    for edited in (wrapper, namespace["generator_loss"]):
        monkeypatch.setattr(gan, "generator_loss", edited)
        assert changed() == ["gan.generator_loss"]


def test_an_edited_op_loses_its_twin_and_the_others_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    everything = set(cpu("fast").twins)
    for file, name in ((conv, "col2im"), (geometry, "_same_pads")):
        with monkeypatch.context() as patch:
            patch.setattr(file, name, mine)
            assert everything - set(cpu("fast").twins) == {conv.conv2d, conv.conv2d_transpose}
