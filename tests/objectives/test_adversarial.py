"""The game: a discriminator that learns, and the way that it shows."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from core.nets.discriminator import discriminator
from core.objectives.adversarial import discriminator_loss, generator_loss


@pytest.mark.parametrize("shape", [(3,), (4, 4, 1)])
def test_a_trained_discriminator_knows_fakes_by_their_label_and_shows_the_way(shape):
    """Real examples lie on the side of their label, fakes on the other one."""
    judge, label = discriminator(shape, 2, 8, key=jr.key(0)), jnp.arange(64) % 2
    side = (2.0 * label - 1).reshape(-1, *[1] * len(shape))

    @eqx.filter_jit
    def step(judge, key):
        noise = jr.normal(key, (2, 64, *shape))
        real, fake = noise[0] + side, noise[1] - side

        def loss(judge):
            return jnp.mean(discriminator_loss(judge, real, fake, label, 0.01))

        gradient = eqx.filter_grad(loss)(judge)
        return jax.tree.map(lambda p, g: p - 0.02 * g, judge, gradient), real, fake

    for key in jr.split(jr.key(1), 80):
        judge, real, fake = step(judge, key)
    on_real, on_fake = (-generator_loss(judge, x, label) for x in (real, fake))
    assert jnp.mean(on_real > 0) > 0.9 and jnp.mean(on_fake < 0) > 0.9
    downhill = -jax.grad(lambda x: jnp.mean(generator_loss(judge, x, label)))(fake)
    assert float(jnp.mean(downhill * side)) > 0
