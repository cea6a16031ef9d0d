"""Linear inverse problems: to recover an example from the observation `y = A x + noise`."""

import abc

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.overriding import overridable
from core.steering.reward import Observation, Reward


class Operator(eqx.Module):
    """A linear map `A` of one example."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*observed"]:
        """`A x`."""

    @overridable
    def enlarged(self, y: Float[Array, "*observed"]) -> Float[Array, "*shape"] | None:
        """An observation in the shape of an example, to be drawn; none where it is no image."""
        return None


class Matrix(Operator):
    """`A x` of a point."""

    A: Float[Array, "observed dim"]

    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, " observed"]:
        return self.A @ x


class Masked(Operator):
    """`m x`: zero where nothing is observed."""

    mask: Float[Array, "*shape"]

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.mask * x


class Separable(Operator):
    """`rows x columns'` of every channel: one matrix down the image, one across."""

    rows: Float[Array, "high height"]
    columns: Float[Array, "wide width"]

    def __call__(
        self, x: Float[Array, "height width channels"]
    ) -> Float[Array, "high wide channels"]:
        return jnp.einsum("ih,hwc,jw->ijc", self.rows, x, self.columns)

    def enlarged(
        self, y: Float[Array, "high wide channels"]
    ) -> Float[Array, "height width channels"] | None:
        """Every value fills the block that it is the mean of."""
        (high, height), (wide, width) = self.rows.shape, self.columns.shape
        return y.repeat(height // high, axis=0).repeat(width // wide, axis=1)


class LinearInverse(Reward):
    """`-|y - A x|^2 / (2 noise^2)`: the log-likelihood of the observation, up to its constant.

    With `lambda = 1` the tilted distribution is the posterior of `x` given `y`.
    """

    A: Operator
    y: Float[Array, "*observed"]
    noise: float

    @classmethod
    def of(cls, A: Operator, example: Float[Array, "*shape"], noise: float) -> "LinearInverse":
        """The problem whose observation is that of an example, without noise of its own."""
        return cls(A, A(example), noise)

    @property
    def observed(self) -> Float[Array, "*shape"] | None:
        return self.A.enlarged(self.y)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return -jnp.sum((self.y - self.A(x)) ** 2) / (2 * self.noise**2)


def as_inverse(reward: Reward) -> LinearInverse | None:
    """The linear inverse problem that a reward is, or None where it is none."""
    if isinstance(reward, Observation):
        return LinearInverse(Masked(reward.mask), reward.mask * reward.y, reward.noise)
    return reward if isinstance(reward, LinearInverse) else None


def blur_of(shape: tuple[int, int, int], width: float) -> Separable:
    """A Gaussian blur of this standard deviation in pixels; the part of a kernel beyond
    the border is spread over the rest, so that a constant image stays."""

    def matrix(size: int) -> Array:
        gap = np.arange(size)[:, None] - np.arange(size)[None]
        kernel = np.exp(-0.5 * (gap / width) ** 2)
        return jnp.asarray(kernel / kernel.sum(axis=1, keepdims=True), jnp.float32)

    return Separable(matrix(shape[0]), matrix(shape[1]))


def shrinking(shape: tuple[int, int, int], factor: int) -> Separable:
    """The means of blocks of `factor` by `factor` pixels."""

    def matrix(size: int) -> Array:
        return jnp.asarray(np.kron(np.eye(size // factor), np.full((1, factor), 1 / factor)), "f4")

    return Separable(matrix(shape[0]), matrix(shape[1]))
