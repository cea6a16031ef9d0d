"""The times at which samples of some data are drawn where no grid is asked for."""

from core.data.spec import DataSpec
from core.sampling.grids import Grid, uniform_grid, warped_grid


def usual_grid(spec: DataSpec) -> Grid:
    """Uniform in the path's time; of tokens in the time in which symbols are lost at an even
    rate."""
    return warped_grid(spec.shape[-1]) if spec.kind == "tokens" else uniform_grid
