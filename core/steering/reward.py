"""Rewards: functions that samples are steered by."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.overriding import overridable


class Reward(eqx.Module):
    """`r(x)` of one example in network values (images in [-1, 1], height by width by channels)."""

    @property
    @overridable
    def differentiable(self) -> bool:
        """Whether it has a gradient; methods that take one refuse a reward without."""
        return True

    @property
    @overridable
    def observed(self) -> Float[Array, "*shape"] | None:
        """The observation in the shape of an example, to be drawn beside the samples; or None.

        Unobserved entries are 0, the middle grey of an image.
        """
        return None

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        """The reward, one number."""


class Sum(Reward):
    """`sum_i weights_i r_i(x)`."""

    rewards: tuple[Reward, ...]
    weights: tuple[float, ...] = eqx.field(static=True)

    @property
    def differentiable(self) -> bool:
        return all(reward.differentiable for reward in self.rewards)

    @property
    def observed(self) -> Float[Array, "*shape"] | None:
        found = (reward.observed for reward in self.rewards)
        return next((observed for observed in found if observed is not None), None)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        parts = [w * r(x) for w, r in zip(self.weights, self.rewards, strict=True)]
        return jnp.sum(jnp.stack(parts))


class Brightness(Reward):
    """The mean of the pixels on the scale from 0 (black) to 1 (white)."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return jnp.mean((x + 1) / 2)


class Colour(Reward):
    """One channel less the mean of the other two, on the scale from 0 to 1."""

    channel: int = eqx.field(static=True, default=2)

    def __call__(self, x: Float[Array, "height width 3"]) -> Float[Array, ""]:
        means = jnp.mean((x + 1) / 2, axis=(0, 1))
        return 1.5 * means[self.channel] - 0.5 * jnp.sum(means)


class Smoothness(Reward):
    """`-mean |grad x|^2`, by differences of neighbouring pixels along both sides.

    A quadratic reward, `-(x - 0)' H (x - 0) / 2` with the Laplacian of the grid in `H`.
    """

    def __call__(self, x: Float[Array, "height width channels"]) -> Float[Array, ""]:
        squares = jnp.sum(jnp.diff(x, axis=0) ** 2) + jnp.sum(jnp.diff(x, axis=1) ** 2)
        return -squares / x.size


class Symmetry(Reward):
    """`-|x - mirror(x)|^2 / (2 width^2)`, mirrored left to right."""

    width: float = 1.0

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return -jnp.sum((x - jnp.flip(x, axis=1)) ** 2) / (2 * self.width**2)


class Observation(Reward):
    """`-|m (x - y)|^2 / (2 noise^2)`: the log-likelihood of an observation `y` under the mask
    `m`, up to its constant. With the whole mask, closeness to one example."""

    y: Float[Array, "*shape"]
    mask: Float[Array, "*shape"]
    noise: float = 0.3

    @property
    def observed(self) -> Float[Array, "*shape"] | None:
        return self.mask * self.y

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return -jnp.sum(self.mask * (x - self.y) ** 2) / (2 * self.noise**2)


class Linear(Reward):
    """`a . x`, whose tilt of a Gaussian is known."""

    a: Float[Array, "*shape"]

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        return jnp.sum(self.a * x)


class Quadratic(Reward):
    """`-(x - y)' H (x - y) / 2`, whose tilt of a Gaussian is known."""

    y: Float[Array, " dim"]
    H: Float[Array, "dim dim"]

    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, ""]:
        return -0.5 * (x - self.y) @ self.H @ (x - self.y)
