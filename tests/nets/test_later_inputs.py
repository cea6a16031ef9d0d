"""A second time and guidance in published networks: nothing at the start, and then an input."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.nets import (
    DiffusersUNetConfig,
    EDM2UNetConfig,
    EDMUNetConfig,
    OfficialDiTConfig,
)
from core.nets.later_inputs import LaterInput
from tests.compiling import once
from tests.nets.randomised import given, noise, skeleton

DIT = OfficialDiTConfig(width=16, depth=1, heads=2, frequencies=4, times="s", clock="reversed")
EDM = EDMUNetConfig(channels=8, multipliers=(1,), blocks=1, attention=())
CASES = {
    "official-dit": DIT,
    "official-dit-own": dataclasses.replace(DIT, own_embedders=True),
    "edm-unet": EDM,
    "edm-unet-adm": dataclasses.replace(EDM, variant="adm"),
    "edm2-unet": EDM2UNetConfig(channels=8, multipliers=(1,), blocks=1, attention=()),
    "diffusers-unet": DiffusersUNetConfig(
        channels=(8,), layers=1, down=("DownBlock2D",), up=("UpBlock2D",), groups=4,
        middle_groups=4, clock="linear 0.0001 0.02 1000",
    ),
}  # fmt: skip
SHAPE = (4, 4, 2)
S, T = np.float32([1.0, 0.0, 0.7]), np.float32([0.0, 1.0, 0.2])


def pair(config, key):
    """A network of one time with random weights, and the same with later inputs as they begin."""
    later = dataclasses.replace(config, second_time=True, guidance=True)
    old = noise(skeleton(config, SHAPE, 3), key, 0.3)
    new = later.build(SHAPE, 3, key=key)
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in
              jax.tree_util.tree_leaves_with_path(old)}  # fmt: skip
    fill = lambda path, leaf: arrays.get(jax.tree_util.keystr(path), leaf)  # noqa: E731
    return old, jax.tree_util.tree_map_with_path(fill, new)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_a_later_input_changes_no_bit_at_the_start_and_counts_afterwards(name, getkey, normal):
    old, new = pair(CASES[name], getkey())
    assert not old.takes_guidance and new.takes_guidance
    moved = jax.tree.map(
        lambda part: noise(part, getkey()) if isinstance(part, LaterInput) else part,
        new,
        is_leaf=lambda part: isinstance(part, LaterInput),
    )
    x = normal(3, *SHAPE)

    @once
    def run(old, new, moved, x, s, t):
        def one(x, s, t):
            cond, guided = given(1), given(1, (3.0, 0.1, 0.8))
            call = lambda x, s, t: moved(x, s, t, guided)  # noqa: E731
            tangent = jnp.ones_like(x), jnp.ones_like(s), jnp.ones_like(t)
            value, slope = jax.jvp(call, (x, s, t), tangent)
            return (old(x, s, s, cond), old(x, s, t, cond), new(x, s, t, guided),
                    value, moved(x, s, t, cond), moved(x, s, s, guided), slope)  # fmt: skip

        return jax.vmap(one)(x, s, t)

    diagonal, before, start, value, unguided, still, slope = run(old, new, moved, x, S, T)
    assert np.abs(before).max() > 1e-3
    np.testing.assert_array_equal(start, before)
    np.testing.assert_array_equal(start, diagonal)
    for other in (start, unguided, still):
        assert np.abs(value - other).max() > 1e-5
    assert np.isfinite(slope).all()


def test_a_magnitude_preserving_input_keeps_the_magnitude(normal, getkey):
    """Whatever the gain, EDM2's conditioning vector stays of unit magnitude, about."""
    config = dataclasses.replace(CASES["edm2-unet"], second_time=True)
    step = config.build(SHAPE, 0, key=getkey()).later.step
    wide = eqx.tree_at(lambda part: part.gain, step, np.float32(5.0))
    e, steps = normal(64, 8), normal(64)
    out = once(jax.vmap(lambda e, h: wide(e, [h])))(e, steps)
    assert 0.5 < np.sqrt(np.mean(out**2)) < 1.5
