"""Teachers: frozen velocity fields that a method may learn from."""

import abc
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.condition import Condition
from core.flow_map import FlowMap
from core.path import Path
from core.solve import Adaptive, Fixed, Solution, solve

Tree = TypeVar("Tree")


class Teacher(eqx.Module):
    """A velocity field `v(x, t)` on a path, and its probability flow.

    No gradient passes into a teacher's parameters; gradients with respect to `x` do pass.
    """

    @property
    @abc.abstractmethod
    def path(self) -> Path:
        """The path on whose times and states the velocity is defined."""

    @abc.abstractmethod
    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        """`v(x, t)` of one example at path time `t`."""

    def flow(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
        *,
        method: Fixed | Adaptive = Adaptive(),
    ) -> Float[Array, "*shape"]:
        """`F(x_s, s, t)` by a Diffrax solve of `dx/dt = v(x, t)`, in either direction."""
        return self.solve(x, s, t, cond, method=method).x

    def solve(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
        *,
        method: Fixed | Adaptive = Adaptive(),
    ) -> Solution:
        """As `flow`, with the number of evaluations of the velocity."""
        return solve(lambda y, u: self.velocity(y, u, cond), x, s, t, method=method)


class MapTeacher(Teacher):
    """The diagonal `V(x, t, t)` of a flow map: of a trained run, an oracle or an EMA."""

    flow_map: FlowMap

    @property
    def path(self) -> Path:
        return self.flow_map.path

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        return frozen(self.flow_map).velocity(x, t, cond)


class GuidedTeacher(Teacher):
    """Classifier-free guidance inside an interval of times.

        v_w(x, t | c) = v(x, t | null) + w (v(x, t | c) - v(x, t | null))   for a <= t <= b,

    and `v(x, t | c)` elsewhere; `w = 1` is no guidance. Both velocities are always evaluated (two
    evaluations). Source: arXiv 2207.12598, eq. 6; the interval: arXiv 2404.07724.
    """

    teacher: Teacher
    scale: float
    null_label: int = eqx.field(static=True)
    interval: tuple[float, float] = (0.0, float("inf"))

    @property
    def path(self) -> Path:
        return self.teacher.path

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        null = Condition(label=jnp.asarray(self.null_label))
        v_null = self.teacher.velocity(x, t, null)
        v_cond = self.teacher.velocity(x, t, cond)
        inside = (t >= self.interval[0]) & (t <= self.interval[1])
        return v_null + jnp.where(inside, self.scale, 1.0) * (v_cond - v_null)


class AutoguidedTeacher(Teacher):
    """`v = v_weak + scale (v_strong - v_weak)`: extrapolates from a weak model to a strong one.

    Both must live on one path. Source: arXiv 2406.02507, eq. 3.
    """

    strong: Teacher
    weak: Teacher
    scale: float

    @property
    def path(self) -> Path:
        return self.strong.path

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        v_weak = self.weak.velocity(x, t, cond)
        return v_weak + self.scale * (self.strong.velocity(x, t, cond) - v_weak)


def frozen(tree: Tree) -> Tree:
    """The same pytree with gradients to its arrays stopped; inputs stay differentiable."""
    arrays, static = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), static)
