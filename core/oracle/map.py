"""The exact flow map of a problem."""

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.change import move_average_velocity
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import LinearPath, Path, TrigPath
from core.flow.solve import AdaptiveSteps, FixedSteps, solve_average_velocity
from core.oracle.problem import ClosedProblem, Problem


class OracleMap(FlowMap):
    """The flow map that a perfectly trained network would be: exact, or as exact as `stepping`.

    A `ClosedProblem` brings its closed form, and `stepping` is not used. For any other problem the
    average velocity is integrated on the trigonometric path, on which every problem is smooth and
    of unit scale, and moved to `path`. It is right at `s = t`, with its derivatives, and supports
    `jax.jvp` and `jax.vmap`; reverse mode only with a closed form. Of a condition only the
    observed state counts, with a closed form: the map is then that of the posterior.

    **Fields:** `problem`; `path`; `stepping`, how to integrate, see `core.flow.solve`.
    """

    problem: Problem
    path: Path
    stepping: FixedSteps | AdaptiveSteps = eqx.field(default=AdaptiveSteps(rtol=1e-6, atol=1e-6))

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        problem = posterior(self.problem, self.path, cond)
        if isinstance(problem, ClosedProblem):
            return problem.average_velocity(self.path, x, s, t)
        return move_average_velocity(self.path, _ANGLES, self._integrate)(x, s, t)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        problem = posterior(self.problem, self.path, cond)
        return problem.velocity(self.path, x, t)  # the same as the diagonal, without a solve

    def _integrate(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], t: Float[Array, ""]
    ) -> Float[Array, "*shape"]:
        def velocity(y: Float[Array, "*shape"], u: Float[Array, ""]) -> Float[Array, "*shape"]:
            return self.problem.velocity(_ANGLES, y, u)

        return solve_average_velocity(velocity, x, s, t, stepping=self.stepping).x


_ANGLES = TrigPath()


def posterior(problem: Problem, path: Path, cond: Condition | None) -> Problem:
    """The distribution of `x_0` given the observed state of the condition; unconditional where
    there is none, or without a closed form."""
    if not isinstance(problem, ClosedProblem) or cond is None or cond.state is None:
        return problem
    assert cond.state_time is not None
    return problem.given_state(LinearPath(noise_std=path.noise_std), cond.state, cond.state_time)
