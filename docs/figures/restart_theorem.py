"""Draws how a slightly wrong map fares with more steps: `python -m docs.figures.restart_theorem`.

The data are N(0, c^2) on the line and the path is linear, so the exact flow map is
`F(x, s, t) = std_t / std_s x`. The map that is sampled from is off by a little, the more the longer
the jump,

    G(x, s, t) = (1 + e (s - t)) F(x, s, t),

so `G(x, s, s) = x`, and as a consistency function `f(x, s) = G(x, s, 0)` its root mean square error
is `e s c`, at most `e c`. Everything is linear and Gaussian: only variances are followed, exactly,
and the Wasserstein-2 distance to the data is the difference of the standard deviations.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap
from core.report.pictures import curve_plot
from core.sampling import uniform_grid

DATA_STD, ERROR = 0.5, 0.02
STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)
GAMMAS = {"restart": 1.0, "gamma 0.5": 0.5, "pushforward": 0.0}
DOCS = Path(__file__).parents[1]


def main() -> None:
    """Writes the picture and the numbers."""
    with jax.enable_x64(True):
        w2 = {name: [distance(n, gamma) for n in STEPS] for name, gamma in GAMMAS.items()}
    result = {"data_std": DATA_STD, "error": ERROR, "steps": STEPS, "w2": w2}
    (DOCS / "results" / "restart-theorem.json").write_text(json.dumps(result, indent=1) + "\n")
    curve_plot(
        {name: (STEPS, values) for name, values in w2.items()},
        DOCS / "images" / "restart-theorem.png",
        "steps",
        "W2 to the data",
        logx=True,
        title="One slightly wrong map, three samplers",
    )


def distance(steps: int, gamma: float) -> float:
    """W2 between the data and the samples of the wrong map; `gamma` as in `core.sampling`."""
    path = LinearPath()
    problem = GaussianProblem(jnp.zeros(1), DATA_STD**2 * jnp.eye(1))
    exact = OracleMap(problem=problem, path=path)
    times, variance = uniform_grid(path, steps), 1.0
    for s, t in zip(times[:-1], times[1:]):
        u = float(path.time_of_eta((1 - gamma**2) ** 0.5 * path.eta(t)))
        slope = exact(jnp.ones(1), jnp.asarray(s), jnp.asarray(u))[0] * (1 + ERROR * (s - u))
        a = path.alpha(t) / path.alpha(u)
        variance = (a * slope) ** 2 * variance + path.sigma(t) ** 2 - (a * path.sigma(u)) ** 2
    return abs(float(np.sqrt(variance)) - DATA_STD)


if __name__ == "__main__":
    main()
