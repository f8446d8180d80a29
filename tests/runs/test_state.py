"""The state of a run: its content, resuming, what a checkpoint may hold, the averaged generator."""

import shutil
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import pytest

from tests.commands import fails, tinygan
from tinygan import gan, layers, models, optim, train
from tinygan.arrays import CPU
from tinygan.backend import cpu
from tinygan.data import Dataset
from tinygan.errors import CheckpointError, UsageError
from tinygan.evaluation.evaluation import Evaluation
from tinygan.runs import checkpoint
from tinygan.runs.folder import RunFolder
from tinygan.runs.settings import DESCRIBED, Settings
from tinygan.runs.state import State, pictures_of
from tinygan.runs.trainer import trainer
from tinygan.trained import load

SETTINGS = Settings(size=8, width=2, noise_dim=5, batch_size=8, lr=1e-2, average=0.9)
DATA = Dataset("noise", np.random.default_rng(1).integers(0, 256, (19, 8, 8, 1), dtype=np.uint8), "nowhere")
TENSORS = 16  # weights and running statistics of a generator


def go(state: State, steps: int) -> State:
    taking = trainer(state, DATA)
    for measured in taking.steps(steps):
        state.sums += measured
        state.step += 1
    taking.close()
    return state


def test_the_average_starts_where_training_does_and_follows_every_weight_and_statistic() -> None:
    state = State(SETTINGS, cpu())
    start, expected = state.weights(), {}
    taking = trainer(state, DATA)
    for t, d in ((1, 2 / 11), (2, 3 / 12), (3, 4 / 13)):
        taking.steps(8)
        now = state.weights()
        for name in now:
            if name.startswith("generator/"):
                own = name.replace("generator", "average")
                before = expected.get(own, start[name])
                expected[own] = d * before.astype(float) + (1 - d) * now[name]
                assert np.allclose(now[own], expected[own], rtol=1e-5, atol=1e-6), (t, name)
                assert now[own].dtype == np.float32
    assert len(expected) == TENSORS
    assert np.abs(now["average/00_dense/kernel"] - now["generator/00_dense/kernel"]).max() > 1e-3


def test_both_adams_have_the_settings() -> None:
    for lr_d, expected in ((None, 0.1), (0.4, 0.4)):
        state = State(replace(SETTINGS, lr=0.1, lr_d=lr_d, beta1=0.2, beta2=0.3), cpu())
        for adam, lr in ((state.adam_G, 0.1), (state.adam_D, expected)):
            assert (adam.lr, adam.beta1, adam.beta2) == (lr, 0.2, 0.3)


def test_the_discriminator_drops_as_much_as_the_settings_say() -> None:
    D = State(replace(SETTINGS, dropout=0.1), cpu()).D
    assert [layer.rate for layer in D.layers.values() if isinstance(layer, layers.Dropout)] == [0.1, 0.1]


def test_averaging_does_not_change_the_training() -> None:
    averaged, plain = go(State(SETTINGS, cpu()), 20), State(replace(SETTINGS, average=0.0), cpu())
    go(plain, 20)
    ours, theirs = averaged.weights(), plain.weights()
    assert len(ours) == len(theirs) + TENSORS
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_checkpoint_without_the_average_is_refused(tmp_path: Path) -> None:
    plain = State(replace(SETTINGS, average=0.0), cpu()).arrays()
    with pytest.raises(CheckpointError, match="average/00_dense/kernel"):
        State(SETTINGS, cpu()).restore(plain, tmp_path)


# A resumed run ends with the bits of one that was never stopped, and needs everything that is saved.


STEPS = 9  # three epochs of 8, 8 and 3 images; the average moves at step 8
MOVED = 8  # by this step every array has changed


def ended(state: State) -> str:
    return checkpoint.content_digest(state.arrays(), {})


@pytest.fixture(scope="module", params=["readable", "fast"])
def whole(request: pytest.FixtureRequest) -> tuple[str, str]:
    """An engine, and the digest of the final state of an uninterrupted run on it."""
    return request.param, ended(go(State(SETTINGS, cpu(request.param)), STEPS))


@pytest.mark.parametrize("stop", range(1, STEPS))
def test_a_run_resumed_after_any_step_ends_with_the_same_bits(
    tmp_path: Path, whole: tuple[str, str], stop: int
) -> None:
    engine, expected = whole
    file = tmp_path / "it.npz"
    checkpoint.save(file, go(State(SETTINGS, cpu(engine)), stop).arrays(), {})
    resumed = State(SETTINGS, cpu(engine))
    resumed.restore(checkpoint.read(file)[0], file)
    assert ended(go(resumed, STEPS - stop)) == expected


def test_leaving_out_any_one_of_the_saved_arrays_shows(tmp_path: Path, whole: tuple[str, str]) -> None:
    """The control: replacing any one array by that of another run's start changes the end."""
    engine, expected = whole
    arrays = go(State(SETTINGS, cpu(engine)), MOVED).arrays()
    arrays = {name: array.copy() for name, array in arrays.items()}  # some are the arrays in use
    other = State(replace(SETTINGS, seed=1), cpu(engine)).arrays()
    unseen = []
    for left_out in arrays:
        resumed = State(SETTINGS, cpu(engine))
        resumed.restore(arrays | {left_out: other[left_out].copy()}, tmp_path)
        if ended(go(resumed, STEPS - MOVED)) == expected:
            unseen.append(left_out)
    assert unseen == [] and len(arrays) > 60


