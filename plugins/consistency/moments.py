"""Moment matching: the particles of a group are compared as two samples of one distribution.

    L = mean_jk w_jk [k(A_j, A_k) + k(B_j, B_k) - 2 k(A_j, B_k)]

`A_j` is the jump of row `j` from `s`, `B_j` that from its neighbour `u`, without gradient. With
groups of one and a distance for a kernel it is the consistency loss.
"""

import abc
import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.rules import full_products
from core.objectives.carriers import JUMP, VALUE, Declares
from core.objectives.objective import GroupTerm, Term
from core.objectives.row import Row
from core.objectives.weights import Norm, Timed, Weight
from core.overriding import overridable
from core.times.unit import Times
from plugins.consistency.jump import ConsistencyJump, Neighbour, TrueJump, VelocityJump, stop

FLOOR = 1e-8
"""The least distance, so that a particle's distance to itself has no gradient."""


class PairKernel(eqx.Module):
    """`k(x, y)` of two particles and the times of their rows."""

    @abc.abstractmethod
    def __call__(self, x: Array, y: Array, a: Times, b: Times, sources: Array) -> Float[Array, ""]:
        """`a`, `b` are the times of the two rows; `sources` how far apart the two jumps start."""


class Laplace(PairKernel):
    """`exp(-|x - y| / (d |s - t|))`, with `d` the dimension: IMM's, for groups that share times.

    Source: IMM (arXiv 2503.07565), section 4, with the output scale `s - t` of its Euler form.
    """

    def __call__(self, x: Array, y: Array, a: Times, b: Times, sources: Array) -> Float[Array, ""]:
        del b, sources
        return jnp.exp(-_distance(x, y) / (x.size * jnp.maximum(a.s - a.t, 1e-4)))


class TimeAware(PairKernel):
    """`-|x - y| exp(-(|s_x - s_y| + |t_x - t_y|) / bandwidth)`.

    As printed, `s` of a particle `B` is its neighbour's time `u`; then two equal samples have a
    gradient, because the three terms of a pair carry different factors. `symmetric` takes the rows'
    own `s` for all three. Source: GCM, eqs. 43-46.
    """

    bandwidth: float = 0.1
    symmetric: bool = eqx.field(static=True, default=True)

    def __call__(self, x: Array, y: Array, a: Times, b: Times, sources: Array) -> Float[Array, ""]:
        apart = jnp.abs(a.s - b.s) if self.symmetric else sources
        return -_distance(x, y) * jnp.exp(-(apart + jnp.abs(a.t - b.t)) / self.bandwidth)


