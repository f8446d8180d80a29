"""Trained models in Python: noise, pictures, walks and scores; copies; display in notebooks."""

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tinygan
from tests.checks import numbers
from tests.commands import RUN, TINY, TINY_STEPS, clean_environment, works
from tinygan.arrays import CPU, Backend
from tinygan.autograd import Tensor, grad
from tinygan.data import normalise
from tinygan.errors import CheckpointError, DeviceError, ShapeError, UsageError
from tinygan.models import generator
from tinygan.runs.settings import Settings
from tinygan.runs.state import State, pictures_of, sample_noise
from tinygan.trained import great_circle, squares
from tinygan.views.pictures import grid, to_uint8


@pytest.fixture(scope="module")
def cwd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    cwd = tmp_path_factory.mktemp("trained")
    works("train", *TINY, "--epochs", 2, "--lr", 0.01, "--no-gif", "--no-report", cwd=cwd)
    return cwd


@pytest.fixture(scope="module")
def model(cwd: Path) -> tinygan.Trained:
    return tinygan.load(cwd / RUN)


@pytest.fixture(scope="module")
def run(model: tinygan.Trained) -> tinygan.Run:
    return model.run


# Noise, pictures and scores.


def test_device_and_engine_are_those_of_the_commands_by_default(cwd: Path, model: tinygan.Trained) -> None:
    assert (model.G.backend.device, model.G.backend.engine) == ("cpu", "fast")
    other = tinygan.load(cwd / RUN, device="cpu", engine="readable")
    assert other.G.backend.engine == "readable"
    assert np.allclose(other.generate(5), model.generate(5), atol=1e-5)
    with pytest.raises(DeviceError, match="not marked as one that uses a GPU"):
        tinygan.load(cwd / RUN, device="gpu")


def test_a_seed_gives_the_same_pictures_and_several_one_each(model: tinygan.Trained) -> None:
    expected = pictures_of(model.G, sample_noise(7, 3, model.G))
    assert (model.generate(3, seed=7) == expected).all() and model.generate().shape == (16, 28, 28, 1)
    each = np.concatenate([sample_noise(seed, 1, model.G) for seed in (3, 0, 9)])
    assert (model.noise(seed=[3, 0, 9]) == each).all()
    assert (model.generate(seed=[3, 0, 9]) == pictures_of(model.G, each)).all()


def test_noise_rows_give_pictures_and_a_single_vector_gives_one(model: tinygan.Trained) -> None:
    noise = np.random.default_rng(0).normal(size=(4, 5))  # float64; computations stay in float32
    found = model.generate(noise=noise)
    assert found.dtype == np.float32
    assert (found == pictures_of(model.G, noise.astype(np.float32))).all()
    assert np.allclose(model.generate(noise=noise[2].tolist()), found[2:3], atol=1e-6)


def test_a_walk_starts_and_ends_at_its_noise_and_stays_on_the_sphere(model: tinygan.Trained) -> None:
    a, b = model.noise(2, seed=3)
    walk = model.interpolate(a, b, frames=9)
    ends = model.generate(noise=[a, b])
    assert len(walk) == 9 and np.allclose(walk[[0, -1]], ends, atol=1e-5)
    b *= np.linalg.norm(a) / np.linalg.norm(b)
    t = np.array([0, 0.25, 0.5, 1], np.float32)
    points = great_circle(a, b, t)
    assert np.allclose(np.linalg.norm(points, axis=1), np.linalg.norm(a))  # on the sphere
    cosines = points @ a / (a @ a)
    assert np.allclose(np.arccos(cosines[1:3]), np.arccos(cosines[3]) * t[1:3], rtol=1e-4)  # evenly
    assert np.isfinite(great_circle(np.zeros(5, np.float32), b, t)).all()


def test_scores_are_the_same_for_bytes_and_floats_and_print_the_range(model: tinygan.Trained) -> None:
    images, said = to_uint8(model.generate(3)), []
    by_bytes, by_floats = (model.scores(some, said.append) for some in (images, normalise(images)))
    assert (by_bytes == by_floats).all() and by_bytes.shape == (3,)
    assert (model.scores(normalise(images).astype(np.float64), said.append) == by_floats).all()
    low, high = images.min(), images.max()
    assert said[0] == f"scores   3 pictures with values from {low} to {high}, read as bytes in [0, 255]"
    assert "read as numbers in [-1, 1]" in said[1]
    blocks = model.scores(np.repeat(images, 200, axis=0), str)  # more than one block
    assert blocks.shape == (600,) and np.allclose(blocks[::200], by_bytes, atol=1e-6)


# Noise that gives a certain picture.


