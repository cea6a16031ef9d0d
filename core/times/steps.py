"""Step functions: how far below the source time `s` its neighbour `u` lies.

All times are unit times, `sigma / (alpha + sigma)`, and `sigma` below is the noise-to-signal ratio
`s / (1 - s)`. A new step function is a subclass with one method. Those with a `size` can be scaled
to a given mean gap, which makes their shapes comparable: see `with_mean_gap`. Source: the table of
discretisation functions in "A Guide to Training Consistency Models" (GCM), eqs. 26-36.
"""

import abc
import dataclasses
import math
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Unit = Float[Array, "*n"]
Fraction = Float[Array, ""]


class Step(eqx.Module):
    """The neighbour `u = max(t, s - gap)` of a source time `s`."""

    @abc.abstractmethod
    def gap(self, s: Unit, progress: Fraction) -> Unit:
        """`s - u` before `u` is kept above the target time; positive for `s > 0`.

        `progress` is the fraction of the training that is done, for curricula.
        """

    def __call__(self, s: Unit, t: Unit, progress: Fraction) -> Unit:
        """The neighbour `u`, between `t` and `s`."""
        return jnp.clip(s - self.gap(s, progress), t, s)


class PolynomialStep(Step):
    """`size (1 - s)^down s^up`: constant (0, 0), decreasing (n, 0), increasing (0, n), concave.

    Source: GCM eqs. 26 and 30-34.
    """

    size: float = 0.005 / 3
    down: int = eqx.field(static=True, default=0)
    up: int = eqx.field(static=True, default=0)

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        del progress
        return self.size * (1 - s) ** self.down * s**self.up


class ConvexStep(Step):
    """`size (1/2 - s)^2`. Source: GCM eq. 35."""

    size: float = 0.02

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        del progress
        return self.size * (0.5 - s) ** 2


class ExponentialStep(Step):
    """`size e^(-rate s)`, GCM's default.

    The shape `e^(-L s / 2)` minimises the accumulated error of steps whose local errors grow by
    `e^(L s)`. Source: GCM eq. 36 and appendix C.
    """

    size: float = 0.005
    rate: float = 3.5

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        del progress
        return self.size * jnp.exp(-self.rate * s)


class RatioStep(Step):
    """`sigma_u = sigma_s - size`, in unit time `size (1 - s)^2 / (1 - size (1 - s))`.

    Source: IMM (arXiv 2503.07565), with `size = (160 - 0) / 2^15`; GCM eq. 29.
    """

    size: float = 160 / 2**15

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        del progress
        rest = 1 - s
        return self.size * rest**2 / (1 - self.size * rest)


class EdmStep(Step):
    """`sigma_u^(1/rho) = sigma_s^(1/rho) - size`: steps as on EDM's grid, at any `s`.

    Source: EDM (arXiv 2206.00364), eq. 5. GCM's eq. 27 carries the same steps to time by the angle,
    on a linear path; here the time of `sigma` is the path's own.
    """

    size: float = 0.01
    rho: float = eqx.field(static=True, default=7.0)

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        del progress
        sigma = s / jnp.maximum(1 - s, 1e-6)
        root = jnp.maximum(sigma ** (1 / self.rho) - self.size, 0.0)
        return s - _unit(root**self.rho)


class TuningStep(Step):
    """`sigma_u = sigma_s [1 - size^(-(j + 1)) (1 + k sigmoid(-b sigma_s))]_+` at stage `j`.

    At stage 0 of base 2 most neighbours are the data end, which is diffusion training; each stage
    divides the gap by the base. `size` is `1 / base`. Above the ratio `most` the neighbour is that
    of `most`, so that `s = 1` has one. Source: easy consistency tuning (arXiv 2406.14548), section
    3 and its code: k = 8, b = 1.
    """

    size: float = 0.5
    stages: int = eqx.field(static=True, default=8)
    k: float = 8.0
    b: float = 1.0
    most: float = math.inf

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        sigma = jnp.minimum(s / jnp.maximum(1 - s, 1e-6), self.most)
        stage = jnp.clip(jnp.floor(progress * self.stages), 0, self.stages - 1)
        share = self.size ** (stage + 1) * (1 + self.k * jax.nn.sigmoid(-self.b * sigma))
        return s - _unit(sigma * jnp.maximum(1 - share, 0.0))


class GridStep(Step):
    """The next node of a `NodeGrid` below `s`, which lies on one."""

    grid: "NodeGrid"

    def gap(self, s: Unit, progress: Fraction) -> Unit:
        count = self.grid.intervals(progress)
        index = jnp.round(self.grid.fraction(s) * count)
        return s - self.grid.node(jnp.maximum(index - 1, 0) / count)


