"""The benchmark of features: its shortcut keeps distances, and its pictures are what they say."""

import numpy as np
import pytest

from benchmarks.features import DISTORTIONS, flat
from core.metrics import frechet


def test_in_the_space_that_both_sets_span_distances_are_what_they_were(rng):
    x, y = rng.normal(size=(6, 40)) + 1, rng.normal(size=(9, 40)) * 2
    few = flat(x, y)
    assert few[0].shape == (6, 15) and few[1].shape == (9, 15)
    # Of fewer rows than features roots of rounded zeros count, in the whole space.
    np.testing.assert_allclose(frechet(*few), frechet(x, y), rtol=1e-6)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_distorted_pictures_are_pictures(name, rng):
    pictures = rng.integers(0, 256, (3, 16, 16, 3)).astype(np.uint8)
    found = DISTORTIONS[name](pictures, rng)
    assert found.shape == pictures.shape and found.dtype == np.uint8
    assert (name == "other half") == np.array_equal(found, pictures)
