"""Noise-image regression: a teacher's pairs, learned by heart.

    L = E |F(sigma z, 1, 0) - x_0|^2,      x_0 = ODE_teacher(sigma z)

One regression from noise to the end of its trajectory, on pairs that are made before the training:
no rule, no derivative, no target of its own. All other jumps stay as they were.
"""

from jaxtyping import Array, Float

from core.errors import require
from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.recipes import Recipe
from core.methods.reflow import PairsPlugin
from core.methods.registry import register
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Term
from core.objectives.row import Row


def _from_noise(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    return model.average_velocity(model.path.start(row.z, row.s), row.s, row.t, row.cond)


class NoiseRegression(Term):
    """`V(sigma z, s, t) - (x_0 - sigma z) / (t - s)` of a teacher's pair, at the ends `s` and `t`.

    It is `F - x_0` in units of the velocity. The jump starts at `sigma z`, as samplers and the
    teacher's solver do, and not at `x_s`, which on the VP and EDM paths has a rest of the example.
    Source: arXiv 2101.02388, section 3.
    """

    @property
    def declares(self) -> Declares:
        return Declares((Carrier("V(z, 1, 0)", _from_noise),), ())

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        start = model.path.start(row.z, row.s)
        return _from_noise(model, row) - (row.x_0 - start) / (row.t - row.s)


@register
class KD(PairsPlugin):
    """Noise-image regression (arXiv 2101.02388): one jump, on pairs that a teacher has made.

    Bad at detail: the square averages over what the network cannot tell apart, and it blurs; few
    pairs are learned by heart.
    """

    card = Card(
        "kd",
        rule="none (regression)",
        supervision="teacher's pairs",
        source="arXiv 2101.02388",
        cost=3,
        whole_cost=3,
        gradient="V(z, 1, 0)",
        targets="none",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.138, None, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.191, None, "recipes-digits"),
    )  # fmt: skip
    most_nfe = 1
    paired = True

    full: float = 1.0
    uniform: float = 0.0
    label_drop: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        for flag, value in {"full": 1.0, "diagonal": 0.0, "label-drop": 0.0}.items():
            given = getattr(self, flag.replace("-", "_"))
            why = (
                "a pair has one label" if flag == "label-drop" else "kd trains the whole jump alone"
            )
            require(given == value, f"{why}: leave out --plugin.{flag}")

    def jump(self, teacher: Teacher) -> Term:
        del teacher  # it has made the pairs
        return NoiseRegression()