class MomentTerm(GroupTerm):
    """Groups of rows under a kernel."""

    neighbour: eqx.AbstractVar[Neighbour]
    kernel: eqx.AbstractVar[PairKernel]

    @abc.abstractmethod
    def particles(self, model: FlowMap, target: FlowMap, row: Row) -> tuple[Array, Array]:
        """`(A, B)` of one row; no gradient flows into `B`."""

    @abc.abstractmethod
    def declared_particles(
        self, live: FlowMap, fixed: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Array, Array]:
        """`(A, B)` without a stop: the gradient is that of `live`, numbers are of `fixed`."""

    @overridable
    def scale(self, times: Times) -> Float[Array, ""]:
        """A factor of the row's weight; times `A - B` the residual of `single`, up to its sign."""
        return jnp.ones_like(times.s)

    def exact(self, flow_map: FlowMap) -> GroupTerm:
        return dataclasses.replace(self, neighbour=TrueJump(flow_map))

    def loss(
        self, model: FlowMap, target: FlowMap, rows: Row, weight: Weight
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        A, B = jax.vmap(lambda row: self.particles(model, target, row))(rows)
        scale = jax.vmap(self.scale)(rows.unit)
        apart = jax.vmap(lambda a, b: jnp.mean((a - b) ** 2))(A, B)
        return self.compared(A, B, rows.unit, weight), stop(jnp.mean(scale**2 * apart))

    def declared(
        self, live: FlowMap, fixed: FlowMap, target: FlowMap, rows: Row, weight: Weight
    ) -> Float[Array, ""]:
        A, B = jax.vmap(lambda row: self.declared_particles(live, fixed, target, row))(rows)
        return self.compared(A, B, rows.unit, weight)

    def compared(
        self,
        A: Float[Array, " n *shape"],
        B: Float[Array, " n *shape"],
        times: Times,
        weight: Weight,
    ) -> Float[Array, ""]:
        """The loss of the particles of one group."""
        scale = jax.vmap(self.scale)(times)
        w = jax.vmap(lambda each: _factor(weight, each))(times) * scale
        own, other = jnp.meshgrid(w, w, indexing="ij")
        pairs = (own + other) / 2 if getattr(self.kernel, "symmetric", True) else own

        def between(X: Array, Y: Array, x_from: Array, y_from: Array) -> Array:
            def one(x, a, s):
                row = jax.vmap(lambda y, b, r: self.kernel(x, y, a, b, jnp.abs(s - r)))
                return row(Y, times, y_from)

            return jax.vmap(one)(X, times, x_from)

        s, u = times.s, times.u
        parts = between(A, A, s, s) + between(B, B, u, u) - 2 * between(A, B, s, u)
        return jnp.mean(pairs * parts)


class JumpMoments(MomentTerm):
    """`A = F(x_s, s, t)`, `B = sg[F(x_u, u, t)]`: IMM. Source: arXiv 2503.07565, eq. 12."""

    neighbour: Neighbour
    kernel: PairKernel
    size: int = eqx.field(static=True, default=4)

    def particles(self, model: FlowMap, target: FlowMap, row: Row) -> tuple[Array, Array]:
        x_u = self.neighbour(model.path, row, row.u)
        with full_products():
            near = target(x_u, row.u, row.t, row.cond)
            here = model(row.x_s, row.s, row.t, row.cond)
        return here, stop(near)

    @property
    def declares(self) -> Declares:
        return Declares((JUMP,), (*self.neighbour.numbers, "target"))

    def declared_particles(
        self, live: FlowMap, fixed: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Array, Array]:
        x_u = self.neighbour(live.path, row, row.u)
        return JUMP.of(live, row), target(x_u, row.u, row.t, row.cond)

    def single(self) -> Term:
        return ConsistencyJump(self.neighbour)


class VelocityMoments(MomentTerm):
    """The jumps with the gradient of the short one, over the gap: GCM.

        A = x_s + (u - s) V + (t - u) sg[V],   B = sg[x_u + (t - u) V(x_u, u, t)],

    Source: GCM, eq. 40 inside eqs. 43 and 44.
    """

    neighbour: Neighbour
    kernel: PairKernel
    size: int = eqx.field(static=True, default=2)

    def particles(self, model: FlowMap, target: FlowMap, row: Row) -> tuple[Array, Array]:
        x_u = self.neighbour(model.path, row, row.u)
        with full_products():
            V = model.average_velocity(row.x_s, row.s, row.t, row.cond)
            near = target(x_u, row.u, row.t, row.cond)
        return row.x_s + (row.u - row.s) * V + (row.t - row.u) * stop(V), stop(near)

    @property
    def declares(self) -> Declares:
        return Declares((VALUE,), (*self.neighbour.numbers, "current", "target"))

    def declared_particles(
        self, live: FlowMap, fixed: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Array, Array]:
        x_u, moved = self.neighbour(live.path, row, row.u), JUMP.of(fixed, row)
        moved += (row.u - row.s) * (VALUE.of(live, row) - VALUE.of(fixed, row))
        return moved, target(x_u, row.u, row.t, row.cond)

    def scale(self, times: Times) -> Float[Array, ""]:
        return 1 / jnp.maximum(times.s - times.u, 1e-6)

    def single(self) -> Term:
        return VelocityJump(self.neighbour)


def _factor(weight: Weight, times: Times) -> Float[Array, ""]:
    return weight.factor(times) if isinstance(weight, Timed) else jnp.ones_like(times.s)


def _distance(x: Array, y: Array) -> Float[Array, ""]:
    return jnp.maximum(Norm()(x - y, Times(*[jnp.zeros(())] * 3)), FLOOR)
