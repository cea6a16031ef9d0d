"""Pools, depthwise filters and folded norms against NumPy."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.nets.perceptions.layers import average_pool, depthwise, folded, max_pool
from tests.compiling import once
from tests.nets.perceptions import plain
from tests.nets.perceptions.sources import source_of


@pytest.mark.parametrize("shape", [(5, 7, 3), (2, 1, 2), (1, 1, 1)])
def test_the_average_leaves_padding_out(normal, shape):
    x = normal(*shape)
    expected = plain.pool(x.transpose(2, 0, 1), np.nanmean, 1, 1).transpose(1, 2, 0)
    np.testing.assert_allclose(once(average_pool)(x), expected, atol=1e-6)


def test_the_greatest_of_a_padded_and_of_a_halved_picture(normal):
    x = normal(9, 7, 3)
    for stride, padding, pad in ((1, "SAME", 1), (2, "VALID", 0)):
        expected = plain.pool(x.transpose(2, 0, 1), np.nanmax, stride, pad).transpose(1, 2, 0)
        found = once(lambda x: max_pool(x, stride, padding))(x)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "size, kernel, stride, padding",
    [(8, 3, 2, (0, 1)), (8, 5, 2, (1, 2)), (7, 3, 2, (1, 1)), (6, 5, 1, (2, 2))],
)
def test_a_depthwise_filter_is_padded_at_the_end_first(normal, size, kernel, stride, padding):
    """As TensorFlow's "SAME": (0, 1) for 3 of an even size in steps of two, (1, 2) for 5."""
    x, weight = normal(size, size, 4), normal(kernel, kernel, 4)
    torch_weight = weight.transpose(2, 0, 1)[:, None]
    expected = plain.depthwise(x.transpose(2, 0, 1), torch_weight, stride, padding * 2)
    found = once(lambda x, w: depthwise(x, w, stride))(x, weight)
    np.testing.assert_allclose(found, expected.transpose(1, 2, 0), atol=1e-5)


def test_a_folded_norm_is_a_norm_after_a_convolution(normal, rng):
    tensors = {
        "c.weight": normal(6, 3, 3, 3), "n.weight": normal(6), "n.bias": normal(6),
        "n.running_mean": normal(6), "n.running_var": rng.uniform(0.2, 3, 6).astype(np.float32),
    }  # fmt: skip
    x = normal(8, 8, 3)
    source = source_of(tensors)
    layer = folded(source, "c", "n", (6, 3, 3, 3), 1e-3, stride=2)
    wide = {name: values.astype(np.float64) for name, values in tensors.items()}
    inner = plain.convolution(x.transpose(2, 0, 1), wide["c.weight"], 2, (0, 1, 0, 1))
    expected = plain.norm(inner, wide, "n").transpose(1, 2, 0)
    with jax.default_matmul_precision("highest"):
        np.testing.assert_allclose(once(layer)(x), expected, atol=1e-5)
    source.finish()


def test_tensors_that_do_not_fit_are_named():
    source = source_of({"a": np.zeros((2, 3)), "b": np.zeros(1)})
    with pytest.raises(UserError, match=r"file.pth: a is \(2, 3\), the network needs \(3, 2\)"):
        source.take("a", (3, 2))
    with pytest.raises(UserError, match="file.pth has no tensor c; it has a, b .*another network"):
        source.take("c", (1,))
    source.take("a", (2, 3))
    with pytest.raises(UserError, match="does not know: b"):
        source.finish()
