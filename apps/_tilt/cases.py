"""The cases of the self-test: rows of methods, specified wrong answers, published figures, a
control.

A new method is a row of `EXACT`, or where it is biased by specification a row of `WRONG`.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.steering.fixtures import Fixture, chain_linear, fixtures, gaussian_linear
from core.steering.reward import Reward
from core.steering.steering import Evaluations, Need, Steering, Tilt
from core.steering.weights import Resampler
from plugins.steering import (
    FK,
    FMTT,
    HMC,
    PCN,
    SMC,
    SNIS,
    TDS,
    BestOfN,
    GradientGuide,
    Slice,
    Waltz,
)
from plugins.steering.sequential import Looking, Particle

ALL = "G1", "G1q", "G2", "G2 inpainting", "M1", "M2"
SMOOTH = "G1", "G1q", "G2", "M1"


@dataclass(frozen=True)
class Exact:
    """A method whose Z and weighted mean must be right on these fixtures."""

    label: str
    method: Steering
    fixtures: tuple[str, ...] = ALL
    islands: int = 400


@dataclass(frozen=True)
class Wrong:
    """A method whose distribution is known to be another: its specified mean and variance, and how
    near ours must come (on top of four standard errors of the mean); None is not looked at."""

    label: str
    method: Steering
    fixture: str
    mean: float
    variance: float | None
    tolerance: float
    islands: int = 100


@dataclass(frozen=True)
class Published:
    """A figure of the specification's table: `E[Z_hat] / Z`, its error, the sd of `log Z_hat`."""

    fixture: str
    label: str
    ratio: float
    error: float
    spread: float


EXACT = [
    Exact("snis", SNIS()),
    Exact("smc", SMC()),
    Exact("smc, 4 steps", SMC(steps=4)),
    Exact("smc, no twist", SMC(twist=False)),
    Exact("smc, tweedie", SMC(look="tweedie")),
    Exact("smc, naive", SMC(look="naive")),
    Exact("smc, rho 0.5", SMC(rho=0.5)),
    Exact("smc, g 1", SMC(g="1", steps=4), ("G1", "G1q", "M1")),
    Exact("smc, posterior", SMC(look="posterior", steps=4, inner=4), ("G1", "G1q"), 200),
    Exact("smc, posterior, no twist", SMC(look="posterior", steps=3, twist=False), ("M1",), 200),
    Exact("fk, diff", FK(), ("G1q", "G2", "M1")),
    Exact("fk, max", FK(potential="max", steps=4), ("G1 weak",)),
    Exact("fk, sum", FK(potential="sum", steps=3), ("G1 weak",)),
    Exact("smc, em", SMC(kernel="em", steps=20), ("em, 20 steps",)),
    Exact("smc, em", SMC(kernel="em", steps=50), ("em, 50 steps",)),
    Exact("smc, ancestral", SMC(kernel="ancestral", steps=20), ("ancestral, 20 steps",)),
    Exact("tds", TDS(steps=20), ("ancestral, 20 steps",)),
    Exact("tds", TDS(steps=50), ("ancestral, 50 steps",)),
    Exact("tds, em", TDS(steps=50, kernel="em"), ("em, 50 steps",)),
    Exact("fmtt", FMTT(steps=200), SMOOTH, 100),  # spikes of r(F) bias it on M2
    Exact("fmtt, tweedie", FMTT(steps=200, look="tweedie"), (*SMOOTH, "M2"), 100),
    Exact("pcn", PCN(moves=160)),
    Exact("slice", Slice(moves=80)),
    Exact("hmc", HMC(moves=24), (*SMOOTH, "M2"), 100),
    Exact("waltz", Waltz(moves=40, time=0.7), SMOOTH, 100),
    Exact("waltz, 80 moves", Waltz(moves=80, time=0.7), ("M2",), 100),  # 40 do not find the mode
]

BEST = 0.4 + 1.5**0.5 * 2.3437
"""The mean of the largest of 64 draws of N(0.4, 1.5)."""
FINE = GradientGuide(steps=1000, start=0.9999)
WRONG = [
    Wrong("bon, 64", BestOfN(), "G1", BEST, None, 0.0, 400),
    Wrong("guide, tweedie", FINE, "G1", 2.1997, 1.5003, 0.01),  # right on this one
    Wrong("guide, tweedie", FINE, "G1q", 1.383, 0.0747, 0.002),
    Wrong("guide, map", replace(FINE, look="map"), "G1", 1.64, None, 0.01),
    Wrong("guide, map", replace(FINE, look="map"), "G1q", 1.10, 0.024, 0.005),
]

PUBLISHED_METHODS: dict[str, Steering] = {
    "4 steps": SMC(steps=4),
    "8 steps": SMC(),
    "16 steps": SMC(steps=16),
    "8 steps, no twist": SMC(twist=False),
    "1 step": SMC(steps=1),
}
_FIGURES = {
    "G1": (
        (1.0, 0.007, 0.144),
        (1.002, 0.004, 0.076),
        (0.999, 0.003, 0.066),
        (1.002, 0.015, 0.28),
        (1.008, 0.017, 0.311),
    ),
    "M1": (
        (1.004, 0.003, 0.065),
        (1.0, 0.003, 0.063),
        (1.002, 0.005, 0.099),
        (1.006, 0.005, 0.095),
        (1.006, 0.005, 0.099),
    ),
    "M2": (
        (0.99, 0.013, 0.275),
        (0.993, 0.011, 0.23),
        (1.012, 0.011, 0.23),
        (0.989, 0.019, 0.392),
        (0.973, 0.018, 0.454),
    ),
}
PUBLISHED_RUNS = 400
PUBLISHED = [
    Published(fixture, label, *figures)
    for fixture, row in _FIGURES.items()
    for label, figures in zip(PUBLISHED_METHODS, row, strict=True)
]
"""Of 400 runs of 64 particles with the look-ahead of the map, in the steering specification."""


def all_fixtures() -> dict[str, Fixture]:
    """The closed-form cases, one with a weak reward, and chains with a distribution of their
    own."""
    G1 = 0.4, 1.5, 1.2
    chains = {
        f"{kernel}, {steps} steps": chain_linear(kernel, steps, *G1)
        for kernel, steps in (("em", 20), ("em", 50), ("ancestral", 20), ("ancestral", 50))
    }
    return fixtures() | chains | {"G1 weak": gaussian_linear([0.4], [[1.5]], [0.3])}


@dataclass(frozen=True)
class Forgetful(Looking):
    """The control: `fk` as a released implementation has it, which forgets the weights wherever it
    does not resample. The self-test must fail it."""

    name: ClassVar[str] = "forgetful"
    source: ClassVar[str] = "a control"

    def needs(self, reward: Reward) -> frozenset[Need]:
        return FK(steps=self.steps).needs(reward)

    def cost(self, reward: Reward) -> Evaluations:
        return FK(steps=self.steps).cost(reward)

    def scored(
        self,
        tilt: Tilt,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        key: Key[Array, ""],
        before: Particle | None,
    ) -> Particle:
        return FK(steps=self.steps).scored(tilt, x, t, key, before)

    def resampler(self):
        whole = Resampler(self.threshold)

        def forget(key: Key[Array, ""], log_w: Float[Array, " n"]) -> tuple:
            index, _, more, do = whole(key, log_w)
            return index, jnp.zeros_like(log_w), more, do

        return forget


CONTROL = Exact("control: weights forgotten", Forgetful(), ("G1",))
