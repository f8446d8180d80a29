"""The explained step is the real one, and every number in it is checked."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinygan import gan, layers, optim
from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.data.strokes import strokes
from tinygan.errors import UsageError
from tinygan.fast.originals import changed
from tinygan.ops import loss
from tinygan.runs.settings import Settings
from tinygan.runs.state import State
from tinygan.runs.trainer import StepByStep
from tinygan.views.explanation import PACKAGE, explain, place

SETTINGS = Settings(data="strokes", batch_size=16, width=4, noise_dim=6, lr=1e-3, average=0.9)
DATA = Dataset("strokes", strokes(56, 0)[0], "made up")


@pytest.fixture
def state() -> State:
    """After seven steps: Adam has moments, the running statistics have moved, the average is due."""
    state = State(SETTINGS, cpu())
    StepByStep(state, DATA).steps(7)
    state.step = 7
    return state


def text_of(state: State) -> str:
    return "\n".join(" ".join([title, *lines]) for title, lines in explain(StepByStep(state, DATA)))


def test_the_weights_and_both_adams_take_the_explained_step(state: State) -> None:
    expected = State(SETTINGS, cpu())
    expected.restore(state.arrays(), Path("copy"))
    text_of(state)
    StepByStep(expected, DATA).steps(1)
    ours, theirs = state.arrays(), expected.arrays()
    players = [name for name in ours if name.startswith(("generator/", "discriminator/"))]
    moved = [name for name in players if "running" not in name]
    assert len(moved) > 40
    for name in moved:
        assert (ours[name] == theirs[name]).all(), name


def test_the_losses_in_the_text_are_those_of_the_step(state: State) -> None:
    expected = State(SETTINGS, cpu())
    expected.restore(state.arrays(), Path("copy"))
    text = text_of(state)
    ((g_loss, d_loss, _, _),) = StepByStep(expected, DATA).steps(1)
    assert f"the sum of the two averages: {d_loss:.3f}" in text
    assert f"the average, {g_loss:.3f}, is G's loss" in text
    assert f"D's loss goes from {d_loss:.4f} to" in text
    assert text.startswith("The next step, 8 (epoch 2) It uses 8 real images and 16 vectors of noise.")


def test_correct_answers_are_counted(state: State) -> None:
    found = gan.losses_and_gradients(state.G, state.D, *StepByStep(state, DATA).batch())
    real, fake = (loss.sigmoid(logits.data) for logits in (found.real_logits, found.fake_logits))
    right = f"{np.sum(real > 0.5)} of 8 real images (logits above 0) and {np.sum(fake < 0.5)} of 16 fakes"
    assert f"It is right about {right}" in text_of(state)


def test_the_arithmetic_is_right(state: State) -> None:
    text = text_of(state)

    def number(pattern: str) -> float:
        (found,) = re.findall(pattern.replace("#", r"([-+]?[\d.]+(?:e[-+]\d+)?)"), text)
        return float(found)

    logit, p = number("the first real image the logit #:"), number(r"fake gets \S+, a probability of #\. ")
    assert number(r"exp\(.*?\)\) = #\. ") == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-3)
    d_half = number(r"a fake is 0\. The first loss is -log\(1 - .*?\) = #; the")
    g_loss = number(r"a fake is 1\. The first loss is -log\(.*?\) = #; the")
    assert (d_half, g_loss) == (pytest.approx(-np.log(1 - p), abs=2e-3), pytest.approx(-np.log(p), abs=4e-3))
    assert number(r"- 1\) / 16 = #: the loss") == pytest.approx((p - 1) / 16, abs=1e-4)
    assert number(r"- 0\) / 16 = #: the two") == pytest.approx(p / 16, abs=1e-4)
    old, new = number("mean of its gradients goes from # to"), number("gradients goes from .*? to #:")
    gradient = number("Its gradient is #[.]")
    assert new == pytest.approx(0.9 * old + 0.1 * gradient, rel=0.01)
    old, new = number("mean of their squares goes from # to"), number("squares goes from .*? to #:")
    assert new == pytest.approx(0.999 * old + 0.001 * gradient**2, rel=0.01)
    rate = number(r"\^8\) = #: both")
    assert rate == pytest.approx(1e-3 * np.sqrt(1 - 0.999**8) / (1 - 0.9**8), rel=1e-3)
    ((length, m, v),) = re.findall(r"weight moves by -(\S+) x (\S+) / \(sqrt\((\S+)\) \+", text)
    assert float(length) == rate and float(v) == new
    moved, weight = number(r"weight moves by .*? = #, to"), number(r"weight moves by .*? to #\. The")
    assert moved == pytest.approx(-rate * float(m) / (np.sqrt(float(v)) + 1e-7), rel=0.01)
    assert weight == pytest.approx(number(r"kernel\[2, 2, 0, 0\]: #\. Its") + moved, abs=2e-6)


@pytest.mark.parametrize(
    ("module", "name"), [(gan, "discriminator_loss"), (loss, "sigmoid"), (optim.Adam, "step")]
)
def test_a_changed_step_is_not_explained(
    module: Any, name: str, state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, before = getattr(module, name), state.arrays()
    monkeypatch.setattr(module, name, lambda *arguments: original(*arguments))
    words = r"^[\w.]+ was changed: only the original step can be explained\. Use --layers\.$"
    with pytest.raises(UsageError, match=words):
        text_of(state)
    after = state.arrays()
    assert state.step == 7 and all((before[key] == after[key]).all() for key in before)


def test_a_step_with_a_changed_layer_is_still_explained(
    state: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers.LeakyReLU, "changed", 1, raising=False)
    assert changed() == ["layers.LeakyReLU"]
    assert text_of(state).startswith("The next step, 8")


def test_every_sentence_names_a_line_of_code(state: State) -> None:
    files = set()
    for title, sentences in explain(StepByStep(state, DATA)):
        for sentence in sentences:
            assert re.search(r" \[tinygan/[\w/]+\.py:\d+\]$", sentence), (title, sentence)
            for file, line in re.findall(r"\[(tinygan/[\w/]+\.py):(\d+)\]", sentence):
                assert (PACKAGE / file).read_text().splitlines()[int(line) - 1].strip()
                files.add(file)
    assert {"tinygan/gan.py", "tinygan/models.py", "tinygan/ops/loss.py", "tinygan/optim.py"} <= files


def test_a_place_is_the_line_that_contains_the_code() -> None:
    where = place(gan, "adam_G.step(found.g_gradients)")
    file, line = where.strip("[]").split(":")
    assert "adam_G.step(found.g_gradients)" in (PACKAGE / file).read_text().splitlines()[int(line) - 1]
    assert place(gan, "adam_G.leap") == ""  # in code that a reader changed
