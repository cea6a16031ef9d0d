"""Embeddings of times, labels and guidance."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.condition import Condition
from core.nets.embeddings import Embedding, sinusoid
from core.nets.initial import initialise
from core.nets.mlp import MLPConfig


def embedding(width, num_classes, config, *, key):
    return initialise(lambda n: Embedding(width, num_classes, config, normal=n), key)


@pytest.mark.parametrize(("frequencies", "most"), [(1, 8.0), (16, 8.0), (32, 30.0)])
def test_derivative_of_the_sinusoid_is_bounded_everywhere(frequencies, most, x64):
    """|d sinusoid / dt| <= max_frequency sqrt(frequencies), for negative numbers too."""
    grid = jnp.linspace(-2.0, 2.0, 401)
    emb = jax.vmap(lambda t: sinusoid(t, frequencies, most))(grid)
    step = jnp.linalg.norm(emb[1:] - emb[:-1], axis=1) / (grid[1] - grid[0])
    slope = jnp.linalg.norm(
        jax.vmap(jax.jacfwd(lambda t: sinusoid(t, frequencies, most)))(grid), axis=1
    )
    bound = most * frequencies**0.5
    assert emb.shape == (401, 2 * frequencies)
    assert slope.max() <= bound and step.max() <= bound
    np.testing.assert_allclose(jnp.linalg.norm(emb, axis=1), frequencies**0.5)


def test_derivative_of_the_embedding_is_bounded_by_its_weights(getkey, x64):
    """Lipschitz: |de/ds| <= |B| max|silu'| (|A_1| + |A_2|) max_frequency sqrt(frequencies)."""
    config = MLPConfig()
    embed = embedding(32, 0, config, key=getkey())
    grid, t = jnp.linspace(0.0, 1.0, 101), jnp.asarray(0.3)
    slope = jax.vmap(jax.jacfwd(lambda s: embed(s, t)))(grid)
    spectral = [np.linalg.norm(d.weight, 2) for d in (*embed.inputs, embed.output)]
    bound = spectral[2] * 1.1 * (spectral[0] + spectral[1]) * config.max_frequency * 4
    size = jnp.linalg.norm(jax.vmap(lambda s: embed(s, t))(grid), axis=1).mean()
    assert jnp.linalg.norm(slope, axis=1).max() <= bound
    assert jnp.linalg.norm(slope, axis=1).max() <= config.max_frequency * size


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
    e = embed(jnp.asarray(0.5), jnp.asarray(0.2))
    close = jnp.allclose(embed(*map(jnp.asarray, same)), e, atol=1e-6)
    apart = jnp.allclose(embed(*map(jnp.asarray, other)), e, atol=1e-3)
    assert close and not apart


def test_forward_and_backward_steps_are_distinguished(getkey):
    embed = embedding(16, 0, MLPConfig(times="s-t"), key=getkey())
    ahead, back = jnp.asarray(0.3), jnp.asarray(0.8)
    assert jnp.isfinite(embed(ahead, back)).all()
    assert not jnp.allclose(embed(ahead, back), embed(back, ahead), atol=1e-3)


def test_embedding_of_bfloat16_times_is_float32(getkey):
    embed = embedding(16, 3, MLPConfig(guidance=True), key=getkey())
    s, t = jnp.asarray(0.5, jnp.bfloat16), jnp.asarray(0.25, jnp.bfloat16)
    cond = Condition(jnp.asarray(1), jnp.asarray([2.0, 0.0, 1.0]))
    assert embed(s, t, cond).dtype == jnp.float32
    np.testing.assert_array_equal(embed(s, t), embed(jnp.asarray(0.5), jnp.asarray(0.25)))


def test_label_table_has_a_row_for_the_null_class(getkey):
    embed = embedding(16, 3, MLPConfig(), key=getkey())
    s, t = jnp.asarray(0.5), jnp.asarray(0.2)
    rows = [embed(s, t, Condition(jnp.asarray(i))) - embed(s, t) for i in range(4)]
    expected = embed.labels - embed.labels[3:]
    np.testing.assert_allclose(np.stack(rows), expected, atol=1e-6)


def test_guidance_derivative_stays_bounded_for_any_scale(getkey):
    embed = embedding(16, 0, MLPConfig(guidance=True), key=getkey())
    s, t = jnp.asarray(0.5), jnp.asarray(0.2)
    w = jnp.asarray([1.0, 2.0, 10.0, 1e3, 1e6])
    embedded = jax.vmap(lambda w: embed(s, t, Condition(None, jnp.stack([w, 0 * w, 0 * w + 1]))))(w)
    assert jnp.isfinite(embedded).all()
    assert jnp.linalg.norm(embedded[4] - embedded[3]) < 0.05 * jnp.linalg.norm(
        embedded[1] - embedded[0]
    )


def test_embeddings_are_smooth_functions_of_batched_keys(getkey):
    embed = embedding(8, 2, MLPConfig(), key=getkey())
    s, t = jr.uniform(getkey(), (2, 5))
    label = jnp.asarray([0, 1, 2, 1, 0])
    together = jax.vmap(lambda s, t, y: embed(s, t, Condition(y)))(s, t, label)
    alone = [embed(s[i], t[i], Condition(label[i])) for i in range(5)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-5, atol=1e-6)
