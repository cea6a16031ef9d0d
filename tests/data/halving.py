"""A codec whose latents are means over 2 x 2 pixels, plus 3, with the standard deviation 1/4."""

import jax.numpy as jnp
from einops import reduce, repeat


class Halving:
    def encode(self, x):
        mean = reduce(x, "(h p) (w q) c -> h w c", "mean", p=2, q=2) + 3
        return mean, jnp.full_like(mean, 0.25)

    def decode(self, z):
        return repeat(z - 3, "h w c -> (h p) (w q) c", p=2, q=2)


def halving():
    return Halving()
