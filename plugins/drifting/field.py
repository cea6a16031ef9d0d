"""The drift of samples: attracted by data, repelled by one another.

    V(x) = E_p[k (y - x)] / E_p[k] - E_q[k (y - x)] / E_q[k]

with `p` the data, `q` the generated distribution and `k` a function of the distance,
`exp(-|x - y| / tau)` for the method. It vanishes where `p = q` and changes its sign when they
change places. Source: drifting models (Deng et al., 2026), eqs. 2-5; the lecture notes "Faster
Sampling", eqs. 1.62-1.67.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

FAR = -1e9
LEAST = 0.01
"""Least affinity of a pair, in units of the value for equal pairs: points far
apart still act a little, so a collapsed generator finds its way out. The authors' code has 1e-3 for
every size of the batch, here it would be 0.1; the more, the more does the field at large distance
disturb the one nearby."""

LogKernel = Callable[[Array], Array]


def laplace(temperature: float) -> LogKernel:
    """`log k = -d / tau` of distances `d`."""
    return lambda distance: -distance / temperature


def gaussian(width: float) -> LogKernel:
    """`log k = -d^2 / (2 h^2)`: with it `V = h^2 grad log(p_h / q_h)`, both blurred by `h`."""
    return lambda distance: -(distance**2) / (2 * width**2)


def mean_shift_field(
    x: Float[Array, "n dim"],
    positive: Float[Array, "p dim"],
    negative: Float[Array, "q dim"],
    log_kernel: LogKernel,
) -> Float[Array, "n dim"]:
    """The formula itself, each expectation with its own normaliser: for checks and pictures."""

    def pull(y: Float[Array, "m dim"]) -> Float[Array, "n dim"]:
        return jax.nn.softmax(log_kernel(distances(x, y)), axis=1) @ y - x

    return pull(positive) - pull(negative)


@dataclass(frozen=True)
class FieldKernel:
    """The kernel of a batch: its ranges, and the axes over which it is normalised.

    **Fields:** `temperatures` in units of the mean distance; `rows`: over the targets of a sample;
    `columns`: over the samples of a target. With both, the geometric mean of the two.
    """

    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    rows: bool = True
    columns: bool = True

    def affinity(self, logits: Float[Array, "n m"]) -> Float[Array, "n m"]:
        """`A`, from the logarithm of the kernel."""
        axes = [axis for axis, on in ((1, self.rows), (0, self.columns)) if on]
        parts = [jax.nn.softmax(logits, axis) for axis in axes] or [jnp.exp(logits)]
        return jnp.maximum(jnp.sqrt(parts[0] * parts[-1]), LEAST / logits.size**0.5)


def joint_field(
    x: Float[Array, "n dim"],
    targets: Float[Array, "m dim"],
    attracts: Bool[Array, " m"],
    weight: Float[Array, "n m"],
    distance: Float[Array, "n m"],
    temperature: float,
    kernel: FieldKernel = FieldKernel(),
) -> Float[Array, "n dim"]:
    """The field of a batch, with one kernel for all that acts on a sample.

        A = sqrt(softmax_y(-d / tau) softmax_x(-d / tau)) w,
        V = S_minus sum_j A_j y_j - S_plus sum_k A_k y_k = S_plus S_minus (mean_plus - mean_minus)

    `S` are the masses of a row's affinities to the points that attract and that repel; a pair of
    weight 0 (a sample with itself, an empty place of a queue) takes no part. Source: algorithm 2.
    """
    logits = jnp.where(weight > 0, -distance / temperature, FAR)
    affinity = kernel.affinity(logits) * weight
    plus = jnp.where(attracts[None, :], affinity, 0.0)
    minus = affinity - plus
    attraction = plus * jnp.sum(minus, axis=1, keepdims=True)
    repulsion = minus * jnp.sum(plus, axis=1, keepdims=True)
    force = attraction - repulsion
    return force @ targets - jnp.sum(force, axis=1, keepdims=True) * x  # the sum is 0 but rounded


def distances(x: Float[Array, "n dim"], y: Float[Array, "m dim"]) -> Float[Array, "n m"]:
    """Euclidean distances, without cancellation."""
    return jnp.sqrt(jnp.sum((x[:, None, :] - y[None, :, :]) ** 2, axis=-1))
