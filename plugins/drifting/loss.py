"""The loss of a drifting model: samples are pulled to where their drift points.

    L = sum_keys E |f / c - sg[f / c + sum_tau V_tau / rms(V_tau)]|^2

with `f` a feature of the sample. `c` brings the mean distance to `sqrt(dim)`. Each field is scaled
to unit size, so the loss hardly changes during training: look at the energies `rms(V_tau)^2`, which
fall. Source: drifting models (Deng et al., 2026), sections 3 and A.6, and the authors' code, where
the paper differs.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.nets.perception import Perception
from core.objectives.objective import Metrics
from plugins.drifting.field import FieldKernel, distances, joint_field

stop = jax.lax.stop_gradient

LEAST_SCALE, LEAST_ENERGY = 1e-3, 1e-8


class FieldPoints(eqx.Module):
    """The points that act on the samples of each group, beside the samples themselves.

    **Fields:** examples `x` (groups, m, *shape); whether each `attracts`; its `weight`, 0 where
    there is none.
    """

    x: Float[Array, " groups m *shape"]
    attracts: Bool[Array, " m"]
    weight: Float[Array, "groups m"]


def drift_loss(
    x: Float[Array, " groups n *shape"],
    points: FieldPoints,
    kernel: FieldKernel,
    perception: Perception,
) -> tuple[Float[Array, ""], Metrics]:
    """The sum over all features of the samples, and each feature's spread and energies."""
    look = jax.vmap(jax.vmap(lambda one: features(perception, one)))
    moving, fixed = look(x), jax.lax.stop_gradient(look(points.x))
    n = x.shape[1]
    others = jnp.broadcast_to(1 - jnp.eye(n), (len(x), n, n))
    outside = jnp.broadcast_to(points.weight[:, None, :], (len(x), n, points.weight.shape[1]))
    weight = jnp.concatenate([others, outside], axis=2)
    attracts = jnp.concatenate([jnp.zeros(n, bool), points.attracts])
    total, metrics = jnp.zeros(()), {}
    for name, f in moving.items():
        f, y = (jnp.swapaxes(a, 1, 2) for a in (f, fixed[name]))
        loss, found = feature_loss(f, y, attracts, weight, kernel)
        total += loss
        metrics |= {f"{what}/{name}{rest}": v for (what, rest), v in found.items()}
    return total, metrics


def features(
    perception: Perception, x: Float[Array, "*shape"]
) -> dict[str, Float[Array, "places channels"]]:
    """The features to compare: the raw values as one vector; of every map the vector at each place,
    and the mean and standard deviation over the places."""
    raw, *maps = perception.maps(x)
    found = {"raw": raw.reshape(1, -1)}
    for i, one in enumerate(maps, 1):
        std = jnp.sqrt(jnp.var(one, axis=0, keepdims=True) + 1e-6)
        found |= {f"map{i}": one, f"mean{i}": jnp.mean(one, axis=0, keepdims=True), f"std{i}": std}
    return found


def feature_loss(
    f: Float[Array, "groups places n dim"],
    y: Float[Array, "groups places m dim"],
    attracts: Bool[Array, " all"],
    weight: Float[Array, "groups n all"],
    kernel: FieldKernel,
) -> tuple[Float[Array, ""], dict[tuple[str, str], Float[Array, ""]]]:
    """The loss of one feature, the samples' own for targets first (`all = n + m`).

    One spread and one energy a temperature for all groups and places together, as in the authors'
    code; unlike there, the spread leaves out the distance of a sample to itself.
    """
    here = stop(f)
    targets = jnp.concatenate([here, y], axis=2)
    apart = jax.vmap(jax.vmap(distances))(here, targets)
    spread = jnp.sum(apart * weight[:, None]) / (jnp.sum(weight) * f.shape[1])
    scale = jnp.maximum(spread / f.shape[3] ** 0.5, LEAST_SCALE)
    apart /= jnp.maximum(spread, LEAST_SCALE)
    drift = jnp.zeros_like(here)
    found = {("spread", ""): spread}
    for temperature in kernel.temperatures:
        field = fields(here / scale, targets / scale, attracts, weight, apart, temperature, kernel)
        energy = jnp.mean(field**2)
        drift += field / jnp.sqrt(jnp.maximum(energy, LEAST_ENERGY))
        found["energy", f"/{temperature:g}"] = energy
    return jnp.mean((f / scale - (here / scale + drift)) ** 2), found


def fields(
    x: Float[Array, "groups places n dim"],
    targets: Float[Array, "groups places all dim"],
    attracts: Bool[Array, " all"],
    weight: Float[Array, "groups n all"],
    apart: Float[Array, "groups places n all"],
    temperature: float,
    kernel: FieldKernel,
) -> Float[Array, "groups places n dim"]:
    """The field of every group at every place."""

    def field(x: Array, targets: Array, weight: Array, apart: Array) -> Array:
        return joint_field(x, targets, attracts, weight, apart, temperature, kernel)

    return jax.vmap(jax.vmap(field, (0, 0, None, 0)))(x, targets, weight, apart)
