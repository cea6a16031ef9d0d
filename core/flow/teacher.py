"""Teachers: frozen velocity fields that a method may learn from, and their guidance."""

from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.flow.condition import Condition
from core.flow.field import VelocityField
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant

Tree = TypeVar("Tree")


class Teacher(VelocityField):
    """A frozen velocity field, from which a method may learn.

    No gradient passes into a teacher's parameters; gradients with respect to `x` do pass.
    """


class MapTeacher(Teacher):
    """The diagonal `V(x, t, t)` of a flow map: of a trained run, an oracle or an EMA."""

    flow_map: FlowMap
    path: Interpolant = eqx.field(init=False)

    def __post_init__(self):
        self.path = self.flow_map.path

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        return frozen(self.flow_map).velocity(x, t, cond)


class Nearest(Teacher):
    """A field that knows a part of its path's times, on all times of a `path` of the same form.

    Elsewhere the velocity is that of the nearest time that it knows, as with the `interval` of an
    `AverageVelocityMap`: of a network of discrete diffusion, which has seen neither clean examples
    nor pure noise, that is an error of about one over its largest noise-to-signal ratio.
    """

    field: VelocityField
    path: Interpolant

    @property
    def evaluations(self) -> int:
        return self.field.evaluations

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        known = self.field.path
        return self.field.velocity(x, jnp.clip(t, known.t_min, known.t_max), cond)


class Guided(Teacher):
    """Classifier-free guidance of a velocity field inside an interval of times.

        v_w(x, t | c) = v(x, t | null) + w (v(x, t | c) - v(x, t | null))   for a <= t <= b,

    and `v(x, t | c)` elsewhere; `w = 1` is no guidance. Both velocities are always evaluated (two
    evaluations). Without a `scale` the condition gives `(w, a, b)`, with `a, b` in unit time: for
    students that take guidance as an input, and for sampling. With `channels` the first so many are
    guided alone, 3 of 4 in the samplers of DiT and SiT. A guided field has no jumps: the mean of
    two average velocities over a long gap is not that of the guided flow. Source: arXiv 2207.12598,
    eq. 6; the interval: arXiv 2404.07724.
    """

    field: VelocityField
    scale: float | None
    null_label: int = eqx.field(static=True)
    interval: tuple[float, float] = (0.0, float("inf"))
    channels: int | None = eqx.field(static=True, default=None)
    path: Interpolant = eqx.field(init=False)

    def __post_init__(self):
        self.path = self.field.path

    @property
    def evaluations(self) -> int:
        return 2 * self.field.evaluations

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        field, label = frozen(self.field), None if cond is None else cond.label
        v_null = field.velocity(x, t, Condition(label=jnp.asarray(self.null_label)))
        v_cond = field.velocity(x, t, Condition(label=label))
        w, inside = self.scale, (t >= self.interval[0]) & (t <= self.interval[1])
        if w is None:
            w, inside = asked_guidance(self.path, t, cond)
        w = jnp.where(inside, w, 1.0)
        if self.channels is not None:
            channel = jnp.arange(x.shape[-1]).reshape((1,) * (x.ndim - 1) + (-1,))
            w = jnp.where(channel < self.channels, w, 1.0)
        return v_null + w * (v_cond - v_null)


class Autoguided(Teacher):
    """`v = v_weak + scale (v_strong - v_weak)`: extrapolates from a weak model to a strong one.

    Both must live on one path. Without a `scale` the condition gives it, and the interval of times
    in which it acts; outside it is 1. Source: arXiv 2406.02507, eq. 3; a scale drawn for each
    example: Align Your Flow (arXiv 2506.14603), section 3.4.
    """

    strong: VelocityField
    weak: VelocityField
    scale: float | None
    path: Interpolant = eqx.field(init=False)

    def __post_init__(self):
        self.path = self.strong.path

    @property
    def evaluations(self) -> int:
        return self.strong.evaluations + self.weak.evaluations

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        strong, weak, scale = frozen(self.strong), frozen(self.weak), self.scale
        if scale is None:
            w, inside = asked_guidance(self.path, t, cond)
            scale, cond = jnp.where(inside, w, 1.0), Condition(label=cond.label if cond else None)
        v_weak = weak.velocity(x, t, cond)
        return v_weak + scale * (strong.velocity(x, t, cond) - v_weak)


def asked_guidance(
    path: Interpolant, t: Float[Array, ""], cond: Condition | None
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """The guidance scale of a condition and whether time `t` lies in its interval."""
    if cond is None or cond.guidance is None:
        return jnp.ones(()), jnp.asarray(False)
    w, a, b = cond.guidance
    unit = path.unit_time(t)
    return w, (unit >= a) & (unit <= b)


def frozen(tree: Tree) -> Tree:
    """The same pytree with gradients to its arrays stopped; inputs stay differentiable."""
    arrays, static = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.lax.stop_gradient(arrays), static)
