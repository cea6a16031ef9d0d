"""Embeddings of times, labels and guidance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.condition import Condition
from core.nets.embeddings import Embedding, sinusoid
from core.nets.initial import initialise
from core.nets.mlp import MLPConfig
from tests.compiling import once
from tests.nets.randomised import given, times


def embedding(width, num_classes, config, *, key):
    return initialise(lambda n: Embedding(width, num_classes, config, normal=n), key)


@pytest.mark.parametrize(("frequencies", "most"), [(1, 8.0), (16, 8.0), (32, 30.0)])
def test_derivative_of_the_sinusoid_is_bounded_everywhere(frequencies, most, x64):
    """|d sinusoid / dt| <= max_frequency sqrt(frequencies), for negative numbers too."""
    grid, wave = np.linspace(-2.0, 2.0, 401), lambda t: sinusoid(t, frequencies, most)
    emb, slopes = once(jax.vmap(lambda t: (wave(t), jax.jacfwd(wave)(t))))(grid)
    step = np.linalg.norm(emb[1:] - emb[:-1], axis=1) / (grid[1] - grid[0])
    slope = np.linalg.norm(slopes, axis=1)
    bound = most * frequencies**0.5
    assert emb.shape == (401, 2 * frequencies)
    assert slope.max() <= bound and step.max() <= bound
    np.testing.assert_allclose(np.linalg.norm(emb, axis=1), frequencies**0.5)


def test_derivative_of_the_embedding_is_bounded_by_its_weights(getkey, x64):
    """Lipschitz: |de/ds| <= |B| max|silu'| (|A_1| + |A_2|) max_frequency sqrt(frequencies)."""
    config = MLPConfig()
    embed = embedding(32, 0, config, key=getkey())

    def both(embed, s, t):
        return embed(s, t), jax.jacfwd(lambda s: embed(s, t))(s)

    values, slope = once(jax.vmap(both, (None, 0, None)))(
        embed, np.linspace(0, 1, 101), *times(0.3)
    )
    spectral = [np.linalg.norm(d.weight, 2) for d in (*embed.inputs, embed.output)]
    bound = spectral[2] * 1.1 * (spectral[0] + spectral[1]) * config.max_frequency * 4
    size, steepest = np.linalg.norm(values, axis=1).mean(), np.linalg.norm(slope, axis=1).max()
    assert steepest <= bound and steepest <= config.max_frequency * size


@pytest.mark.parametrize(
    ("times", "same", "other"),
    [
        ("s-t", (0.7, 0.4), (0.7, 0.3)),
        ("s,t", (0.5, 0.2), (0.5, 0.3)),
        ("s,s-t", (0.5, 0.2), (0.6, 0.3)),
    ],
)
def test_only_the_chosen_times_enter(times, same, other, getkey):
    embed = embedding(16, 0, MLPConfig(times=times), key=getkey())
    s, t = np.float32([(0.5, 0.2), same, other]).T
    e, close, apart = once(jax.vmap(lambda s, t: embed(s, t)))(s, t)
    np.testing.assert_allclose(close, e, atol=1e-6)
    assert not np.allclose(apart, e, atol=1e-3)


def test_forward_and_backward_steps_are_distinguished(getkey):
    embed = embedding(16, 0, MLPConfig(times="s-t"), key=getkey())
    s, t = np.float32([(0.3, 0.8), (0.8, 0.3)]).T
    ahead, back = once(jax.vmap(lambda s, t: embed(s, t)))(s, t)
    assert np.isfinite(ahead).all()
    assert not np.allclose(ahead, back, atol=1e-3)


def test_embedding_of_bfloat16_times_is_float32(getkey):
    embed = embedding(16, 3, MLPConfig(guidance=True), key=getkey())
    narrow, wide = (np.asarray([0.5, 0.25], dtype) for dtype in (jnp.bfloat16, jnp.float32))

    def each(embed, narrow, wide, cond):
        return embed(*narrow, cond), embed(*narrow), embed(*wide)

    conditioned, rounded, exact = once(each)(embed, narrow, wide, given(1, [2.0, 0.0, 1.0]))
    assert conditioned.dtype == np.float32
    np.testing.assert_array_equal(rounded, exact)


def test_label_table_has_a_row_for_the_null_class(getkey):
    embed = embedding(16, 3, MLPConfig(), key=getkey())
    row = lambda i, s, t: embed(s, t, Condition(i)) - embed(s, t)  # noqa: E731
    rows = once(jax.vmap(row, (0, None, None)))(np.arange(4), *times(0.5, 0.2))
    table = np.asarray(embed.labels)
    np.testing.assert_allclose(rows, table - table[3:], atol=1e-6)


def test_guidance_derivative_stays_bounded_for_any_scale(getkey):
    embed = embedding(16, 0, MLPConfig(guidance=True), key=getkey())
    w = np.float32([1.0, 2.0, 10.0, 1e3, 1e6])

    def at(w, s, t):
        return embed(s, t, Condition(None, jnp.stack([w, 0 * w, 0 * w + 1])))

    found = once(jax.vmap(at, (0, None, None)))(w, *times(0.5, 0.2))
    assert np.isfinite(found).all()
    assert np.linalg.norm(found[4] - found[3]) < 0.05 * np.linalg.norm(found[1] - found[0])


def test_embeddings_are_smooth_functions_of_batched_keys(getkey, rng):
    embed = embedding(8, 2, MLPConfig(), key=getkey())
    s, t = rng.random((2, 5), np.float32)
    label = np.int32([0, 1, 2, 1, 0])
    one = lambda s, t, y: embed(s, t, Condition(y))  # noqa: E731
    together, single = once(jax.vmap(one))(s, t, label), once(one)
    alone = [single(s[i], t[i], label[i]) for i in range(5)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5, atol=1e-6)
