"""Flow matching: regress the conditional velocity; the minimiser is the marginal one.

    L = E |V(x_t, t, t) - v|^2,      v = d/dt x_t of the sampled pair.

Not a flow map: it trains the diagonal of one, so it is sampled with an ODE solver.
"""

import abc
from dataclasses import dataclass

from core.data.dataset import Dataset
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import DataContext
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin, presets
from core.objectives.objective import FlowMatching, Term


@dataclass(frozen=True)
class VelocityPlugin(RowPlugin):
    """Flow matching on all rows, sampled with an ODE solver."""

    sampler = "euler"
    presets = presets(small_image={"full": 0.0, "uniform": 0.0})

    diagonal: float = 1.0
    time_mean: float = 0.0

    def terms(self, teacher: Teacher | None) -> tuple[Term, Term]:
        del teacher
        return FlowMatching(), FlowMatching()

    @abc.abstractmethod
    def dataset(self, data: Dataset, making: DataContext) -> Dataset:
        """The training data."""


@register
class FM(VelocityPlugin):
    """Flow matching (arXiv 2210.02747): learns the velocity; sampled by an ODE solver."""

    card = Card(
        "fm",
        rule="diagonal",
        supervision="sampled pair",
        source="arXiv 2210.02747",
        cost=3,
        whole_cost=3,
    )

    def dataset(self, data: Dataset, making: DataContext) -> Dataset:
        del making
        return data
