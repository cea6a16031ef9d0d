"""Consistency training: neighbours on one noisy line map to the same clean end.

    L = E |F(x_s, s, 0) - sg[F(x_u, u, 0)]|^2,    x_s, x_u from one pair (x_0, z)

`(s, u)` are neighbours of a grid that is refined during training. The velocity is the sampled
pair's, so the fixed point has a bias that vanishes with the step. The targets use the current
parameters: with an EMA the limit of fine grids is wrong. In a space that is not flat the square is
that of the geodesic distance.
"""

from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.objective import RowKind, Term
from core.objectives.perceptual import perceived
from core.train.features import open_perception
from plugins.consistency.base import GridPlugin
from plugins.consistency.jump import ConsistencyJump, SameNoise


@register
class CT(GridPlugin):
    """Consistency training (arXiv 2303.01469): jumps to the data end, no teacher."""

    card = Card(
        "ct",
        rule="Eulerian, t = 0",
        supervision="sampled pair, vanishing bias",
        source="arXiv 2303.01469",
        cost=4,
        whole_cost=4,
        seed_cost=4,
        parameterisation="F",
        gradient="F",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.348, 0.363, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.17, 1.11, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    spaces = True

    features: str = "identity"
    """Features in which both ends are compared, as LPIPS does: efficientnet-lite0, inception=FILE,
    dinov2=FILE, or a run folder of apps.features; identity compares the values."""
    values: float = 0.0
    """Factor of the distance of the values themselves, where there are features."""

    def jump(self, teacher: None) -> Term:
        return ConsistencyJump(SameNoise())

    def kinds(self, teacher: None, task: Task) -> tuple[RowKind, ...]:
        perception = open_perception(self.features, task.shape)
        return perceived(super().kinds(teacher, task), perception, self.values)
