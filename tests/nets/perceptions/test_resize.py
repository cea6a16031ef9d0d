"""Resize rules against Pillow and against what a ramp must become."""

import numpy as np
import pytest
from PIL import Image

from core.nets.perceptions.resize import pillow_bicubic, tensorflow_bilinear, torch_bicubic


@pytest.mark.parametrize("size", [(32, 32), (300, 427), (17, 500), (224, 224), (1, 3)])
def test_the_bicubic_rule_is_that_of_pillow(rng, size):
    """Of one channel in float, up and down."""
    image = rng.uniform(0, 255, size).astype(np.float32)
    theirs = np.asarray(Image.fromarray(image).resize((224, 224), Image.Resampling.BICUBIC))
    ours = pillow_bicubic(size[0], 224) @ image @ pillow_bicubic(size[1], 224).T
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_tensorflow_s_rule_takes_no_half_pixel():
    """A ramp stays one, begins at its first value, and stands still beyond its last."""
    ramp = np.arange(32.0)
    expected = np.minimum(np.arange(299) * 32 / 299, 31)
    np.testing.assert_allclose(tensorflow_bilinear(32, 299) @ ramp, expected, atol=1e-5)
    np.testing.assert_array_equal(tensorflow_bilinear(299, 299), np.eye(299))
    np.testing.assert_allclose(
        tensorflow_bilinear(64, 19) @ np.arange(64.0), np.arange(19) * 64 / 19, atol=1e-5
    )


def test_torch_s_bicubic_keeps_constants_and_ramps_inside():
    """The kernel of a = -3/4 has no exact ramp, but is even around each half step."""
    matrix = torch_bicubic(37, 16, 37 / 16.1)
    np.testing.assert_allclose(matrix.sum(axis=1), 1)
    assert (np.count_nonzero(matrix, axis=1) <= 4).all()
    where = (np.arange(16) + 0.5) * 37 / 16.1 - 0.5
    np.testing.assert_allclose(matrix @ np.arange(37.0), where, atol=0.13)
    middle = torch_bicubic(4, 1, 4.0)[0]
    np.testing.assert_allclose(middle, [-3 / 32, 19 / 32, 19 / 32, -3 / 32])
