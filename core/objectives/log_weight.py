"""A learned weight of the loss in time, trained beside the model as a player of its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.nets.embeddings import sinusoid
from core.nets.initial import Normal, initialise
from core.nets.layers import Dense
from core.times.unit import Times

FEATURES = 8


class LogWeight(eqx.Module):
    """`w(s, t)`: a small network of two times, zero at the start.

    Trained on `e^w L - w`, it makes the weighted loss of every pair of times 1 in the mean. Source:
    EDM2 (arXiv 2312.02696), eq. 21; sCM (arXiv 2410.11081), eq. 8.
    """

    hidden: Dense
    output: Dense

    def __init__(self, width: int, *, normal: Normal):
        self.hidden = Dense(4 * FEATURES, width, normal=normal)
        self.output = Dense(width, 1, scale=0.0, normal=normal)

    def __call__(self, times: Times) -> Float[Array, ""]:
        features = [sinusoid(time, FEATURES, 8.0) for time in (times.s, times.t)]
        hidden = jax.nn.silu(self.hidden(jnp.concatenate(features)))
        return self.output(hidden)[0]


def log_weight(key: Key[Array, ""], width: int = 64) -> LogWeight:
    """A fresh learned weight, `e^w = 1` everywhere."""
    return initialise(lambda normal: LogWeight(width, normal=normal), key)
