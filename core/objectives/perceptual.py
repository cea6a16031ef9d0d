"""Perceptual distances: two examples are compared as a network sees them, beside or instead of
their values.

    d(x, y) = mean over maps l and places p of |n(f_lp(x)) - n(f_lp(y))|^2,    n(f) = f / |f|

Each map counts alike, and so does each of its channels: LPIPS (arXiv 1801.03924), eq. 1, without
its learned weights of channels.
"""

import abc
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.flow.path import Path, gaussian
from core.flow.teacher import frozen
from core.nets.perception import Identity, Perception
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Players, Residuals, RowKind, Term
from core.objectives.row import Row
from core.objectives.weights import Squared, Timed, Weight
from core.times.steps import Step
from core.times.unit import Times

stop = jax.lax.stop_gradient
LEAST = 1e-10
"""Added to the squared length of the channels of a place, so that none is divided by zero."""


def seen(perception: Perception, x: Float[Array, "*shape"]) -> Float[Array, " dim"]:
    """The vector in which the squared distance of two examples is `d`: all maps but the raw one."""
    _, *maps = frozen(perception).maps(x)
    parts = []
    for one in maps:
        unit = one / jnp.sqrt(jnp.sum(one**2, axis=-1, keepdims=True) + LEAST)
        parts.append(unit.reshape(-1) / (len(maps) * len(one)) ** 0.5)
    return jnp.concatenate(parts)


class Compared(NamedTuple):
    """A residual `R` and the two clean examples that it compares: a number `wanted`, and
    `wanted + scale R`, through which the gradient of `R` flows."""

    residual: Float[Array, "*shape"]
    wanted: Float[Array, "*shape"]
    scale: Float[Array, ""]


class Comparing(Term):
    """A term whose residual compares two clean examples."""

    @abc.abstractmethod
    def compared(self, model: FlowMap, target: FlowMap, row: Row) -> Compared:
        """The residual and the examples; arguments as of a call."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        return self.compared(model, target, row).residual


def velocity_scale(path: Path, t: Float[Array, ""]) -> Float[Array, ""]:
    """How much the denoised example moves with the velocity at time `t`: `-sigma / determinant`,
    on the linear path `-t`."""
    return -path.sigma(t) / path.determinant(t)


class Denoised(Comparing):
    """A term in velocities, read as one of denoised examples: `x_0` itself is wanted.

    On the linear path the other is `x_s - s W` where the residual is `W - v`. For a compound `W`,
    whose mean is the marginal velocity at the exact map, it is the same denoiser at all `t`.
    """

    term: Term

    def compared(self, model: FlowMap, target: FlowMap, row: Row) -> Compared:
        residual = self.term(model, target, row)
        assert not isinstance(residual, tuple)
        return Compared(residual, row.x_0, velocity_scale(gaussian(model.path), row.s))

    @property
    def diagonal(self) -> bool:  # pyright: ignore
        """That of the term."""
        return self.term.diagonal

    @property
    def declares(self) -> Declares:
        return self.term.declares

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        return self.term.declared(live, fixed, target, row)


class Perceptual(Term):
    """Two residuals: that of a term, and the difference of what is seen in its two examples, whose
    square is `d`."""

    term: Comparing
    perception: Perception

    @property
    def diagonal(self) -> bool:  # pyright: ignore
        """That of the term."""
        return self.term.diagonal

    @property
    def declares(self) -> Declares:
        (carrier,), numbers = self.term.declares.carriers, self.term.declares.numbers
        return Declares((carrier, Carrier(f"f({carrier.symbol})")), numbers)

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        (residual,) = self.term.declared(live, fixed, target, row)
        _, wanted, scale = self.term.compared(fixed["model"], target["model"], row)
        there = seen(self.perception, wanted)
        return residual, seen(self.perception, wanted + scale * residual) - there

    def __call__(
        self, model: FlowMap, target: FlowMap, row: Row
    ) -> tuple[Float[Array, "*shape"], Float[Array, " dim"]]:
        residual, wanted, scale = self.term.compared(model, target, row)
        wanted = stop(wanted)
        here = seen(self.perception, wanted + scale * residual)
        return residual, here - stop(seen(self.perception, wanted))

    @property
    def order(self) -> int | None:
        return self.term.order

    def amplification(self, step: Step | None) -> float:
        return self.term.amplification(step)

    def with_step(self, step: float) -> Term:
        inner = self.term.with_step(step)
        assert isinstance(inner, Comparing)
        return dataclasses.replace(self, term=inner)


class Share(Weight):
    """`factor` times a weight."""

    factor: float
    weight: Weight

    def __call__(self, residual: Float[Array, "*shape"], times: Times) -> Float[Array, ""]:
        return self.factor * self.weight(residual, times)

    def declared(
        self, live: Float[Array, "*shape"], fixed: Float[Array, "*shape"], times: Times
    ) -> Float[Array, ""]:
        return self.factor * self.weight.declared(live, fixed, times)


def perceived(
    kinds: tuple[RowKind, ...], perception: Perception, values: float
) -> tuple[RowKind, ...]:
    """The kinds of rows, in which every `Comparing` term has the distance `d` too, with the weight
    in time of its kind; the residual's own loss counts `values` times. With `Identity` they stay.
    """
    if isinstance(perception, Identity):
        return kinds
    return tuple(_perceived(kind, perception, values) for kind in kinds)


def _perceived(kind: RowKind, perception: Perception, values: float) -> RowKind:
    if not isinstance(kind.term, Comparing):
        return kind
    assert isinstance(kind.weight, Weight)
    square = Squared()
    distance = Timed(kind.weight.factor, square) if isinstance(kind.weight, Timed) else square
    weight = Share(values, kind.weight), distance
    return dataclasses.replace(kind, term=Perceptual(kind.term, perception), weight=weight)
