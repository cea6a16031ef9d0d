"""The exact flow map of a distribution on a space."""

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.solve import AdaptiveSteps, FixedSteps, solve_average_velocity
from core.oracle.on_space import SpaceProblem


class SpaceMap(FlowMap):
    """The flow map of a problem on a space: its exact velocity, integrated by Diffrax.

    It is right at `s = t`, with its derivatives, and supports `jax.jvp` and `jax.vmap`, not reverse
    mode in its own arguments. **Fields:** `problem`; `path`, `problem.path`; `stepping`.
    """

    problem: SpaceProblem
    path: Interpolant
    stepping: FixedSteps | AdaptiveSteps = eqx.field(default=FixedSteps("dopri8", 12))

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        del cond
        return self.problem.velocity(x, t)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        del cond
        space = self.path.space
        return solve_average_velocity(
            self.problem.velocity, x, s, t, stepping=self.stepping, space=space
        ).x
