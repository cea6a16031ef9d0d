"""How samples are drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from core.flow.interpolant import Interpolant
from core.sampling.grids import Grid, uniform_grid
from core.sampling.sampler import Sampler


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn: a sampler, its times, a guidance scale, and from what.

    **Fields:** `times` decreasing, see `core.sampling.GRIDS`; `guidance`, `(w, a, b)`, the scale w
    between the unit times a and b, for maps that take it as an input; `starts`, the values at
    t = 1 in the place of noise, of which sample number k takes number k, again from the first where
    they are fewer; `coupled`, whether the map was trained with noise that depends on the data, so
    that the exact map of the data is another one.
    """

    sampler: Sampler
    times: Float[np.ndarray, " nodes"]
    guidance: tuple[float, float, float] | None = None
    starts: Float[np.ndarray, " m *shape"] | None = None
    coupled: bool = False

    @property
    def steps(self) -> int:
        """Steps of the sampler."""
        return len(self.times) - 1


def drawing_of(
    sampler: Sampler,
    path: Interpolant,
    nfe: int = 1,
    *,
    grid: Grid = uniform_grid,
    guidance: tuple[float, float, float] | None = None,
) -> Drawing:
    """The drawing with `nfe` evaluations of the network, at the times of a grid."""
    return Drawing(sampler, grid(path, sampler.steps(nfe)), guidance)
