"""FreeFlow's correction: moves the distribution of the student's samples towards the teacher's."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.teacher import Teacher
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import JointTerm, Players, Residuals
from core.objectives.row import Row

stop = jax.lax.stop_gradient


class Correction(JointTerm):
    """The model's push `b (g - v_teacher)` at `I_r`, and the auxiliary's flow matching there.

    `row.s = 1` and `row.t = r`; both residuals read one evaluation of `g`. Source: eqs. 11-13.
    """

    teacher: Teacher
    strength: float = 1.0

    @property
    def declares(self) -> Declares:
        return Declares(
            (Carrier("V(z, 1, 0)", _declared_whole),), ("teacher", "current", "auxiliary")
        )

    def residuals(self, players: Players, target: Players, row: Row) -> dict[str, Residuals]:
        model, auxiliary, r = players["model"], players["auxiliary"], row.t
        path, end = model.path, jnp.full_like(row.s, model.path.t_min)
        V = model.average_velocity(row.x_s, row.s, end, row.cond)
        x = stop(row.x_s + (end - row.s) * V)
        z = path.noise(row.key, x.shape)
        x_r = path.interpolate(x, z, r)
        g = auxiliary.velocity(x_r, r, row.cond)
        push = self.strength * stop(g - self.teacher.velocity(x_r, r, row.cond))
        return {
            "model": (V - stop(V - push),),
            "auxiliary": (g - path.conditional_velocity(x, z, r),),
        }


def _declared_whole(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    end = jnp.full_like(row.s, model.path.t_min)
    return model.average_velocity(row.x_s, row.s, end, row.cond)
