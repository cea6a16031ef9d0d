"""The teacher of a run that is opened without it."""

from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher


class AbsentTeacher(Teacher):
    """Stands for the teacher that a method was trained with, where its run is only sampled from.

    It has a path and no velocity: asking for that raises `UserError`.
    """

    path: Interpolant

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        raise UserError("a run is opened without its teacher, and this asks for its velocity")
