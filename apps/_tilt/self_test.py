"""Every method of steering against closed-form answers."""

from typing import Any

import jax
import jax.random as jr
import numpy as np

from apps._progress import Meter
from apps._table import console, print_table
from core.steering.fixtures import Fixture, fixtures
from core.steering.steering import Steered, Steering, steer
from plugins.steering import PCN, SMC, SNIS, Slice

COLUMNS = ("fixture", "method", "Z", "Z error", "mean", "mean error", "score", "passed")
BOUND = 4.0
METHODS: dict[str, Steering] = {
    "snis": SNIS(),
    "smc": SMC(),
    "smc, 4 steps": SMC(steps=4),
    "smc, no twist": SMC(twist=False),
    "smc, tweedie": SMC(look="tweedie"),
    "smc, naive": SMC(look="naive"),
    "smc, rho 0.5": SMC(rho=0.5),
    "pcn": PCN(moves=160),
    "slice": Slice(moves=80),
}


def self_test(*, n: int = 64, islands: int = 400, seed: int = 0) -> dict[str, Any]:
    """The largest score, in standard errors, of `E[Z_hat] / Z - 1` and of the weighted mean; each
    must be at most 4. The weights dropped, the mean must miss: that is the control."""
    rows = []
    with jax.enable_x64(True):
        cases = fixtures()
    with jax.enable_x64(True), Meter("self-test", len(cases) * len(METHODS)) as meter:
        for fixture_name, fixture in cases.items():
            for name, method in METHODS.items():
                steered = steer(
                    method, fixture.tilt(), n=n, islands=islands, key=jr.key(seed), together=100
                )
                head = {"fixture": fixture_name, "method": name}
                rows.append(head | judged(method, steered, fixture, n))
                meter.more(1)
    print_table("Steering against the closed form; a score is in standard errors", COLUMNS, rows)
    passed = all(row["passed"] for row in rows)
    console.print("all pass" if passed else "some fail")
    return {"rows": rows, "passed": passed}


def judged(method: Steering, steered: Steered, fixture: Fixture, n: int) -> dict[str, Any]:
    """The figures of one method on one fixture."""
    per_island = steered.x.reshape(-1, n, steered.x.shape[-1])
    weights = steered.weights.reshape(-1, n)
    result: dict[str, Any] = {}
    scores = []
    if method.normalises:
        ratio = np.exp(steered.log_z_islands - fixture.log_z)
        error = ratio.std(ddof=1) / np.sqrt(len(ratio))
        scores.append(abs(ratio.mean() - 1) / error)
        result |= {"Z": float(ratio.mean()), "Z error": float(error)}
    # a weighted mean is a ratio of sums over islands; its error by linearisation
    deviations = ((per_island - fixture.mean) * weights[..., None]).sum(axis=1)
    bias, error = deviations.sum(axis=0), deviations.std(axis=0, ddof=1) * np.sqrt(len(deviations))
    scores += list(np.abs(bias) / error)
    score = float(max(scores))
    result |= {"mean": _numbers(bias + fixture.mean), "mean error": _numbers(error)}
    return result | {"score": score, "passed": bool(score <= BOUND)}


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values)
