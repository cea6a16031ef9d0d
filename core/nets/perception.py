"""Perceptual features: the inputs of a method or a metric in place of raw values.

A `Perception` turns one example into feature maps of several scales, each a set of places with
channels, and into one vector. Differentiable in the example; its own parameters are never trained
by those who look through it.
"""

import abc

import equinox as eqx
from jaxtyping import Array, Float


class Perception(eqx.Module):
    """Features of one example, frozen."""

    @abc.abstractmethod
    def maps(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "places channels"], ...]:
        """The feature maps, from fine to coarse; the raw values are the first."""

    @abc.abstractmethod
    def vector(self, x: Float[Array, "*shape"]) -> Float[Array, " dim"]:
        """One vector of the whole example, for distances between distributions."""


class Identity(Perception):
    """The values themselves: one map with a single place."""

    def maps(self, x: Float[Array, "*shape"]) -> tuple[Float[Array, "places channels"], ...]:
        return (x.reshape(1, -1),)

    def vector(self, x: Float[Array, "*shape"]) -> Float[Array, " dim"]:
        return x.reshape(-1)
