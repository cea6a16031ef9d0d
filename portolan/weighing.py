"""Importance weights of a model's samples for a target `exp(-E) / Z`: a Boltzmann generator."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.errors import UserError, require
from core.files import write_arrays
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.likelihood import Weighted, sample_log_prob, weighted
from core.oracle import ENERGIES, Energy
from core.trust import load_function
from portolan.likelihood import check, log_spread
from portolan.model import Model
from portolan.progress import Meter

CHUNK = 512
CLIPPED = 0.002
"""The share of the largest weights that the clipped estimate brings down to the next one."""


@dataclass(frozen=True)
class Weighing:
    """Samples in the units of the data with their weights.

    **Fields:** `x` `(n, *shape)`; `energy`, `log_prob` under the map and `log_w`, each `(n,)`;
    `folds`, the share with a negative determinant; `found`, what the weights say.
    """

    x: Float[np.ndarray, " n *shape"]
    energy: Float[np.ndarray, " n"]
    log_prob: Float[np.ndarray, " n"]
    folds: float
    found: Weighted

    def row(self, steps: int, known: float | None) -> dict[str, Any]:
        """The row of the table."""
        clipped = clip(np.asarray(self.found.log_w))
        row: dict[str, Any] = {"steps": steps, "n": len(self.x)}
        row |= {"log_z": float(self.found.log_z), "error": float(self.found.log_z_error)}
        row |= {"clipped": clipped, "exact": known, "effective": float(self.found.effective)}
        return row | {"folds": self.folds}


def clip(log_w: Float[np.ndarray, " n"]) -> float:
    """`log mean w` with the largest `CLIPPED` of the weights brought down to the next one: with
    less variance, and a bias of unknown size."""
    top = np.quantile(log_w, 1 - CLIPPED)
    held = np.minimum(log_w, top)
    return float(np.log(np.mean(np.exp(held - held.max()))) + held.max())


def target(name: str, shape: tuple[int, ...]) -> tuple[Any, float | None]:
    """An energy by its name, or `python:module:function` of one example in the units of the data,
    for examples of this shape, with its `log Z` where that is known. Raises `UserError`."""
    if name.startswith("python:"):
        return load_function(name.removeprefix("python:")), None
    energy: Energy = ENERGIES.find(name).sized(shape)
    return energy, energy.log_z


def weigh(model: Model, energy: Any, *, n: int, steps: int, seed: int) -> Weighing:
    """`n` samples of the model in `steps` jumps, and their weights for an energy. Raises
    `UserError` where the model has no exact density."""
    check(model, "exact", steps)
    require(
        model.spec.num_classes == 0 or model.abilities.all_classes,
        f"{model.name} has classes, and a target has none; train without labels",
    )
    path = gaussian(model.flow_map.path)
    times = jnp.asarray(model.grid(path, steps), jnp.float32)
    label = jnp.asarray(model.spec.num_classes) if model.spec.num_classes else None
    parts = []
    with Meter("weighing", n) as meter:
        for start in range(0, n, CHUNK):
            key = jr.fold_in(jr.key(seed), start)
            z = path.start(path.noise(key, (CHUNK, *model.spec.shape)), times[0])
            part = _batch(model.flow_map, times, z, label, key)
            parts.append([np.asarray(leaf)[: n - start] for leaf in part])
            meter.more(min(CHUNK, n - start))
    samples, log_prob, folds = (np.concatenate(some) for some in zip(*parts))
    x = model.spec.restore(samples)
    energies = energies_of(energy, x)
    density = log_prob.astype(np.float64) - log_spread(model.spec)
    with jax.enable_x64(True):
        found = weighted(jnp.asarray(energies), jnp.asarray(density))
    return Weighing(x, energies, density, float(np.mean(folds > 0)), jax.device_get(found))


def energies_of(energy: Any, x: Float[np.ndarray, " n *shape"]) -> Float[np.ndarray, " n"]:
    """The energies of samples. Raises `UserError` unless each is one finite number."""
    try:
        found = np.asarray(jax.jit(jax.vmap(energy))(jnp.asarray(x)), np.float64)
    except Exception as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"the energy raised {said}; write it with jax.numpy, of one example"
        ) from error
    require(found.shape == (len(x),), f"the energy returns shape {found.shape[1:]}, not one number")
    bad = int(np.sum(~np.isfinite(found)))
    require(bad == 0, f"the energy is not finite for {bad} of {len(x)} samples")
    return found


@eqx.filter_jit
def _batch(
    flow_map: FlowMap,
    times: Float[Array, " nodes"],
    z: Float[Array, " m *shape"],
    label: Int[Array, ""] | None,
    key: Key[Array, ""],
) -> tuple[Float[Array, " m *shape"], Float[Array, " m"], Float[Array, " m"]]:
    cond = None if label is None else Condition(label)
    made = jax.vmap(lambda z: sample_log_prob(flow_map, z, times, cond, key=key))(z)
    return made.x, made.log_prob, made.folds


def save_weighing(found: Weighing, place: Path) -> None:
    """Writes samples, energies and log weights as one npz."""
    arrays = {"samples": found.x, "energy": found.energy, "log_prob": found.log_prob}
    write_arrays(place, arrays | {"log_w": np.asarray(found.found.log_w)})
