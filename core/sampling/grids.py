"""Time grids: `steps + 1` decreasing times of a path, from `t_max` (noise) to `t_min` (data).

A grid is a function `(path, steps) -> times`, computed in float64 and handed over as plain data, so
that another grid of the same length needs no compilation. Every grid starts at `t_max`, where the
prior is, and ends at `t_min`.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.times.warp import Warp

Nodes = Float[np.ndarray, " nodes"]
Grid = Callable[[Interpolant, int], Nodes]

NOISE_LEVELS = 0.002, 80.0
"""EDM's smallest and largest noise level `noise_std eta`."""


def uniform_grid(path: Interpolant, steps: int) -> Nodes:
    """Equally spaced in the path's own time."""
    return np.linspace(path.t_max, path.t_min, steps + 1)


def cosine_grid(path: Interpolant, steps: int) -> Nodes:
    """`t_min + (t_max - t_min) (1 - cos(pi/2 (1 - i / N)))`: denser towards the data."""
    share = 1 - np.cos(np.pi / 2 * np.linspace(1, 0, steps + 1))
    return _with_ends(path, path.t_min + (path.t_max - path.t_min) * share)


def edm_grid(path: Interpolant, steps: int, rho: float = 7.0) -> Nodes:
    """Noise levels equally spaced in their power `1 / rho`, between EDM's 80 and 0.002.

    Levels that the path does not have are cut off, and the first and last node moved to its ends.
    Source: EDM (arXiv 2206.00364), eq. 5, whose last step to 0 is here the move of the last node.
    """
    low, high = (level ** (1 / rho) for level in _levels(path))
    return _at_levels(path, np.linspace(high, low, steps + 1) ** rho)


def log_snr_grid(path: Interpolant, steps: int) -> Nodes:
    """Equally spaced in `log(alpha / sigma)` between EDM's noise levels, like `edm_grid`.

    It is DPM-Solver's (arXiv 2206.00927), and the limit of `edm_grid` at large `rho`.
    """
    low, high = np.log(_levels(path))
    return _at_levels(path, np.exp(np.linspace(high, low, steps + 1)))


GRIDS: dict[str, Grid] = {
    "uniform": uniform_grid,
    "edm": edm_grid,
    "log-snr": log_snr_grid,
    "cosine": cosine_grid,
}


def shifted(grid: Grid, factor: float) -> Grid:
    """The grid with every noise-to-signal ratio multiplied by `factor`: more steps near the noise.

    In unit time `u -> factor u / (1 + (factor - 1) u)`; where the path does not cover all of
    [0, 1], the part that it covers takes the place of [0, 1], so that the ends stay. For images
    `n` times as wide as those for which a grid was made, `factor = n`. Source: Esser et al. (arXiv
    2403.03206), eq. 23. Raises `UserError` for a factor that is not positive.
    """
    if not 0 < factor < float("inf"):
        raise UserError(f"--shift must be positive, got {factor}")

    def shift(path: Interpolant, steps: int) -> Nodes:
        unit = _times_of(path.unit_time, grid(path, steps))
        top, bottom = unit[0], unit[-1]
        share = (unit - bottom) / (top - bottom)
        moved = bottom + (top - bottom) * factor * share / (1 + (factor - 1) * share)
        return _with_ends(path, _times_of(path.time_of_unit, moved))

    return shift


def warped_grid(symbols: int, warp: Warp = Warp()) -> Grid:
    """The grid of tokens: equally spaced in the warped time of `symbols` symbols."""

    def grid(path: Interpolant, steps: int) -> Nodes:
        def times(warped: Float[Array, ""]) -> Float[Array, ""]:
            return path.time_of_unit(warp.time(warped, symbols))

        return _with_ends(path, _times_of(times, np.linspace(1.0, 0.0, steps + 1)))

    return grid


def at_units(path: Interpolant, units: Sequence[float]) -> Nodes:
    """Chosen times, as unit times: 1 is noise, 0 is data, whatever the path.

    The first must be at least 0.9, since sampling starts from noise alone, the last must be 0.
    Raises `UserError` where they are not such, or do not decrease.
    """
    given = np.asarray(units, np.float64)
    falling = len(given) > 1 and bool(np.all(np.diff(given) < 0))
    if not falling or not 0.9 <= given[0] <= 1 or given[-1] != 0:
        raise UserError(
            "--times must decrease from noise (1, or at least 0.9) to 0, for example: "
            f"--times 1 0.6 0; got {' '.join(f'{u:g}' for u in units)}"
        )
    return _checked(_times_of(path.time_of_unit, given))


def _levels(path: Interpolant) -> tuple[float, float]:
    """EDM's smallest and largest noise level, or those of the path where it has not so many."""
    path = gaussian(path)
    with jax.enable_x64(True):
        ends = jnp.asarray([path.t_min, path.t_max])
        low, high = (float(level) for level in path.noise_std * jax.vmap(path.eta)(ends))
    return max(low, NOISE_LEVELS[0]), high if 0 < high < NOISE_LEVELS[1] else NOISE_LEVELS[1]


def _at_levels(path: Interpolant, levels: Nodes) -> Nodes:
    path = gaussian(path)
    return _with_ends(path, _times_of(path.time_of_eta, levels / path.noise_std))


def _times_of(function: Callable, values: Nodes) -> Nodes:
    with jax.enable_x64(True):
        return np.array(jax.vmap(function)(jnp.asarray(values, jnp.float64)))


def _with_ends(path: Interpolant, times: Nodes) -> Nodes:
    """The same times, the first moved to `t_max` and the last to `t_min`."""
    times[0], times[-1] = path.t_max, path.t_min
    return _checked(times)


def _checked(times: Nodes) -> Nodes:
    """The times. Raises `UserError` where they do not decrease, in the float32 of a sampler."""
    if not np.all(np.diff(times.astype(np.float32)) < 0):
        raise UserError(
            "two times of this grid are the same on the path of this model; take fewer evaluations "
            "(--nfe), or a --shift nearer to 1"
        )
    return times
