"""Decoupled MeanFlow: a velocity network becomes a flow map without new parameters.

    L = E log(|V(x_s, s, s) - v|^2 / c + 1)
        + E log(|V(x_s, s, t) - sg[v + (t - s) DV_ds]|^2 / c + 1)

The first blocks of the network see `s` alone, the others `t` alone (`--net.encoder-depth`), through
the one embedding of a time that it has. On the diagonal it is the velocity network that it was:

    --plugin dmf --net.encoder-depth 3 --init runs/fm-digits

Without the encoder it is MeanFlow under the Cauchy distance. Both parts have rows of their own.
"""

from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import Term
from core.objectives.weights import Cauchy, Reduce, Weight
from core.times.distributions import LogitNormal
from core.times.pairs import OrderedPair, TimeSampler
from plugins.meanflow.mf import MeanFlowJump


@register
class DMF(RowPlugin):
    """Decoupled MeanFlow (arXiv 2510.24474), best started from a trained fm run: --init."""

    card = Card(
        "dmf",
        rule="Eulerian",
        supervision="sampled pair",
        source="arXiv 2510.24474",
        cost=3.5,
        whole_cost=4,
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.211, 0.178, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.373, 0.298, "recipes-digits"),
    )  # fmt: skip
    both_ways = True

    diagonal: float = 0.5
    time_mean: float = 0.0
    scale: float = by_kind(0.01, points=10.0, small_image=10.0)
    """Scale c of the Cauchy distance log(|R|^2 / c + 1), which is close to the square below c. A
    small one is blind to outliers, and with pairs nearly every residual is one: the velocity is no
    mean then, and errors add up over steps."""
    reduce: Reduce = "mean"

    def jump(self, teacher: None) -> Term:
        return MeanFlowJump()

    def jump_times(self) -> TimeSampler:
        return OrderedPair(LogitNormal(0.4, 1.0), LogitNormal(-1.2, 1.0))

    def weight(self) -> Weight:
        return Cauchy(self.scale, self.reduce)

    @classmethod
    def whole(cls):
        return cls(diagonal=0.0)
