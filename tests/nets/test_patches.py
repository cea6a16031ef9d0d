"""Patches of images and of series, and the transformer on series."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.nets import DiTConfig, MLPConfig, UNetConfig
from core.nets.neighbours import with_neighbours
from core.nets.patches import cut, grid_of, joined, patch_size, sincos_positions
from core.nets.rotary import turned
from tests.compiling import once
from tests.nets.randomised import randomised

SMALL = {"width": 16, "depth": 2, "heads": 2}


@pytest.mark.parametrize("shape, side", [((12, 5), 3), ((6, 4, 7), 2), ((8, 8, 1), 4)])
def test_patches_joined_are_the_example(rng, shape, side):
    x = rng.normal(size=shape).astype(np.float32)
    found = once(lambda x: (cut(x, side), joined(cut(x, side), shape, side)))(x)
    assert found[0].shape == (np.prod(grid_of(shape, side)), patch_size(shape, side))
    assert np.array_equal(found[1], x)
    first = x[(slice(side),) * (len(shape) - 1)]
    assert np.array_equal(found[0][0], first.ravel())  # a patch holds neighbours


def test_places_along_a_line_differ_and_have_one_norm():
    table = sincos_positions((37,), 16)
    assert table.shape == (37, 16) and len(np.unique(table, axis=0)) == 37
    np.testing.assert_allclose((table**2).sum(1), 8)


def test_turned_products_depend_on_the_distance_alone(rng):
    """The same query and key in every place: products along diagonals are equal, others not."""
    q, k = (np.broadcast_to(rng.standard_normal(8), (6, 1, 8)).astype(np.float32) for _ in "qk")
    turn = once(turned)
    products = np.asarray(turn(q))[:, 0] @ np.asarray(turn(k))[:, 0].T
    np.testing.assert_allclose(products[1:, 1:], products[:-1, :-1], rtol=1e-4, atol=1e-4)
    assert len(np.unique(np.round(products[0], 2))) == 6
    np.testing.assert_allclose(np.diag(products), (q * k).sum(axis=(1, 2)), rtol=1e-4, atol=1e-4)


def test_neighbours_are_added_by_a_filter_a_channel(rng):
    h, filters = (rng.normal(size=n).astype(np.float32) for n in ((7, 3), (5, 3)))
    found = once(with_neighbours)(h, filters)
    for channel in range(3):
        added = np.correlate(h[:, channel], filters[:, channel], "same")
        np.testing.assert_allclose(found[:, channel], h[:, channel] + added, rtol=1e-5, atol=1e-5)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "flags",
    [
        {},
        pytest.param({"positions": "sincos"}, marks=SLOW),
        pytest.param({"positions": "rotary"}, marks=SLOW),
        pytest.param({"neighbours": 3}, marks=SLOW),
        pytest.param({"encoder_depth": 1}, marks=SLOW),
    ],
)
def test_the_transformer_takes_series(normal, flags):
    """Its output depends on every place, and on where a place lies."""
    net = randomised(DiTConfig(patch=3, **SMALL, **flags), (12, 5), 0, jr.key(0))
    x, s, t = normal(12, 5), np.float32(0.7), np.float32(0.2)

    def look(x, s, t):
        slope = jax.jacfwd(lambda x: net(x, s, t).sum())(x)
        return net(x, s, t), slope, net(jnp.roll(x, 3, axis=0), s, t)

    out, slope, rolled = once(look)(x, s, t)
    assert out.shape == (12, 5) and (np.abs(slope) > 0).all()
    assert np.abs(np.roll(out, 3, axis=0) - rolled).max() > 1e-4


@pytest.mark.parametrize(
    "config, shape, message",
    [
        (DiTConfig(patch=5), (12, 5), "patches of 5 do not divide series of length 12"),
        (DiTConfig(), (12,), r"images \(H, W, C\) and series \(L, C\), but the data have shape"),
        (DiTConfig(width=18, heads=2, positions="sincos"), (4, 4, 1), "divisible by 4, not 18"),
        (DiTConfig(width=15, heads=3, positions="sincos"), (4, 1), "divisible by 2, not 15"),
        (DiTConfig(positions="rotary"), (4, 4, 1), "rotary is for series and text"),
        (DiTConfig(width=9, heads=3, positions="rotary"), (4, 1), "over --net.heads must be even"),
        (DiTConfig(neighbours=3), (4, 4, 1), "neighbours is for series and text"),
        (DiTConfig(neighbours=4), (4, 1), "neighbours must be odd, got 4"),
        (DiTConfig(neighbours=3, context=1), (4, 1), "leave out --net.context"),
        (MLPConfig(), (12, 5), "use --net dit$"),
        (UNetConfig(), (12, 5), "use --net dit$"),
    ],
)
def test_networks_refuse_shapes_in_one_line(config, shape, message):
    with pytest.raises(UserError, match=message):
        config.build(shape, 0, key=jr.key(0))
