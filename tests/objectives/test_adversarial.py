"""The game: a discriminator that learns, and the way that it shows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.nets.discriminator import discriminator
from core.objectives.adversarial import discriminator_loss, generator_loss
from tests.compiling import once


@pytest.mark.parametrize("shape", [(3,), (4, 4, 1)])
def test_a_trained_discriminator_knows_fakes_by_their_label_and_shows_the_way(shape):
    """Real examples lie on the side of their label, fakes on the other one."""
    fresh = discriminator(shape, 2, 8, key=jr.key(0))
    arrays, static = eqx.partition(fresh, eqx.is_inexact_array)

    @once
    def trained(arrays, label):
        side = (2.0 * label - 1).reshape(-1, *[1] * len(shape))

        def step(arrays, key):
            noise = jr.normal(key, (2, 64, *shape))
            real, fake = noise[0] + side, noise[1] - side

            def loss(arrays):
                judge = eqx.combine(arrays, static)
                return jnp.mean(discriminator_loss(judge, real, fake, label, 0.01))

            arrays = jax.tree.map(lambda p, g: p - 0.02 * g, arrays, jax.grad(loss)(arrays))
            return arrays, (real, fake)

        arrays, pairs = jax.lax.scan(step, arrays, jr.split(jr.key(1), 80))
        judge = eqx.combine(arrays, static)
        real, fake = (x[-1] for x in pairs)
        on_real, on_fake = (-generator_loss(judge, x, label) for x in (real, fake))
        downhill = -jax.grad(lambda x: jnp.mean(generator_loss(judge, x, label)))(fake)
        return on_real, on_fake, jnp.mean(downhill * side)

    on_real, on_fake, towards = trained(arrays, np.arange(64, dtype=np.int32) % 2)
    assert np.mean(on_real > 0) > 0.9 and np.mean(on_fake < 0) > 0.9
    assert towards > 0
