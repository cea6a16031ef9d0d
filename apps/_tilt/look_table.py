"""Which look-ahead helps: trajectory tilting on fixtures, beside published figures."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.steering.fixtures import by_quadrature, fixtures
from core.steering.reward import Quadratic
from core.steering.steering import Tilt, steer
from plugins.steering import FMTT

LOOK_COLUMNS = (
    "case", "look", "reward", "reward error", "published reward", "ESS", "ESS error",
    "published ESS", "score", "passed",
)  # fmt: skip
PUBLISHED_N = 20_000


class Case(NamedTuple):
    """A tilt, the factor of its reward in the figures, and these, by look-ahead: rewards
    without weights and effective shares."""

    tilt: Tilt
    unit: float
    rewards: tuple[str, str, str]
    shares: tuple[str, str, str]


LOOKS = ("naive", "tweedie", "map")


def look_cases() -> dict[str, Case]:
    """The published cases, with the published figures as they are printed."""
    known = fixtures()
    stronger = dataclasses.replace(known["G1q"].tilt(), strength=jnp.asarray(5.0))
    far = Quadratic(jnp.array([-2.0]), jnp.array([[4.0]]))
    mixture = by_quadrature([0.3, 0.7], [-2.0, 1.0], [0.5, 0.4], far)
    tilts = {name: known[name].tilt() for name in ("G1", "G1q", "M1", "M2")}
    return {
        "G1": Case(tilts["G1"], 1 / 1.2, (".64", ".64", ".74"), (".185", ".176", ".193")),
        "G1q": Case(tilts["G1q"], 1.0, ("-1.17", "-1.13", "-.86"), (".648", ".661", ".699")),
        "G1q, lambda 5": Case(stronger, 1.0, ("-.267", "-.173", "-.136"), (".266", ".403", ".493")),
        "M1": Case(tilts["M1"], 1.0, (".27", ".32", ".41"), (".677", ".674", ".687")),
        "M2": Case(tilts["M2"], 1.0, ("-4.75", "-4.70", "-4.59"), (".128", ".130", ".135")),
        "M1, far": Case(mixture.tilt(), 1.0, ("-4.81", "-4.10", "-3.27"), (".197", ".214", ".319")),
    }


def look_rows(*, n: int = 500, islands: int = 8, steps: int = 200, seed: int = 0) -> Iterator[dict]:
    """Three look-aheads in trajectory tilting, weighted, not resampled, beside published figures.

    A score is the distance beyond half of the last printed digit, in standard errors of the
    difference: ours, and that of the published figure from 20,000 particles of the same spread.
    """
    with jax.enable_x64(True):
        for name, case in look_cases().items():
            for i, look in enumerate(LOOKS):
                method = FMTT(steps=steps, look=look, threshold=0.0)
                key = jr.key(seed)
                steered = steer(method, case.tilt, n=n, islands=islands, key=key, together=islands)
                values = case.unit * np.asarray(jax.vmap(case.tilt.reward)(jnp.asarray(steered.x)))
                reward = _mean(values)
                share = _effective_share(steered.weights)
                scores = [
                    _score(*figure, printed, len(values))
                    for figure, printed in ((reward, case.rewards[i]), (share, case.shares[i]))
                ]
                score = float(max(scores))
                row = (name, look, *reward, case.rewards[i], *share, case.shares[i], score)
                yield dict(zip(LOOK_COLUMNS, (*row, score <= 4), strict=True))


def _mean(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _effective_share(weights: np.ndarray) -> tuple[float, float]:
    """`mean(w)^2 / mean(w^2)` of independent weights, with its error by linearisation."""
    w = weights / weights.mean()
    second = np.mean(w**2)
    deviations = 2 * (w - 1) / second - (w**2 - second) / second**2
    return float(1 / second), float(deviations.std(ddof=1) / np.sqrt(len(w)))


def _score(value: float, error: float, printed: str, n: int) -> float:
    half_digit = 0.5 * 10.0 ** -len(printed.partition(".")[2])
    beyond = max(abs(value - float(printed)) - half_digit, 0.0)
    return beyond / (error * np.sqrt(1 + n / PUBLISHED_N))
