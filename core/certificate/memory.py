"""Whether a map has learned its examples by heart: its diagonal beside the training set's own."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.flow_map import FlowMap
from core.flow.path import Path, gaussian

Rows = dict[str, Float[np.ndarray, " nodes"]]


class Examples(eqx.Module):
    """Clean examples with their noise, and their labels where there are classes."""

    x_0: Float[Array, " n *shape"]
    z: Float[Array, " n *shape"]
    label: Int[Array, " n"] | None = None


def set_denoiser(
    path: Path,
    training: Float[Array, " m *shape"],
    x: Float[Array, "*shape"],
    t: Float[Array, ""],
    among: Float[Array, " m"] | None = None,
) -> Float[Array, "*shape"]:
    """`E[x_0 | x_t = x]` of the training set as a distribution: the mean of its examples with the
    weights `softmax(-|x - alpha x_i|^2 / (2 sigma^2 noise_std^2))`.

    It is the diagonal of the exact flow map of the set, which reproduces it: what a map learns that
    has capacity and time without end. `among` is 0 for examples that count, else `-inf`, such as
    those of other classes. At `sigma = 0` the nearest example.
    """
    alpha, variance = path.alpha(t), (path.sigma(t) * path.noise_std) ** 2
    far = jnp.sum((x[None] - alpha * training) ** 2, axis=range(1, training.ndim))
    level = -far / (2 * jnp.maximum(variance, 1e-12))
    level = level if among is None else level + among
    return jnp.tensordot(jax.nn.softmax(level), training, 1)


def memory(
    flow_map: FlowMap,
    training: Float[Array, " m *shape"],
    labels: Int[Array, " m"] | None,
    examples: Examples,
    times: Float[np.ndarray, " nodes"],
    *,
    progress: Callable[[int], None] | None = None,
) -> Rows:
    """Root mean squares over examples and numbers at each time, in network values.

    With `D = E[x_0 | x_t]` of the map's diagonal and `D_set` that of the training set:
    `map` is `D - x_0`, `set` is `D_set - x_0`, `gap` is `D - D_set`. Of training examples `set` is
    0 near the data. A map that generalises keeps `map` there as large as of examples that it has
    not seen, and `gap` with it; one that memorises has both small.
    """
    path = gaussian(flow_map.path)
    found: Rows = {name: np.full(len(times), np.nan) for name in ("map", "set", "gap")}
    for i, time in enumerate(times):
        row = _at(flow_map, path, training, labels, examples, jnp.asarray(time, jnp.float32))
        for name, value in row.items():
            found[name][i] = float(value)
        if progress is not None:
            progress(1)
    return found


@eqx.filter_jit
def _at(
    flow_map: FlowMap,
    path: Path,
    training: Array,
    labels: Array | None,
    examples: Examples,
    t: Float[Array, ""],
) -> dict[str, Float[Array, ""]]:
    def one(example: Examples) -> dict[str, Array]:
        x_0, label = example.x_0, example.label
        cond = None if label is None else Condition(label)
        x = path.interpolate(x_0, example.z, t)
        v = flow_map.velocity(x, t, cond)
        D = convert(path, v, x, t, source="velocity", target="x_0")
        among = None
        if label is not None and labels is not None:
            among = jnp.where(labels == label, 0.0, -jnp.inf)
        of_set = set_denoiser(path, training, x, t, among)
        return {"map": D - x_0, "set": of_set - x_0, "gap": D - of_set}

    misses = jax.lax.map(one, examples, batch_size=8)
    return {name: jnp.sqrt(jnp.mean(miss**2)) for name, miss in misses.items()}
