"""Every method of steering against closed-form answers."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.random as jr
import numpy as np

from apps._tilt.cases import (
    CONTROL,
    EXACT,
    PUBLISHED,
    PUBLISHED_METHODS,
    PUBLISHED_RUNS,
    WRONG,
    Exact,
    Published,
    Wrong,
    all_fixtures,
)
from apps._tilt.look_table import LOOK_COLUMNS, look_rows
from core.steering.fixtures import Fixture
from core.steering.steering import Steered, Steering, steer
from portolan.progress import Meter
from portolan.tables import console, print_table

COLUMNS = (
    "fixture", "method", "Z", "Z error", "mean", "mean error", "score", "control", "passed",
)  # fmt: skip
WRONG_COLUMNS = ("fixture", "method", "mean", "specified mean", "variance", "specified", "passed")
PUBLISHED_COLUMNS = (
    "fixture", "method", "Z", "Z error", "published Z", "published error", "sd of log Z",
    "sd error", "published sd", "passed",
)  # fmt: skip
BOUND = 4.0
PARTICLES = 64

Runs = Callable[[Steering, str, int], Steered]


def self_test(
    *,
    exact: Sequence[Exact] = (*EXACT, CONTROL),
    wrong: Sequence[Wrong] = WRONG,
    published: Sequence[Published] = PUBLISHED,
    looks: bool = True,
    islands: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Four tables, and whether all passed.

    Exact methods: the largest score, in standard errors, of `E[Z_hat] / Z - 1` and of the weighted
    mean must be at most 4; that of the control, which forgets weights, must not. Biased methods
    must show the bias that is specified. Published figures: `E[Z_hat] / Z = 1` as before, and the
    sd of `log Z_hat` within 4 standard errors of the difference of two such estimates. Look-aheads:
    see `apps._tilt.look_table`.

    **Arguments:** `islands`, for all rows in place of their own numbers.
    """
    with jax.enable_x64(True):
        cases = all_fixtures()
    kept: dict[tuple[Steering, str, int], Steered] = {}
    total = sum(len(row.fixtures) for row in exact) + len(wrong) + len(published) + 18 * looks
    with jax.enable_x64(True), Meter("self-test", total) as meter:

        def run(method: Steering, fixture: str, count: int) -> Steered:
            key = method, fixture, islands or count
            if key not in kept:
                kept[key] = steer(
                    method,
                    cases[fixture].tilt(),
                    n=PARTICLES,
                    islands=key[2],
                    key=jr.key(seed),
                    together=100,
                )
            meter.more(1)
            return kept[key]

        rows = [
            {"fixture": name, "method": case.label} | exact_row(case, run, name, cases[name])
            for case in exact
            for name in case.fixtures
        ]
        wrong_rows = [wrong_row(case, run) for case in wrong]
        published_rows = [published_row(case, run, cases[case.fixture]) for case in published]
        look_table = []
        for row in look_rows() if looks else ():
            look_table.append(row)
            meter.more(1)
    print_table("Steering against the closed form; a score is in standard errors", COLUMNS, rows)
    if wrong_rows:
        print_table("Biased methods: the specified wrong answers", WRONG_COLUMNS, wrong_rows)
    print_table("smc beside the published figures", PUBLISHED_COLUMNS, published_rows)
    if look_table:
        title = "fmtt with each look-ahead, weighted, not resampled, beside the published figures"
        print_table(title, LOOK_COLUMNS, look_table)
    tables = {"rows": rows, "wrong": wrong_rows, "published": published_rows, "looks": look_table}
    passed = all(row["passed"] for table in tables.values() for row in table)
    console.print("all pass" if passed else "some fail")
    return {**tables, "passed": passed}


def exact_row(case: Exact, run: Runs, name: str, fixture: Fixture) -> dict[str, Any]:
    """The figures of an exact method on a fixture; the control passes where it is caught."""
    row = score_row(case.method, run(case.method, name, case.islands), fixture)
    if case is CONTROL:
        row |= {"control": True, "passed": row["score"] > BOUND}
    return row


def score_row(method: Steering, steered: Steered, fixture: Fixture) -> dict[str, Any]:
    """`E[Z_hat] / Z` and the weighted mean, with their errors and the larger score."""
    islands = len(steered.log_z_islands)
    per_island = steered.x.reshape(islands, -1, steered.x.shape[-1])
    weights = steered.weights.reshape(islands, -1)
    result: dict[str, Any] = {}
    scores = []
    if method.normalises:
        mean, error = ratio(steered, fixture)
        scores.append(abs(mean - 1) / error)
        result |= {"Z": mean, "Z error": error}
    # a weighted mean is a ratio of sums over islands; its error by linearisation
    deviations = ((per_island - fixture.mean) * weights[..., None]).sum(axis=1)
    bias, error = deviations.sum(axis=0), deviations.std(axis=0, ddof=1) * np.sqrt(islands)
    scores += list(np.abs(bias) / error)
    score = float(max(scores))
    result |= {"mean": _numbers(bias + fixture.mean), "mean error": _numbers(error)}
    return result | {"score": score, "passed": bool(score <= BOUND)}


def ratio(steered: Steered, fixture: Fixture) -> tuple[float, float]:
    """`E[Z_hat] / Z` over islands, and its standard error."""
    values = np.exp(steered.log_z_islands - fixture.log_z)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def wrong_row(case: Wrong, run: Runs) -> dict[str, Any]:
    """Mean and variance of the first coordinate beside the specified ones."""
    steered = run(case.method, case.fixture, case.islands)
    mean = float(steered.mean(steered.x)[0])
    variance = float(steered.mean((steered.x[:, 0] - mean) ** 2))
    error = np.sqrt(variance * np.sum(steered.weights**2))
    near = abs(mean - case.mean) <= case.tolerance + BOUND * error
    if case.variance is not None:
        spread = BOUND * variance * np.sqrt(2 * np.sum(steered.weights**2))
        near &= abs(variance - case.variance) <= case.tolerance + spread
    return {
        "fixture": case.fixture,
        "method": case.label,
        "mean": mean,
        "specified mean": case.mean,
        "variance": variance,
        "specified": case.variance,
        "passed": bool(near),
    }


def published_row(case: Published, run: Runs, fixture: Fixture) -> dict[str, Any]:
    """Our figures beside the published ones.

    The error of our sd is the jackknife's over islands; theirs is taken to be the same, for their
    number of runs.
    """
    steered = run(PUBLISHED_METHODS[case.label], case.fixture, PUBLISHED_RUNS)
    mean, error = ratio(steered, fixture)
    log_z = steered.log_z_islands
    spread, spread_error = float(log_z.std(ddof=1)), sd_error(log_z)
    both = spread_error * np.sqrt(1 + len(log_z) / PUBLISHED_RUNS)
    passed = abs(mean - 1) <= BOUND * error and abs(spread - case.spread) <= BOUND * both
    return {
        "fixture": case.fixture,
        "method": case.label,
        "Z": mean,
        "Z error": error,
        "published Z": case.ratio,
        "published error": case.error,
        "sd of log Z": spread,
        "sd error": spread_error,
        "published sd": case.spread,
        "passed": bool(passed),
    }


def sd_error(values: np.ndarray) -> float:
    """The standard error of a standard deviation, by the jackknife."""
    count = len(values)
    squares = (values - values.mean()) ** 2
    # leaving one out: the sum of squares loses count / (count - 1) times its square
    without = np.sqrt((squares.sum() - count / (count - 1) * squares) / (count - 2))
    return float(np.sqrt((count - 1) * np.mean((without - without.mean()) ** 2)))


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.3f}" for value in values)
