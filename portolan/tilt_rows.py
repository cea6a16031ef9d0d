"""The rows of `apps.tilt`: a method's result, its error, and its cost."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from core.steering.own import check_reward
from core.steering.steering import Steered, Steering, Tilt

COLUMNS = (
    "method", "exact", "reward", "success", "best", "diversity", "log Z", "ESS", "starts",
    "evaluations", "reward calls", "seconds",
)  # fmt: skip


def prior_row(prior: np.ndarray, tilt: Tilt) -> dict[str, Any]:
    """The row of the map's own samples."""
    values = np.asarray(check_reward(tilt.reward, jnp.asarray(prior)))
    return {
        "method": "prior",
        "reward": f"{values.mean():.4g}",
        "mean": float(values.mean()),
        "best": float(values.max()),
        "diversity": diversity(prior[:256]),
    }


def method_row(name: str, method: Steering, steered: Steered, tilt: Tilt) -> dict[str, Any]:
    """The row of a method."""
    values = np.asarray(check_reward(tilt.reward, jnp.asarray(steered.x)), np.float64)
    cost, particles = method.cost(tilt.reward), len(steered.x)
    mean = float(steered.weights @ values)
    effective = 1 / float(np.sum(steered.weights**2))
    spread = float(np.sqrt(steered.weights @ (values - mean) ** 2 / effective))
    known = "" if np.isnan(steered.log_z_error) else f" ± {steered.log_z_error:.3f}"
    log_z = f"{steered.log_z:.3f}{known}" if method.normalises else None
    return {
        "method": name,
        "exact": method.exact,
        "reward": f"{mean:.4g} ± {spread:.2g}",
        "mean": mean,
        "error": spread,
        "best": float(values.max()),
        "diversity": diversity(steered.draw(256)),
        "log Z": log_z,
        "ESS": float(steered.ess[-1]) if method.normalises else None,
        "starts": steered.starts if method.normalises else None,
        "evaluations": particles * cost.evaluations(tilt.flow_map.evaluations),
        "reward calls": particles * cost.reward,
    }


def diversity(samples: np.ndarray) -> float:
    """The mean distance between two samples."""
    from scipy.spatial.distance import pdist

    return float(pdist(samples.reshape(len(samples), -1)).mean())
