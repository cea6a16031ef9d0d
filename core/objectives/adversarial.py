"""The losses of a generator and of its discriminator: the hinge.

    L_G = -E D(x)
    L_D = E (1 - D(x_0))_+ + E (1 + D(x))_+ + r / 2 E |grad D(x_0)|^2

The original saturating form (the lecture notes' eq. 1.45) teaches the generator nothing from
samples that the discriminator knows for fakes. Where the two distributions are equal the constant
`D = 0` is a stationary point of both losses.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.flow.teacher import frozen
from core.nets.discriminator import Discriminator

Labels = Int[Array, " n"] | None


def generator_loss(
    discriminator: Discriminator, fake: Float[Array, " n *shape"], label: Labels
) -> Float[Array, " n"]:
    """`-D(x)` of each example; no gradient reaches the discriminator."""
    return -jax.vmap(frozen(discriminator))(fake, label)


def discriminator_loss(
    discriminator: Discriminator,
    real: Float[Array, " n *shape"],
    fake: Float[Array, " n *shape"],
    label: Labels,
    penalty: float = 0.0,
) -> Float[Array, " n"]:
    """The hinge of each pair of a real and a generated example; none reaches the generator.

    `penalty` is `r`, the weight of the squared gradient at real examples (R1, arXiv 1801.04406).
    """
    fake = jax.lax.stop_gradient(fake)
    both = None if label is None else jnp.concatenate([label, label])
    on_real, on_fake = jnp.split(jax.vmap(discriminator)(jnp.concatenate([real, fake]), both), 2)
    loss = jax.nn.relu(1 - on_real) + jax.nn.relu(1 + on_fake)
    if not penalty:
        return loss
    slopes = jax.vmap(jax.grad(lambda x, c: discriminator(x, c)))(real, label)
    return loss + penalty / 2 * jnp.sum(slopes.reshape(len(real), -1) ** 2, axis=1)
