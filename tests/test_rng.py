"""Random streams: numbers that depend only on their seed, name and path."""

import math
from itertools import islice

import numpy as np
import pytest

from tests.oracles import philox
from tinygan.errors import UsageError
from tinygan.rng import STREAMS, Stream, key, stream


def draws(place):
    return {
        "normal": place.normal((5, 3)).tobytes(),
        "uniform": place.generator().uniform(-0.2, 0.2, (5, 3)).tobytes(),
        "keep": place.keep((50, 3), 0.5).tobytes(),
        "permutation": place.generator().permutation(50).tobytes(),
    }


def test_numbers_are_a_function_of_seed_name_and_step():
    place = stream(3, "noise").at(7)
    before = draws(place.at(1))
    np.random.default_rng(0).random(10)
    assert list(islice(place.split(), 3)) == [place.at(0), place.at(1), place.at(2)]
    assert draws(place.at(1)) == draws(stream(3, "noise").at(7, 1)) == before


def test_other_seeds_names_and_steps_give_other_numbers():
    places = [
        stream(seed, name).at(*path)
        for seed in (0, 1, 2**32, 2**64)
        for name in STREAMS
        for path in ((), (0,), (0, 0), (1,), (1, 0), (2,), (1, 1), (1, 2), (12,))
    ]
    for kind in ("normal", "uniform", "permutation"):
        found = {draws(place)[kind] for place in places}
        assert len(found) == len(places)


def test_the_oracle_gives_the_published_numbers():
    # The known answers in the authors' library, Random123 (kat_vectors, philox4x64, 10 rounds).
    assert philox([0] * 4, [0] * 2) == [
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B
    ]  # fmt: skip
    assert philox([2**64 - 1] * 4, [2**64 - 1] * 2) == [
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "head", "numbers"),
    [
        ((2,), (2,), ()),
        ((2, 7), (2,), (7,)),
        ((3, 7, 1, 0), (3,), (7, 1, 0)),
        ((3, 9, 7, 1, 0), (3, 9), (7, 1, 0)),
    ],
)
def test_words_are_the_counter_encrypted(path, head, numbers):
    tail = [*numbers, 0, 0, 0][:3]
    expected = [word for i in range(5) for word in philox([i + 1, *tail], key(8, head, len(numbers)))]
    assert [int(word) for word in Stream(8, path).words(20)] == expected
    assert [int(word) for word in Stream(8, path).words(3, block=2)] == expected[8:11]


def test_normal_numbers_are_those_of_box_and_muller():
    place = stream(0, "noise").at(5)
    words = [int(word) >> 11 for word in place.words(6)]
    expected = []
    for u, v in zip(words[::2], words[1::2], strict=True):
        radius, angle = math.sqrt(-2 * math.log((u + 1) / 2**53)), 2 * math.pi * v / 2**53
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    assert place.normal((5,)) == pytest.approx(expected[:5], rel=1e-6)
    assert place.normal((2, 3)).dtype == np.float32 and place.normal((0, 4)).shape == (0, 4)


def test_uniform_numbers_fill_their_interval_and_stay_inside():
    u = stream(0, "init").generator().uniform(-0.25, 0.25, 100_000)
    assert -0.25 <= u.min() < -0.2499 and 0.2499 < u.max() < 0.25
    assert abs(u.mean()) < 5 * 0.25 / np.sqrt(3 * len(u))


def test_a_permutation_holds_every_number_once():
    order = stream(0, "shuffle").at(1).generator().permutation(1000)
    assert sorted(order) == list(range(1000)) and list(order) != list(range(1000))


@pytest.mark.parametrize(("seed", "name"), [(0, "mine"), (-1, "init"), (0.5, "init"), (None, "init")])
def test_unknown_names_and_bad_seeds_are_refused(seed, name):
    with pytest.raises(UsageError, match="Use one of init, shuffle, noise|Use a whole number"):
        stream(seed, name)


@pytest.mark.parametrize("shape", [(5, 3), (4, 7, 7, 1), (6,)])
def test_the_mask_of_a_part_of_a_batch_is_that_part_of_the_mask(shape):
    place = stream(0, "dropout").at(2)
    whole = place.keep(shape, 0.3)
    for first in range(shape[0]):
        part = place.of_examples_from(first).keep((shape[0] - first, *shape[1:]), 0.3)
        assert (part == whole[first:]).all()
