"""The residual of consistency models: a jump is compared with the one from a neighbour.

The parts combine freely: a `Neighbour` says how the state at the neighbouring time is found, a
`Step` (`core.times.steps`) how far that time lies, a `Weight` (`core.objectives.weights`) the loss
of a difference costs.
"""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.rules import full_products
from core.flow.solve import FixedSteps
from core.flow.teacher import Teacher
from core.objectives.carriers import JUMP, VALUE, Declares
from core.objectives.objective import Term
from core.objectives.perceptual import Compared, Comparing
from core.objectives.row import Row
from core.overriding import overridable
from core.times.steps import Step, middle_gap

stop = jax.lax.stop_gradient


class Neighbour(eqx.Module):
    """How the state at the neighbouring time is found."""

    @property
    @abc.abstractmethod
    def order(self) -> int:
        """The power of the gap with which the error of the state falls."""

    @property
    @overridable
    def numbers(self) -> tuple[str, ...]:
        """The parameters that the state depends on, see `core.objectives.carriers.Declares`."""
        return ()

    @abc.abstractmethod
    def __call__(self, path: Interpolant, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`x_u`, near `row.x_s`."""

    @overridable
    def secant(self, path: Interpolant, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`(x_s - x_u) / (s - u)`; the velocity of the pair at `u = s`."""
        gap = row.s - u
        quotient = (row.x_s - self(path, row, u)) / jnp.where(gap > 0, gap, 1.0)
        return jnp.where(gap > 0, quotient, row.v)


class SameNoise(Neighbour):
    """On the line of the sampled pair: `alpha(u) x_0 + sigma(u) z`."""

    @property
    def order(self) -> int:
        return 2

    def __call__(self, path: Interpolant, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        return path.interpolate(row.x_0, row.z, u)

    def secant(self, path: Interpolant, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        path = gaussian(path)
        return path.alpha_slope(row.s, u) * row.x_0 + path.sigma_slope(row.s, u) * row.z


class TeacherStep(Neighbour):
    """One Diffrax step of the teacher's ODE from `s` to `u`."""

    teacher: Teacher
    solver: str = "heun"

    @property
    def order(self) -> int:
        return ORDERS[self.solver] + 1

    @property
    def numbers(self) -> tuple[str, ...]:
        return ("teacher",)

    def __call__(self, path: Interpolant, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        del path
        x_u = self.teacher.flow(row.x_s, row.s, u, row.cond, stepping=FixedSteps(self.solver, 1))
        return stop(x_u)


class TrueJump(Neighbour):
    """On the trajectory itself, by a map that is exact; for checks."""

    flow_map: FlowMap

    @property
    def order(self) -> int:
        return 99

    def __call__(self, path: Interpolant, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        del path
        return stop(self.flow_map(row.x_s, row.s, u, row.cond))


ORDERS = {"euler": 1, "heun": 2, "midpoint": 2}
"""Orders of the solvers that make a neighbour."""


class ConsistencyJump(Comparing):
    """`F(x_s, s, t) - sg[F_target(x_u, u, t)]`; `u` is the row's, or `step` below `s`.

    In a space that is not flat it is `log` of the first at the second, whose length is the geodesic
    distance. Source: Consistency Models (arXiv 2303.01469), eqs. 7 and 10, with any target time.
    """

    neighbour: Neighbour
    step: float | None = None

    @property
    def declares(self) -> Declares:
        return Declares((JUMP,), (*self.neighbour.numbers, "target"))

    def compared(self, model: FlowMap, target: FlowMap, row: Row) -> Compared:
        u = neighbour_time(row, self.step)
        x_u = self.neighbour(model.path, row, u)
        with full_products():
            near = target(x_u, u, row.t, row.cond)
            here = model(row.x_s, row.s, row.t, row.cond)
        residual = model.path.space.log(stop(near), here)
        return Compared(residual, near, jnp.ones_like(row.s))

    def amplification(self, step: Step | None) -> float:
        return across(step, self.step)

    @property
    def order(self) -> int:
        return self.neighbour.order


class VelocityJump(Term):
    """The same in terms of the average velocity, divided by the gap and by `t - s`:

        V(x_s, s, t) - sg[(x_s - x_u) / (s - u) + (t - u) (V(x_s, s, t) - V(x_u, u, t)) / (s - u)].

    It is a difference quotient of the Eulerian rule, and flow matching at `t = s`. Its gradient is
    that of `ConsistencyJump` over `(s - u) (s - t)`, and it stays accurate at small gaps. The
    target takes the current parameters. Source: GCM, eq. 39.
    """

    neighbour: Neighbour
    step: float | None = None

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), (*self.neighbour.numbers, "current", "target"))

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        u = neighbour_time(row, self.step)
        gap = row.s - u
        x_u = self.neighbour(model.path, row, u)
        with full_products():
            V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
            near = target.average_velocity(x_u, u, row.t, row.cond)
        slope = jnp.where(gap > 0, (V - near) / jnp.where(gap > 0, gap, 1.0), 0.0)
        return V - stop(self.neighbour.secant(model.path, row, u) + (row.t - u) * slope)

    def amplification(self, step: Step | None) -> float:
        return across(step, self.step)

    @property
    def order(self) -> int:
        return self.neighbour.order - 1


def across(step: Step | None, size: float | None) -> float:
    """The amplification of a difference of neighbours: `s / (s - u)` in the middle, at the end of
    training."""
    return 0.5 / (middle_gap(step) if step is not None and size is None else size or 1.0)


def neighbour_time(row: Row, step: float | Float[Array, ""] | None) -> Float[Array, ""]:
    """The row's own neighbour, or `step` below `s` but not below `t`."""
    return row.u if step is None else jnp.maximum(row.s - step, row.t)
