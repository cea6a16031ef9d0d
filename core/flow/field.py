"""Velocity fields `v(x, t)` and the flow along them."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.flow.solve import AdaptiveSteps, FixedSteps, Solution, solve
from core.overriding import overridable


class VelocityField(eqx.Module):
    """A velocity field `v(x, t)` on a path: all that samplers of the ODE and the SDE need.

    A subclass gives the field `path` and the method `velocity`, of one example. Flow maps are
    velocity fields by their diagonal, teachers are frozen ones. On a curved space the velocity is
    tangent at `x`.
    """

    path: eqx.AbstractVar[Interpolant]

    @abc.abstractmethod
    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        """`v(x, t)` of one example at path time `t`."""

    @property
    @overridable
    def evaluations(self) -> int:
        """Evaluations of a network in one of the field."""
        return 1

    def flow(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
        *,
        stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
    ) -> Float[Array, "*shape"]:
        """`F(x_s, s, t)` by a Diffrax solve of `dx/dt = v(x, t)`, in either direction."""
        return self.solve(x, s, t, cond, stepping=stepping).x

    def solve(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
        *,
        stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
    ) -> Solution:
        """As `flow`, with the number of evaluations of the velocity."""
        space = self.path.space
        return solve(
            lambda y, u: self.velocity(y, u, cond), x, s, t, stepping=stepping, space=space
        )
