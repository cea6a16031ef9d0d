"""The times at which samples of some data are drawn where no grid is asked for."""

import jax
import jax.numpy as jnp
import numpy as np

from core.data.spec import DataSpec
from core.flow.path import Path
from core.sampling.grids import Grid, Nodes, at_units, uniform_grid
from core.times.warp import Warp


def usual_grid(spec: DataSpec) -> Grid:
    """Uniform in the path's time; of tokens in the time in which symbols are lost at an even
    rate."""
    if spec.kind != "tokens":
        return uniform_grid

    def warped(path: Path, steps: int) -> Nodes:
        with jax.enable_x64(True):
            units = Warp().time(jnp.linspace(1.0, 0.0, steps + 1), spec.shape[-1])
            return at_units(path, np.asarray(units).tolist())

    return warped