def test_the_noise_found_for_a_picture_by_g_reproduces_it(model: tinygan.Trained) -> None:
    wanted = model.generate(2, seed=9)
    start, found = (model.like(wanted, steps=steps) for steps in (0, 300))
    assert found.shape == (2, 5) and found.dtype == np.float32
    before, after = (np.abs(model.generate(noise=noise) - wanted).max((1, 2, 3)) for noise in (start, found))
    assert (after < before / 20).all() and (before > 0.03).all()
    alone, both = (model.like(pictures, steps=9) for pictures in (wanted[1], wanted))
    assert alone.shape == (1, 5) and np.allclose(alone, both[1:2], atol=1e-3)
    taken = to_uint8(wanted[1])
    assert (model.like(taken, steps=2) == model.like(normalise(taken), steps=2)).all()


def test_the_start_is_the_best_of_256_vectors_of_the_seed(model: tinygan.Trained) -> None:
    wanted, noise = model.generate(2, seed=9), model.noise(256, seed=3)
    apart = [[((one - other) ** 2).mean() for other in model.generate(noise=noise)] for one in wanted]
    assert (model.like(wanted, seed=3, steps=0) == noise[np.argmin(apart, axis=1)]).all()


def test_the_gradient_of_the_noise_is_that_of_the_mean_squared_difference() -> None:
    G = generator(size=8, width=2, noise_dim=3)
    for name, tensor in (G.parameters | G.statistics).items():  # in float64
        tensor.data = tensor.data.astype(np.float64) * (3 if name.endswith("kernel") else 1)
    noise, target = numbers(1, 2, 3), numbers(2, 2, 8, 8, 1)
    (found,) = grad(squares(G(z := Tensor(noise)), target=target), [z])

    def loss(n: int, change: np.ndarray) -> float:
        return float(((G(noise[n : n + 1] + change).data[0] - target[n]) ** 2).mean())

    assert np.abs(found).max() > 1e-3
    for n, i in np.ndindex(2, 3):  # the gradients of each vector
        step = 1e-6 * np.eye(3)[i]
        assert found[n, i] == pytest.approx((loss(n, step) - loss(n, -step)) / 2e-6, rel=1e-4)


def test_noise_for_a_picture_is_found_on_any_device(backend: Backend) -> None:
    settings = Settings(width=2, noise_dim=3, size=8)
    there, here = (tinygan.Trained(State(settings, one), Path("it.npz")) for one in (backend, CPU))
    wanted = here.generate(2, seed=9)
    assert np.allclose(there.like(wanted, steps=20), here.like(wanted, steps=20), atol=1e-3)


# Invalid arguments.


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda m: m.scores(np.full((2, 28, 28, 1), 200.0)), "float64 from 200 to 200. Use uint8"),
        (lambda m: m.scores(np.zeros((2, 28, 28, 1), int)), "int64 from 0 to 0"),
        (lambda m: m.scores(np.full((2, 28, 28, 1), np.nan)), "from nan to nan"),
        (lambda m: m.scores(None), "object from 0 to 0. Use uint8"),
        (lambda m: m.like(np.zeros((1, 28, 28, 1), int)), "like got int64 from 0 to 0. Use uint8"),
        (lambda m: m.like(m.generate(1), steps=-1), "steps is -1. Use a whole number from 0"),
        (lambda m: m.generate(0), "n is 0. Use a whole number from 1 to 1,000,000."),
        (lambda m: m.generate(2.5), "n is 2.5. Use"), (lambda m: m.generate(10**9), "n is 1000000000. Use"),
        (lambda m: m.generate(seed="a"), "the seed is 'a'"),
        (lambda m: m.generate(noise=m.noise(3) * 1j), "the noise is not an array of numbers"),
        (lambda m: m.generate(noise=m.noise(3), seed=1), "got noise together with n or seed"),
        (lambda m: m.generate(seed=-1), "the seed is -1"),
        (lambda m: m.generate(seed=[]), "0 seeds"),
        (lambda m: m.noise(3, seed=[1, 2]), "2 seeds and n 3"),
        (lambda m: m.generate(3, noise=m.noise(3)), "generate got noise together with n or seed"),
        (lambda m: m.generate(noise="noise"), "the noise is not an array of numbers"),
        (lambda m: m.generate(noise=np.full((2, 5), np.nan)), "not finite"),
        (lambda m: m.interpolate(*m.noise(2), frames=1), "frames is 1. Use a whole number from 2 to"),
        (lambda m: tinygan.load(m.run, device="tpu"), "unknown device 'tpu'. Use one of: auto, cpu, gpu."),
    ],
)  # fmt: skip
def test_wrong_arguments_give_one_line_errors(model: Any, wrong: Callable[[Any], object], words: str) -> None:
    with pytest.raises(UsageError) as problem:
        wrong(model)
    assert words in str(problem.value) and "\n" not in str(problem.value)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda m: m.generate(noise=np.zeros((3, 7))), "shape (3, 7). This generator needs (N, 5)."),
        (lambda m: m.generate(noise=np.zeros((0, 5))), "shape (0, 5)"),
        (lambda m: m.interpolate(m.noise(2), m.noise(1)), "shape (2, 5). This generator needs (5,)."),
        (lambda m: m.scores(np.zeros((2, 28, 28), np.uint8)), "It needs (N, 28, 28, 1)."),
        (lambda m: m.like(np.zeros((2, 28, 27, 1))), "of 28, 28, 1. These have shape (2, 28, 27, 1)."),
        (lambda m: m.like(np.zeros((0, 28, 28, 1))), "These have shape (0, 28, 28, 1)."),
        (lambda m: m.like(np.zeros((257, 28, 28, 1))), "like takes 1 to 256 pictures of 28, 28, 1."),
    ],
)
def test_an_error_names_a_wrong_shape(model: Any, wrong: Callable[[Any], object], words: str) -> None:
    with pytest.raises(ShapeError) as problem:
        wrong(model)
    assert words in str(problem.value)