class NodeGrid(eqx.Module):
    """A grid of times whose number of intervals grows with training from `first` to `last`.

    Nodes are uniform in `sigma^(1/rho)` on `[sigma_min, sigma_max]`, EDM's; the first and the last
    are moved to 0 and 1. With `rho = 0` they are evenly spaced in unit time. The number grows
    smoothly, as in consistency training,

        N(k) = ceil(sqrt(progress ((s_1 + 1)^2 - s_0^2) + s_0^2) - 1),

    or with `doubling` in equal stages, `N = min(s_0 2^j, s_1)`, as in its improved version.
    Source: arXiv 2303.01469, appendix C; arXiv 2310.14189, eq. 8.
    """

    first: int = eqx.field(static=True, default=10)
    last: int = eqx.field(static=True, default=10)
    rho: float = eqx.field(static=True, default=7.0)
    sigma_min: float = eqx.field(static=True, default=0.002)
    sigma_max: float = eqx.field(static=True, default=80.0)
    doubling: bool = eqx.field(static=True, default=False)

    def intervals(self, progress: Array) -> Fraction:
        """The number of intervals at that fraction of the training."""
        if self.doubling:
            stages = math.floor(math.log2(self.last / self.first)) + 1
            stage = jnp.clip(jnp.floor(progress * stages), 0, stages - 1)
            return jnp.minimum(self.first * 2.0**stage, self.last)
        low, high = self.first**2, (self.last + 1) ** 2
        refined = jnp.ceil(jnp.sqrt(progress * (high - low) + low) - 1)
        return jnp.clip(refined, self.first, self.last)

    def node(self, fraction: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The unit time of a node: `fraction` 0 is the data end, 1 the noise end."""
        if self.rho == 0:
            return fraction
        inside = _unit(self.sigma(fraction))
        return jnp.where(fraction <= 0, 0.0, jnp.where(fraction >= 1, 1.0, inside))

    def sigma(self, fraction: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The noise-to-signal ratio of a node, before the ends are moved."""
        if self.rho == 0:
            return fraction / jnp.maximum(1 - fraction, 1e-6)
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (a + fraction * (b - a)) ** self.rho

    @property
    def top(self) -> float:
        """The noise-to-signal ratio for which the last node stands, which is moved to time 1: half
        an interval below it where the nodes are evenly spaced."""
        return self.sigma_max if self.rho else 2.0 * self.last

    def fraction(self, s: Float[Array, "*n"]) -> Float[Array, "*n"]:
        """The inverse of `node`, in [0, 1]."""
        if self.rho == 0:
            return s
        a, b = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        root = (s / jnp.maximum(1 - s, 1e-6)) ** (1 / self.rho)
        return jnp.clip((root - a) / (b - a), 0.0, 1.0)


def _unit(sigma: Float[Array, "*n"]) -> Float[Array, "*n"]:
    return sigma / (1 + sigma)


STEPS: dict[str, Step] = {
    "constant": PolynomialStep(),
    "edm": EdmStep(),
    "ect": TuningStep(stages=1),
    "imm": RatioStep(),
    "linear-decrease": PolynomialStep(down=1),
    "quadratic-decrease": PolynomialStep(down=2),
    "cubic-decrease": PolynomialStep(down=3),
    "quadratic-increase": PolynomialStep(up=2),
    "quadratic-concave": PolynomialStep(down=1, up=1),
    "quadratic-convex": ConvexStep(),
    "exponential": ExponentialStep(),
}
"""The shapes that GCM compares, by name; scale them with `with_mean_gap`."""

Sized = TypeVar("Sized", bound=Step)


def mean_gap(step: Step) -> float:
    """The integral of the gap over `[0, 1]`."""
    nodes = np.linspace(0.0, 1.0, 4001)
    with jax.ensure_compile_time_eval():
        gaps = np.asarray(step.gap(jnp.asarray(nodes), jnp.zeros(())), np.float64)
    return float(np.trapezoid(gaps, nodes))


def middle_gap(step: Step) -> float:
    """The gap below `s = 1/2` at the end of training."""
    with jax.ensure_compile_time_eval():
        return float(jax.jit(step.gap)(0.5, 1.0))


def with_mean_gap(step: Sized, mean: float) -> Sized:
    """The same shape with the `size` at which its mean gap is `mean`, in (0, 0.3)."""
    from scipy.optimize import brentq

    def excess(log_size: float) -> float:
        return mean_gap(dataclasses.replace(step, size=math.exp(log_size))) - mean

    log_size = brentq(excess, math.log(1e-6), math.log(0.9), xtol=1e-7)
    size = math.exp(float(log_size))  # pyright: ignore[reportArgumentType]
    return dataclasses.replace(step, size=size)
