"""The loss of a drifting model as it is declared: without a stop, by a sum over pairs of points.

    A_ij = sqrt(softmax_j(-d / tau) softmax_i(-d / tau)) w_ij
    V(x_i) = sum_(j attracts) sum_(k repels) A_ij A_ik (y_j - y_k)
    L = sum_keys mean |f / c - f_fixed / c - sum_tau V_tau / max(rms(V_tau), floor)|^2

with lengths in units of `c`. It costs far more than the method's own form and is only for the check
G0. Source: drifting models (Deng et al., 2026), algorithm 2.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.nets.perception import Perception
from plugins.drifting.field import LEAST, FieldKernel
from plugins.drifting.loss import LEAST_ENERGY, FieldPoints, features


def declared_loss(
    moving: Float[Array, " groups n *shape"],
    still: Float[Array, " groups n *shape"],
    points: FieldPoints,
    kernel: FieldKernel,
    perception: Perception,
) -> Float[Array, ""]:
    """The loss of samples `moving`, whose field is that of the same samples as numbers."""
    look = jax.vmap(jax.vmap(lambda one: features(perception, one)))
    live, fixed, y = look(moving), look(still), look(points.x)
    total = jnp.zeros(())
    for name in live:
        f, f_fixed, other = (jnp.swapaxes(a[name], 1, 2) for a in (live, fixed, y))
        goal, c = _goal(f_fixed, other, points, kernel)
        total += jnp.mean((f / c - goal) ** 2)
    return total


def _goal(
    f: Float[Array, "groups places n dim"],
    y: Float[Array, "groups places m dim"],
    points: FieldPoints,
    kernel: FieldKernel,
) -> tuple[Float[Array, "groups places n dim"], Float[Array, ""]]:
    """Where the samples drift to, and the unit of length."""
    n, dim = f.shape[2:]
    ends = jnp.concatenate([f, y], axis=2)
    attracts = jnp.concatenate([jnp.zeros(n, bool), points.attracts])
    others = jnp.broadcast_to(~jnp.eye(n, dtype=bool), (len(f), n, n))
    outside = jnp.repeat(points.weight[:, None], n, axis=1)
    weight = jnp.concatenate([others.astype(f.dtype), outside], axis=2)[:, None]
    apart = jnp.linalg.norm(f[:, :, :, None] - ends[:, :, None], axis=-1)
    mean = jnp.sum(apart * weight) / (jnp.sum(weight) * f.shape[1])
    c, drift = mean / dim**0.5, jnp.zeros_like(f)
    for temperature in kernel.temperatures:
        logits = jnp.where(weight > 0, -apart / mean / temperature, -1e9)
        affinity = _affinity(logits, kernel) * weight
        V = jax.vmap(jax.vmap(lambda A, ends: _field(A, ends, attracts)))(affinity, ends)
        V /= c
        drift += V / jnp.sqrt(jnp.maximum(jnp.mean(V**2), LEAST_ENERGY))
    return f / c + drift, c


def _affinity(
    logits: Float[Array, "groups places n all"], kernel: FieldKernel
) -> Float[Array, "groups places n all"]:
    """The geometric mean of the normalised kernels; the kernel itself without any."""
    over = [axis for axis, on in ((3, kernel.rows), (2, kernel.columns)) if on]
    parts = [logits - jax.nn.logsumexp(logits, axis, keepdims=True) for axis in over] or [logits]
    size = logits.shape[2] * logits.shape[3]
    return jnp.maximum(jnp.exp(sum(parts) / len(parts)), LEAST / size**0.5)


def _field(
    A: Float[Array, "n all"], ends: Float[Array, "all dim"], attracts: Bool[Array, " all"]
) -> Float[Array, "n dim"]:
    plus, minus = jnp.where(attracts, A, 0.0), jnp.where(attracts, 0.0, A)
    between = ends[:, None] - ends[None, :]
    return jnp.einsum("ij,ik,jkd->id", plus, minus, between)