@pytest.mark.parametrize("change", [{"seed": 1}, {"lr": 2e-3}, {"beta1": 0.6}, {"average": 0.05}])
def test_leaving_out_any_one_of_the_saved_settings_shows(
    tmp_path: Path, whole: tuple[str, str], change: dict[str, float]
) -> None:
    engine, expected = whole
    settings = replace(SETTINGS, **change)
    resumed = State(settings, cpu(engine))
    resumed.restore(go(State(SETTINGS, cpu(engine)), 4).arrays(), tmp_path)
    assert ended(go(resumed, STEPS - 4)) != expected


@pytest.mark.parametrize("engine", ["readable", "fast"])
def test_a_run_of_an_earlier_version_can_be_resumed(tmp_path: Path, engine: str) -> None:
    """It was trained before ops became objects, for 4 of 6 steps; ``after_epoch_0002.npz`` is its end."""
    old, run = Path(__file__).parent.parent / "golden/old_run", tmp_path / "runs/0001-strokes"
    shutil.copytree(old, run)
    (run / "samples").mkdir()
    options = f"--resume {run} --device cpu --engine {engine} --no-gif --no-report"
    assert train.main(options.split()) == 0
    found, _ = checkpoint.read(run / "checkpoints/epoch_0002.npz")
    expected, _ = checkpoint.read(old / "after_epoch_0002.npz")
    assert found.keys() == expected.keys() and found["step"] == expected["step"] == 6
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        off = np.abs(found[name] - array) / max(1, np.abs(array).max())
        # Where a gradient is almost 0, rounding alone decides the direction of Adam's step.
        assert off.max() <= 4e-3 and (off > 1e-4).mean() <= 0.02, (name, off.max())


# Malicious checkpoints, whose digest and seal are correct.


SMALL = Settings(size=4, width=1, noise_dim=2, batch_size=2)
ODD = (
    None, True, "", "x", "a\nb", "x" * 999, -1, 0, 1.5, 10**7, 10**12, 10**400, 1e300, [1], {}, [[]],
)  # fmt: skip


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_settings_may_hold_anything_and_are_taken_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    arrays, file, refused = State(SMALL, cpu()).arrays(), tmp_path / "it.npz", 0
    for value in ODD:
        checkpoint.save(file, arrays, {"settings": asdict(SMALL) | {name: value}})
        try:
            load(file).generate(1)
        except CheckpointError as problem:
            refused += 1
            assert len(str(problem).splitlines()) == 1 and len(str(problem)) < 500, value
    assert refused >= 10 or DESCRIBED[name].metadata["resumed"] == "forgets"


@pytest.mark.parametrize("meta", [{"settings": {"a\nb": 1}}, {"settings": {"x" * 999: 1}}, {"settings": []}])
def test_settings_of_other_names_are_refused_in_one_line(tmp_path: Path, meta: dict[str, object]) -> None:
    checkpoint.save(tmp_path / "it.npz", State(SMALL, cpu()).arrays(), meta)
    with pytest.raises(CheckpointError) as refusal:
        load(tmp_path / "it.npz")
    assert len(str(refusal.value).splitlines()) == 1 and len(str(refusal.value)) < 500


@pytest.mark.parametrize(
    "larger", [{"noise_dim": 10**8}, {"size": 4 * 10**4}, {"width": 2600}, {"noise_dim": 400}]
)
def test_a_small_file_that_describes_a_large_model_takes_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, larger: dict[str, int]
) -> None:
    checkpoint.save(
        tmp_path / "it.npz", State(SMALL, cpu()).arrays(), {"settings": asdict(replace(SMALL, **larger))}
    )
    monkeypatch.setattr("tinygan.runs.state.State", lambda *_: pytest.fail("a model was made"))
    with pytest.raises(CheckpointError, match="its settings ask for .* weights, but it holds"):
        load(tmp_path / "it.npz")


def test_a_configuration_that_describes_a_large_model_has_no_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.create(tmp_path / "runs", "run")
    run.write_config({"settings": asdict(replace(SMALL, noise_dim=10**8))})
    monkeypatch.setattr("tinygan.report.State", lambda *_: pytest.fail("a model was made"))
    fails(tinygan("report", cwd=tmp_path), 5, "asks for 400,000,300 weights, but there is no checkpoint")


@pytest.mark.parametrize("name", ["step", "generator/adam_t", "discriminator/adam_t"])
@pytest.mark.parametrize("value", [-1, 1 << 40])
def test_an_impossible_count_of_steps_is_refused(tmp_path: Path, name: str, value: int) -> None:
    state = State(SMALL, cpu())
    with pytest.raises(CheckpointError, match=f"{name} is {value}"):
        state.restore(state.arrays() | {name: np.array(value)}, tmp_path)


def test_a_run_is_made_of_what_a_reader_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    Mine, original = type("Mine", (optim.Adam,), {}), models.discriminator  # noqa: N806
    monkeypatch.setattr(optim, "Adam", Mine)
    monkeypatch.setattr(
        models, "discriminator", lambda *given, **named: original(*given, **named | {"width": 3})
    )
    monkeypatch.setattr(gan, "generate", lambda G, noise: 2 * noise)
    state = State(Settings(width=2, noise_dim=5), CPU)
    assert type(state.adam_G) is type(state.adam_D) is Mine
    assert state.D.parameters["00_conv/kernel"].shape == (5, 5, 1, 3)
    assert (pictures_of(state.G, np.ones((1, 5), np.float32)) == 2).all()


def test_an_evaluation_needs_the_classifier_s_own_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers.Conv2D, "__call__", lambda self, x, mode: x)
    with pytest.raises(UsageError, match=r"^layers\.Conv2D was changed: FCD cannot be measured"):
        Evaluation(Settings(data="strokes"))
