"""How the state at the intermediate time of a CTM jump is found: `x_u` from `x_s`."""

import abc

import equinox as eqx
import jax
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.solve import FixedSteps
from core.flow.teacher import MapTeacher, Teacher
from core.objectives.row import Row
from core.overriding import overridable
from plugins.consistency.jump import ORDERS


class Segment(eqx.Module):
    """The way from `(row.x_s, row.s)` down to `u`."""

    @property
    @abc.abstractmethod
    def order(self) -> int | None:
        """The power of the segment's length with which its error falls; None if it has none."""

    @property
    @overridable
    def numbers(self) -> tuple[str, ...]:
        """Parameters beside those of targets that `x_u` depends on."""
        return ()

    @abc.abstractmethod
    def __call__(self, target: FlowMap, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`x_u`; `target` is the map with the parameters that targets use."""


class Solved(Segment):
    """`substeps` Diffrax steps of a velocity field's ODE: the teacher's, or without one our own.

    The self-induced ODE is that of the targets' diagonal `g(x, tau, tau)`,

        dx/dtau = (x - g(x, tau, tau)) / tau        (linear path),

    which is `dx/dtau = V(x, tau, tau)` on any path. Source: CTM (arXiv 2310.02279), section 3; the
    lecture notes' eqs. 1.34 (teacher) and 1.40 (self-induced).
    """

    teacher: Teacher | None = None
    solver: str = "heun"
    substeps: int = 1

    @property
    def order(self) -> int:
        return ORDERS[self.solver] + 1

    @property
    def numbers(self) -> tuple[str, ...]:
        return () if self.teacher is None else ("teacher",)

    def __call__(self, target: FlowMap, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        field = MapTeacher(target) if self.teacher is None else self.teacher
        stepping = FixedSteps(self.solver, self.substeps)
        return jax.lax.stop_gradient(field.flow(row.x_s, row.s, u, row.cond, stepping=stepping))


class Jumped(Segment):
    """`substeps` equal jumps `F(x_s, s, u)` of the target map, as the official code's self-learning
    does. Exact if the map is, and as wrong as the map: it brings in no velocity."""

    substeps: int = 1

    @property
    def order(self) -> None:
        return None

    def __call__(self, target: FlowMap, row: Row, u: Float[Array, ""]) -> Float[Array, "*shape"]:
        x, time = row.x_s, row.s
        for i in range(1, self.substeps + 1):
            after = row.s + (u - row.s) * (i / self.substeps)
            x, time = target(x, time, after, row.cond), after
        return jax.lax.stop_gradient(x)