# Copies, pickles, plain arrays, notebooks.


def test_copies_and_pickles_of_a_model_keep_its_changes(model: tinygan.Trained) -> None:
    changed = copy.deepcopy(model)
    kernel = changed.G.parameters["00_dense/kernel"]
    kernel.data = kernel.data + 1
    again = pickle.loads(pickle.dumps(changed))
    assert (again.generate(3) == changed.generate(3)).all()
    assert not (changed.generate(3) == model.generate(3)).all()
    assert again.G.backend.engine == "fast" and again.settings == model.settings


def test_a_pickled_model_opens_in_another_process(model: tinygan.Trained, cwd: Path) -> None:
    (cwd / "model.pickle").write_bytes(pickle.dumps(model))
    code = "import pickle; print(pickle.load(open('model.pickle', 'rb')).generate(2).tobytes().hex())"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=clean_environment(cwd), text=True, stdout=subprocess.PIPE
    )
    assert found.stdout.strip() == model.generate(2).tobytes().hex()


def test_arithmetic_on_pictures_gives_plain_arrays(model: tinygan.Trained) -> None:
    pictures = model.generate(4)
    assert type(pictures) is type(pictures[1:]) is type(pictures[0]) is tinygan.Pictures
    assert type(pictures * 2) is type(np.asarray(pictures)) is type(pictures.mean(axis=0)) is np.ndarray
    assert type(pictures.max()) is np.float32


def test_a_notebook_shows_pictures_as_a_grid(model: tinygan.Trained, tmp_path: Path) -> None:
    def shown(pictures: tinygan.Pictures) -> np.ndarray:
        return np.asarray(Image.open(BytesIO(pictures._repr_png_() or b"")))

    pictures = model.generate(300)
    assert (shown(pictures[:5]) == grid(np.asarray(pictures[:5]))[..., 0]).all()
    assert (shown(pictures[0]) == grid(np.asarray(pictures[:1]))[..., 0]).all()
    assert (shown(pictures) == grid(np.asarray(pictures[:256]))[..., 0]).all()
    assert pictures[0, 0]._repr_png_() is None  # a row of pixels
    pictures[:5].save(tmp_path / "five.png")
    assert (np.asarray(Image.open(tmp_path / "five.png")) == shown(pictures[:5])).all()


def test_a_run_has_its_statistics_as_arrays(run: tinygan.Run) -> None:
    assert (run.losses["d_loss"] == run.read_losses()[:, 1]).all() and len(run.losses) == 2 * TINY_STEPS
    first, second = run.read_stats()
    assert run.epochs["g_loss"].tolist() == [first["g_loss"], second["g_loss"]]
    assert run.epochs["epoch"].tolist() == [1, 2] and np.isnan(run.epochs["fcd"]).all()


def test_a_run_shows_its_verdict_samples_and_curves(run: tinygan.Run, tmp_path: Path) -> None:
    page = run._repr_html_()
    assert "epoch 2: too early to say" in page and "data:image/png;base64," in page
    assert page.count("<polyline") == 2 and ">G's loss<" in page
    (tmp_path / "<b>").mkdir()
    (tmp_path / "<b>/config.json").write_text("{}")
    assert tinygan.Run(tmp_path / "<b>")._repr_html_().count("<") == 4  # an empty run: no pictures, no curves


def test_a_run_is_a_path_and_a_model_knows_its_run(run: tinygan.Run, cwd: Path) -> None:
    assert str(run) == str(cwd / RUN) and Path(run).is_dir()
    assert tinygan.Run(str(run)).losses.tolist() == run.losses.tolist()
    with pytest.raises(CheckpointError, match=r"gone is not a run: .*config.json is missing"):
        tinygan.Run(cwd / "gone")
    assert "epoch_0002" in repr(tinygan.load(run))
    with pytest.raises(CheckpointError, match="does not exist"):
        tinygan.load(cwd / "gone")


def test_all_public_names_exist() -> None:
    for name in tinygan.__all__:
        assert name in dir(tinygan) and getattr(tinygan, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'leap'"):
        _ = tinygan.leap  # pyright: ignore[reportAttributeAccessIssue]
