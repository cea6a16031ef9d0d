"""The drift of samples: attracted by data, repelled by one another.

    V(x) = E_p[k (y - x)] / E_p[k] - E_q[k (y - x)] / E_q[k],   k(x, y) = exp(-|x - y| / tau)

with `p` the data and `q` the generated law. It vanishes where `p = q` and changes its sign when
they change places. Source: drifting models (Deng et al., 2026), eqs. 2-5; the lecture notes
"Faster Sampling", eqs. 1.62-1.67.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

FAR = -1e9


def mean_shift_field(
    x: Float[Array, "n dim"],
    positive: Float[Array, "p dim"],
    negative: Float[Array, "q dim"],
    temperature: float,
) -> Float[Array, "n dim"]:
    """The formula itself, each expectation with its own normaliser: for checks and pictures."""

    def pull(y: Float[Array, "m dim"]) -> Float[Array, "n dim"]:
        return jax.nn.softmax(-distances(x, y) / temperature, axis=1) @ y - x

    return pull(positive) - pull(negative)


def joint_field(
    distance: Float[Array, "n m"],
    targets: Float[Array, "m dim"],
    is_positive: Bool[Array, " m"],
    weight: Float[Array, "n m"],
    temperature: float,
) -> Float[Array, "n dim"]:
    """The field of a batch, with affinities normalised over rows and columns together.

        A = sqrt(softmax_y(-d / tau) softmax_x(-d / tau)) w,
        V = S_minus sum_j A_j y_j - S_plus sum_k A_k y_k = S_plus S_minus (mean_plus - mean_minus)

    `S` are the masses of a row's affinities; a pair of weight 0 (a sample with itself, or with one
    of another class) takes no part. Source: algorithm 2.
    """
    logits = jnp.where(weight > 0, -distance / temperature, FAR)
    rows, columns = jax.nn.softmax(logits, axis=1), jax.nn.softmax(logits, axis=0)
    affinity = jnp.sqrt(rows * columns) * weight
    plus = jnp.where(is_positive[None, :], affinity, 0.0)
    minus = affinity - plus
    attraction = plus * jnp.sum(minus, axis=1, keepdims=True)
    repulsion = minus * jnp.sum(plus, axis=1, keepdims=True)
    return (attraction - repulsion) @ targets


def distances(x: Float[Array, "n dim"], y: Float[Array, "m dim"]) -> Float[Array, "n m"]:
    """Euclidean distances, without cancellation."""
    return jnp.linalg.norm(x[:, None, :] - y[None, :, :], axis=-1)
