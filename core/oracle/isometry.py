"""Isometries of spaces: they move distributions, maps and residuals together."""

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.space import Space


class Isometry(eqx.Module):
    """`x -> matrix x + shift` of points, and `w -> matrix w` of tangent vectors.

    A rotation of a sphere, the product with a quaternion from the left, a shift of angles.
    """

    space: Space
    matrix: Float[Array, "n n"]
    shift: Float[Array, " n"]

    def point(self, x: Float[Array, " n"]) -> Float[Array, " n"]:
        """The point moved."""
        return self.space.project(self.matrix @ x + self.shift)

    def vector(self, w: Float[Array, " n"]) -> Float[Array, " n"]:
        """The tangent vector moved, to be one at the point moved."""
        return self.matrix @ w
