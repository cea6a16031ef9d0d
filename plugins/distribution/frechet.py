"""The Frechet distance of moments, differentiable, and the moments of a large population.

Products are in full precision: roots of small eigenvalues multiply what rounding of operands does
to them (TF32, the default of GPUs, makes 4 % of the gradient).
"""

from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.flow.rules import full_products

FLOOR = 1e-6
"""Eigenvalues below this part of the largest are rounding in float32, and count as 0."""


class Moments(eqx.Module):
    """Raw moments of features, all of them means over examples, so that populations mix linearly.

    **Fields:** `mean` E f; `second` E f f^T; `sums` E 1[class c] f and `shares` E 1[class c] for
    each class (no rows without labels).
    """

    mean: Float[Array, " dim"]
    second: Float[Array, "dim dim"]
    sums: Float[Array, "classes dim"]
    shares: Float[Array, " classes"]

    @classmethod
    def of(
        cls, features: Float[Array, "n dim"], label: Int[Array, " n"] | None, num_classes: int
    ) -> Self:
        """The moments of these examples."""
        n = len(features)
        member = jnp.zeros((n, 0), features.dtype)
        if label is not None:
            member = jax.nn.one_hot(label, num_classes, dtype=features.dtype)
        with full_products():
            second, sums = features.T @ features / n, member.T @ features / n
        shares = jnp.mean(member, axis=0)
        return cls(mean=jnp.mean(features, axis=0), second=second, sums=sums, shares=shares)

    @classmethod
    def zero(cls, dim: int, num_classes: int) -> Self:
        """Those of no examples, to be mixed with weight 0."""
        shapes = (dim,), (dim, dim), (num_classes, dim), (num_classes,)
        return cls(*(jnp.zeros(shape) for shape in shapes))

    @property
    def covariance(self) -> Float[Array, "dim dim"]:
        """`E f f^T - E f E f^T`."""
        return self.second - jnp.outer(self.mean, self.mean)

    @property
    def centres(self) -> Float[Array, "classes dim"]:
        """The mean of each class; 0 where there is none of it."""
        return self.sums / jnp.maximum(self.shares, 1e-6)[:, None]


def mixed(old: Moments, new: Moments, weight: Float[Array, ""]) -> Moments:
    """`(1 - weight) old + weight new`."""
    return jax.tree.map(lambda a, b: a + weight * (b - a), old, new)


def frechet(a: Moments, b: Moments) -> Float[Array, ""]:
    """`|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_b^(1/2) S_a S_b^(1/2))^(1/2))`, differentiable in `a`.

    The last trace is the sum of the roots of the eigenvalues, whose gradient needs no gaps between
    them. Directions in which either Gaussian has no spread have neither root nor slope of one. `b`
    is the reference and has no gradient. Source: Heusel et al. (arXiv 1706.08500); eigenvalues of
    this symmetric matrix as in FD-loss.
    """
    b = jax.lax.stop_gradient(b)
    variances, axes = jnp.linalg.eigh(b.covariance)
    with full_products():
        root = axes @ jnp.diag(jnp.sqrt(jnp.maximum(variances, 0.0))) @ axes.T
        product = root @ a.covariance @ root
    values = jnp.linalg.eigvalsh((product + product.T) / 2)
    large = values > FLOOR * jax.lax.stop_gradient(values[-1])
    cross = jnp.sum(jnp.where(large, jnp.sqrt(jnp.where(large, values, 1.0)), 0.0))
    traces = jnp.trace(a.covariance) + jnp.trace(b.covariance)
    return jnp.sum((a.mean - b.mean) ** 2) + traces - 2 * cross


def centre_distance(a: Moments, b: Moments) -> Float[Array, ""]:
    """`sum_c p_c |m_a,c - m_b,c|^2` over classes, `p_c` their shares in the reference `b`."""
    b = jax.lax.stop_gradient(b)
    return jnp.sum(b.shares * jnp.sum((a.centres - b.centres) ** 2, axis=1))
