"""What the oracle checks need in spaces that are not flat, and the checks that are of spaces alone.

There is no pair whose conditional velocity is the marginal one, so P0 puts the marginal velocity
into the row by itself. Beside the flipped map there is a second negative control, the same residual
with curvature left out, and **EQ**: an isometry of the space that moves the problem and a row moves
the residual with them.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.conformance.checks import Check
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.interpolant import GeodesicPath, Interpolant
from core.flow.space import Euclidean, Space
from core.objectives.objective import JointTerm
from core.objectives.row import Row
from core.oracle.isometry import Isometry
from core.oracle.on_space import SpaceProblem
from core.oracle.space_map import SpaceMap

EQ_BOUND = 1e-11
ROWS = 1024
"""Rows for P0 and E0, at most: the exact map is integrated for every one."""
ORDER_ROWS = 12
FINER = 0.25
"""Factor of the steps by which orders are measured: on the torus those of flat space are too coarse
for the power to be seen (ect 1.74 of 2; so 2.00)."""
FEW = 32
"""Rows for the checks that are of spaces alone."""


class Uncurved(Space):
    """The points, geodesics and tangents of a space, with the sums and identities of flat space in
    the place of the derivatives of geodesics."""

    space: Space

    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.space.exp(x, u)

    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.space.log(x, y)

    def tangent(
        self, x: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return self.space.tangent(x, w)

    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.space.project(x)

    def source_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], v: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return Euclidean().source_pull(x, u, v)

    def target_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return Euclidean().target_pull(x, u, w)

    def join(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return Euclidean().join(x, u, w)


class OnPath(FlowMap):
    """A map on another path of the same points and times."""

    flow_map: FlowMap
    path: Interpolant

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return self.flow_map.average_velocity(x, s, t, cond)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        return self.flow_map.velocity(x, t, cond)


class Smooth(FlowMap):
    """A smooth map that is not exact, for what is differentiated in reverse or moves with its
    problem: `size` times the velocity at the middle of the two times."""

    problem: SpaceProblem
    path: Interpolant
    size: float = eqx.field(static=True, default=1.0)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        del cond
        x = self.path.space.project(x)
        return self.path.space.tangent(x, self.size * self.problem.velocity(x, (s + t) / 2))


def marginal_row(problem: SpaceProblem, row: Row) -> Row:
    """The row with the marginal velocity in the place of that of its pair."""
    return eqx.tree_at(lambda r: r.v, row, problem.velocity(row.x_s, row.s))


def mean_size(
    term: JointTerm, problem: SpaceProblem, model: FlowMap, others: dict[str, FlowMap], rows: Row
) -> Float[Array, ""]:
    """The median over rows of `|E[R | x_s]|`, by quadrature over the pairs that meet at `x_s`."""
    space = model.path.space

    def mean(row: Row) -> Array:
        velocities, weights = problem.posterior_velocities(row.x_s, row.s)
        values = jax.vmap(lambda v: residual(v, row))(velocities)
        return jnp.tensordot(weights, values, 1)

    def residual(v: Array, row: Row) -> Array:
        x_0, z = (space.exp(row.x_s, gap * v) for gap in (-row.s, 1 - row.s))
        pair = eqx.tree_at(lambda r: (r.x_0, r.z, r.v), row, (x_0, z, v))
        players = {"model": model, **others}
        return term.residuals(players, players, pair)["model"][0]

    means = jax.vmap(mean)(rows)
    return jnp.median(jnp.sqrt(jnp.sum(means**2, axis=tuple(range(1, means.ndim)))))


def moved_row(isometry: Isometry, row: Row) -> Row:
    """The row with its points and its velocity moved."""
    points = (isometry.point(x) for x in (row.x_0, row.z, row.x_s))
    return eqx.tree_at(lambda r: (r.x_0, r.z, r.x_s, r.v), row, (*points, isometry.vector(row.v)))


def extra_checks(
    label: str, term: JointTerm, exact: SpaceMap, rows: Row, key: Key[Array, ""]
) -> list[Check]:
    """The checks of a term that are of spaces alone, on rows with the marginal velocity."""
    few = jax.tree.map(lambda leaf: leaf[:FEW], rows)
    checks, moved = [], exact.problem.moved(key)
    size, dropped, apart, control = _extra(term, exact, few, moved)
    if abs(float(dropped) - float(size)) > 1e-12:  # else the term uses none, or there is none
        found = Check(
            f"{label} residual, without curvature", "P0", float(size), 1e-9, float(dropped)
        )
        checks.append(found)
    if moved is not None:
        name = f"{label} under an isometry"
        checks.append(Check(name, "EQ", float(apart), EQ_BOUND, float(control)))
    return checks


@eqx.filter_jit
def _extra(
    term: JointTerm, exact: SpaceMap, rows: Row, moved: tuple[SpaceProblem, Isometry] | None
) -> tuple[Array, Array, Array, Array]:
    """The largest residual; without curvature; and by how much it is not moved by an isometry, on
    rows with another velocity and at a map that is not exact (at an exact one some residuals are 0
    whatever the rows), with the moved map and with the map as it was."""
    bare = OnPath(flow_map=exact, path=GeodesicPath(manifold=Uncurved(space=exact.path.space)))
    dropped = jnp.max(jnp.abs(jax.vmap(lambda row: _residual(term, bare, row))(rows)))
    other = eqx.tree_at(lambda r: r.v, rows, 1.5 * rows.v)
    there, problem = other, exact.problem
    if moved is not None:
        problem, isometry = moved
        there = jax.vmap(lambda row: moved_row(isometry, row))(other)
    here = jax.vmap(lambda row: _residual(term, exact, row))(rows)
    # One program for the three: it is compiled for longer than it runs.
    same = exact.problem
    problems = jax.tree.map(lambda *p: jnp.stack(p), same, problem, same)
    stacked = jax.tree.map(lambda *r: jnp.stack(r), other, there, there)

    def residuals(problem: SpaceProblem, rows: Row) -> Array:
        teacher = SpaceMap(problem=problem, path=exact.path, steps=exact.steps)
        model = Smooth(problem=problem, path=exact.path, size=1.5)  # unlike the teacher's, at s = t
        return jax.vmap(lambda row: _residual(term, model, row, teacher))(rows)

    turned, right, wrong = jax.vmap(residuals)(problems, stacked)
    if moved is not None:
        turned = jax.vmap(moved[1].vector)(turned)
    apart, control = (jnp.max(jnp.abs(found - turned)) for found in (right, wrong))
    return jnp.max(jnp.abs(here)), dropped, apart, control


def _residual(term: JointTerm, model: FlowMap, row: Row, teacher: FlowMap | None = None) -> Array:
    """The residual with a teacher's map, which is the model itself by default."""
    known = model if teacher is None else teacher
    inside: Callable[[Any], bool] = lambda part: isinstance(part, SpaceMap)  # noqa: E731
    term = jax.tree.map(lambda part: known if inside(part) else part, term, is_leaf=inside)
    players = {"model": model}
    return term.residuals(players, players, row)["model"][0]
