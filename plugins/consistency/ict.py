"""Improved consistency training: doubling grid, log-normal times, pseudo-Huber distance.

    L = E w (sqrt(|R|^2 + c^2) - c),   R = F(x_s, s, 0) - sg[F(x_u, u, 0)],
    w = 1 / (sigma_s - sigma_u),   c = 0.00054 sqrt(dimension),   sigma = 80 at s = 1

`s` and `u` are neighbouring nodes of EDM's grid, whose intervals double from stage to stage, and
`x_s`, `x_u` lie on the line of one pair. The targets use the current parameters.
"""

from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.objective import Term
from core.objectives.weights import PseudoHuber, Weight
from core.times.pairs import GridSource, TimeSampler
from core.times.steps import GridStep, NodeGrid, Step
from core.times.weights import PerNoiseGap, TimeWeight
from plugins.consistency.base import ConsistencyPlugin, check_intervals
from plugins.consistency.jump import ConsistencyJump, SameNoise


@register
class ICT(ConsistencyPlugin):
    """Improved consistency training (arXiv 2310.14189): no teacher, no EMA target."""

    card = Card(
        "ict",
        rule="Eulerian, t = 0",
        supervision="sampled pair, vanishing bias",
        source="arXiv 2310.14189",
        cost=4,
        whole_cost=4,
        parameterisation="F",
        gradient="F",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.192, 0.135, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.86, 0.81, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip

    first: int = 10
    """Intervals of the grid in the first stage; each stage doubles them."""
    last: int = by_kind(1280, points=80, small_image=80)
    """Intervals of the grid in the last stage."""
    rho: float = 7.0
    """Exponent of the grid, EDM's."""
    huber: float = 0.03
    """Constant c of the pseudo-Huber distance; 0 takes the paper's, 0.00054 sqrt(dimension), which
    is 0.03 for 32 x 32 pictures."""
    time_mean: float = -1.1
    """Mean of the log noise-to-signal ratio."""
    time_std: float = 2.0
    """Standard deviation of the log noise-to-signal ratio; 0 means uniform over the nodes."""

    def __post_init__(self):
        super().__post_init__()
        check_intervals(self.first, self.last)

    def jump(self, teacher: None) -> Term:
        return ConsistencyJump(SameNoise())

    def grid(self) -> NodeGrid:
        """The nodes."""
        return NodeGrid(self.first, self.last, self.rho, doubling=True)

    def step_function(self) -> Step:
        return GridStep(self.grid())

    def jump_times(self) -> TimeSampler:
        return GridSource(self.grid(), self.time_mean, self.time_std)

    def factor(self) -> TimeWeight:
        return PerNoiseGap(self.grid().top)

    def distance(self) -> Weight:
        return PseudoHuber(self.huber or None, self.reduce)
