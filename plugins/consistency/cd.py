"""Consistency distillation: neighbours on one trajectory of the teacher map to the same clean end.

    L = E |F(x_s, s, 0) - sg[F_target(x_u, u, 0)]|^2,    x_u = one solver step of the teacher

`(s, u)` are neighbours of a fixed grid.
"""

from typing import Literal

from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.objective import RowKind, Term
from core.objectives.perceptual import perceived
from core.train.features import open_perception
from plugins.consistency.base import GridPlugin
from plugins.consistency.jump import ConsistencyJump, TeacherStep


@register
class CD(GridPlugin):
    """Consistency distillation (arXiv 2303.01469): jumps to the data end, from a teacher."""

    card = Card(
        "cd",
        rule="Eulerian, t = 0",
        supervision="teacher",
        source="arXiv 2303.01469",
        cost=5,
        whole_cost=5,
        seed_cost=5,
        parameterisation="F",
        gradient="F",
        targets="teacher, current",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.251, 0.252, "compare-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.237, 0.244, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    needs_teacher = True
    guidable = True

    gap_power: float = by_kind(0.0, points=1.0, small_image=1.0)
    constant: float = 0.01
    power: float = 0.0
    first: int = by_kind(40, points=20)
    last: int = by_kind(40, points=20)
    solver: Literal["euler", "heun", "midpoint"] = by_kind(
        "euler", points="heun", small_image="heun"
    )
    """One-step solver of the teacher; the papers take heun, which costs one evaluation more."""

    features: str = "identity"
    """Features in which both ends are compared, as LPIPS does: efficientnet-lite0, inception=FILE,
    dinov2=FILE, or a run folder of apps.features; identity compares the values."""
    values: float = 0.0
    """Factor of the distance of the values themselves, where there are features."""

    def jump(self, teacher: Teacher) -> Term:
        return ConsistencyJump(TeacherStep(teacher, self.solver))

    def kinds(self, teacher: Teacher, task: Task) -> tuple[RowKind, ...]:
        perception = open_perception(self.features, task.shape)
        return perceived(super().kinds(teacher, task), perception, self.values)
