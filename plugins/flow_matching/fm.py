"""Flow matching: regress the conditional velocity; the minimiser is the marginal one.

    L = E |V(x_t, t, t) - v|^2,      v = d/dt x_t of the sampled pair.

Not a flow map: it trains the diagonal of one, so it is sampled with an ODE solver.
"""

from dataclasses import dataclass

from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import FlowMatching, Term


@dataclass(frozen=True)
class VelocityPlugin(RowPlugin):
    """Flow matching on all rows, sampled with an ODE solver."""

    sampler = "euler"

    diagonal: float = 1.0
    full: float = 0.0
    uniform: float = by_kind(0.0, points=1.0)
    time_mean: float = 0.0


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
        gradient="v",
        targets="none",
    )
    recipes = (
        Recipe("points",      "checkerboard", 3000, 1.63, 0.451, "compare-checkerboard"),
        Recipe("small-image", "digits",       2300, 5.37, 0.693, "compare-digits"),
    )  # fmt: skip
    couples = True
    spaces = True

    def jump(self, teacher: None) -> Term:
        return FlowMatching()
