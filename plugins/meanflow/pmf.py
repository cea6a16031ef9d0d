"""Pixel MeanFlow: improved MeanFlow whose network is the denoised image.

    V(x_s, s, t) = alpha_slope g + sigma_slope z_hat,   z_hat = (x_s - alpha_s g) / sigma_s

which on the linear path is `(x_s - g) / s`. Residuals are those of iMF; below `s = floor` they are
multiplied by `s / floor`, which is the division by `max(s, floor)` of the paper, before the
adaptive weight sees them.
"""

from typing import Self

from core.errors import require
from core.flow.flow_map import EndpointMap, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.objective import FlowMatching, RowKind, Term
from core.objectives.perceptual import Denoised, perceived
from core.objectives.weights import Scaled, Weight
from core.times.weights import Ramp
from core.train.features import open_perception
from plugins.meanflow.imf import BoundaryJump


@register
class PMF(RowPlugin):
    """Pixel MeanFlow (arXiv 2601.22158): the network is the denoised image."""

    card = Card(
        "pmf",
        rule="Eulerian",
        supervision="sampled pair, own velocity in the tangent",
        source="arXiv 2601.22158",
        cost=4,
        whole_cost=5,
        parameterisation="g",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.228, 0.197, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.864, 0.771, "recipes-digits"),
    )  # fmt: skip
    both_ways = True

    diagonal: float = 0.5
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    time_mean: float = 0.8
    time_std: float = 0.8
    uniform: float = by_kind(0.1, points=1.0, small_image=0.3)
    floor: float = 0.05
    """Time below which residuals count less, by the time over this."""
    features: str = "identity"
    """Features in which denoised examples are compared (LPIPS): efficientnet-lite0, inception=FILE,
    dinov2=FILE, or a run folder of apps.features; identity compares the values."""
    values: float = 1.0
    """Factor of the distance of the values themselves, where there are features."""

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.floor < 1, f"--plugin.floor must be in (0, 1), got {self.floor}")
        require(self.form == "average", "pmf is a form of its own; leave out --plugin.form")

    @classmethod
    def whole(cls) -> Self:
        return cls(diagonal=0.0)

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        return EndpointMap(net=net, path=gaussian(path))

    def jump(self, teacher: None) -> Term:
        return self.denoised(BoundaryJump())

    def diagonal_term(self, teacher: None) -> Term:
        return self.denoised(FlowMatching())

    def denoised(self, term: Term) -> Term:
        """The term, as one of denoised examples where features look at them."""
        return term if self.features == "identity" else Denoised(term)

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        perception = open_perception(self.features, task.shape)
        return perceived(super().kinds(teacher, task), perception, self.values)

    def weight(self) -> Weight:
        return Scaled(Ramp(self.floor), super().weight())
