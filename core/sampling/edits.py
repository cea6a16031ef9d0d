"""From examples to noise and back, and what lies between two of them."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.errors import NotFinite
from core.flow.condition import Condition
from core.flow.field import VelocityField
from core.flow.space import Euclidean, Space
from core.sampling.sampler import Sampler

BATCH = 64


def along(
    field: VelocityField,
    sampler: Sampler,
    times: Float[np.ndarray, " nodes"],
    x: Float[np.ndarray, " n *shape"],
    labels: Int[np.ndarray, " n"] | None,
    *,
    key: Key[Array, ""],
    progress: Callable[[int], None] | None = None,
) -> Float[np.ndarray, " n *shape"]:
    """States `x` at the path time `times[0]`, carried to `times[-1]` by a sampler; `times` may
    increase, towards noise. Raises `NotFinite`."""
    ends = []
    for first in range(0, len(x), BATCH):
        index = np.minimum(np.arange(first, first + BATCH), len(x) - 1)
        label = None if labels is None else jnp.asarray(labels[index])
        keys = jr.split(jr.fold_in(key, first), BATCH)
        out = _carry(field, sampler, jnp.asarray(times), jnp.asarray(x[index]), label, keys)
        ends.append(np.asarray(out)[: len(x) - first])
        if progress is not None:
            progress(len(ends[-1]))
    found = np.concatenate(ends)
    if not np.isfinite(found).all():
        raise NotFinite("an edited example is not finite; take more --steps")
    return found


@eqx.filter_jit
def _carry(
    field: VelocityField,
    sampler: Sampler,
    times: Float[Array, " nodes"],
    x: Float[Array, " m *shape"],
    label: Int[Array, " m"] | None,
    keys: Key[Array, " m"],
) -> Float[Array, " m *shape"]:
    def one(x: Array, label: Array | None, key: Key[Array, ""]) -> Array:
        cond = None if label is None else Condition(label)
        return sampler(field, x, times, cond, key=key).x

    return jax.vmap(one)(x, label, keys)


def slerp(
    a: Float[np.ndarray, "*shape"], b: Float[np.ndarray, "*shape"], shares: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " m *shape"]:
    """`(sin((1 - w) o) a + sin(w o) b) / sin o` with `o` the angle between `a` and `b`, for each
    share `w`.

    Of noise of many numbers it keeps the length, where a straight line would pass `1 / sqrt 2` of
    it; a straight line where the angle is 0 or half a turn. Source: Shoemake (1985).
    """
    u, v = a.ravel().astype(np.float64), b.ravel().astype(np.float64)
    sizes = np.linalg.norm(u) * np.linalg.norm(v)
    angle = np.arccos(np.clip(u @ v / max(sizes, 1e-300), -1, 1))
    w = shares[:, None].astype(np.float64)
    if min(angle, np.pi - angle) < 1e-4:
        path = (1 - w) * u + w * v
    else:
        path = (np.sin((1 - w) * angle) * u + np.sin(w * angle) * v) / np.sin(angle)
    return path.reshape(-1, *a.shape).astype(a.dtype)


def between(
    space: Space,
    a: Float[np.ndarray, "*shape"],
    b: Float[np.ndarray, "*shape"],
    shares: Float[np.ndarray, " m"],
) -> Float[np.ndarray, " m *shape"]:
    """The way from one noise to another: `slerp`, or in another space than the flat one the
    shortest geodesic."""
    if space.flat:
        return slerp(a, b, shares)
    return np.asarray(_geodesic(space, a, b, shares.astype(a.dtype)))


@eqx.filter_jit
def _geodesic(space: Space, a, b, shares):
    way = space.log(a, b)
    return jax.vmap(lambda w: space.exp(a, w * way))(shares)


def relative_errors(
    x: Float[np.ndarray, " n *shape"],
    again: Float[np.ndarray, " n *shape"],
    space: Space = Euclidean(),
) -> Float[np.ndarray, " n"]:
    """`|again - x| / |x|` of each example, with the length of the shortest geodesic above."""
    apart = again - x if space.flat else np.asarray(_apart(space, x, again))
    sizes = np.linalg.norm(x.reshape(len(x), -1), axis=1)
    return np.linalg.norm(apart.reshape(len(x), -1), axis=1) / np.maximum(sizes, 1e-12)


@eqx.filter_jit
def _apart(space: Space, x, y):
    return jax.vmap(space.log)(x, y)
