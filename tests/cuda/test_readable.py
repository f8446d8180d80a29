"""The readable engine on CuPy: every file of `ops/` as it is."""

import numpy as np
import pytest

import tinygan
from tests.cuda.checks import CASES, Taking, batch, distance, masks, play, players, reference


@pytest.mark.parametrize("sizes", CASES[:3], ids=str)
def test_two_steps_are_those_of_the_processor(make_backend, sizes):
    backend = make_backend(engine="readable")
    assert backend.engine == "readable" and backend.precision == "float32" and not backend.twins
    expected, after = reference(sizes, steps=2)
    found, ours = play(backend, sizes, steps=2)
    assert np.array(found) == pytest.approx(np.array(expected), rel=1e-4)
    for name, values in after.items():
        if not name.endswith(("/m", "/v")):
            assert distance(ours[name], values) < 1e-4, name


def test_its_arrays_stay_on_the_card(make_backend):
    backend = make_backend(engine="readable")
    ours = players(backend, CASES[2])
    images, noise = map(backend.array, batch(CASES[2]))
    measured = Taking(ours, CASES[2]).take(images, noise, *masks())
    weights = [p.data for net in ours[:2] for p in net.parameters.values()]
    arrays = [*measured, *weights, *ours.adam_G.m.values()]
    assert all(type(array).__module__.startswith("cupy") for array in arrays)
    assert all(array.dtype == np.float32 for array in arrays)


def test_public_functions_find_the_card_by_their_arrays(make_backend):
    backend = make_backend(engine="readable")
    y = tinygan.conv2d(backend.array(np.ones((1, 4, 4, 1), "f")), backend.array(np.ones((3, 3, 1, 2), "f")))
    assert y.backend.device == "gpu" and y.shape == (1, 4, 4, 2)
    assert backend.numpy(y.data)[0, 1, 1, 0] == 9
