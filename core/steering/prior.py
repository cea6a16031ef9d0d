"""The map that is steered: a run's own, or the end of its probability flow."""

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.flow_map import Abilities, FlowMap
from core.flow.path import Path
from core.flow.solve import FixedSteps, solve_average_velocity


class OdeMap(FlowMap):
    """The flow map of a velocity, by Heun steps: for runs that have learned no jumps.

    `F(x, s, t)` solves the probability-flow ODE, two evaluations a step. Reverse mode works, so the
    gradient of a reward passes through the solve.
    """

    flow_map: FlowMap
    path: Path
    steps: int = eqx.field(static=True, default=8)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        import diffrax

        def velocity(y: Float[Array, "*shape"], u: Float[Array, ""]) -> Float[Array, "*shape"]:
            return self.flow_map.velocity(y, u, cond)

        adjoint = diffrax.RecursiveCheckpointAdjoint()
        stepping = FixedSteps("heun", self.steps)
        return solve_average_velocity(velocity, x, s, t, stepping=stepping, adjoint=adjoint).x

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        return self.flow_map.velocity(x, t, cond)

    @property
    def abilities(self) -> Abilities:
        return Abilities(evaluations=2 * self.steps)
