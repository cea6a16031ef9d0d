"""Priors and rewards whose tilted distribution is known in closed form."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap, Problem, mixture_1d
from core.steering.own import Function
from core.steering.reward import Linear, Quadratic, Reward
from core.steering.steering import Tilt


@dataclass(frozen=True)
class Fixture:
    """A tilt with the exact map of its prior, and the answers.

    **Fields:** `log_z`; `mean` and `covariance` of the tilted distribution; `left`, the mass of the
    left mode where the prior has two.
    """

    problem: Problem
    reward: Reward
    log_z: float
    mean: np.ndarray
    covariance: np.ndarray

    def tilt(self) -> Tilt:
        """The tilt, on the linear path."""
        exact = OracleMap(problem=self.problem, path=LinearPath())
        return Tilt(exact, self.reward, jnp.ones(()), self.problem.shape)


def gaussian_linear(mean: list, covariance: list, a: list) -> Fixture:
    """`N(m, C)` tilted by `a . x`: `N(m + C a, C)`, `log Z = a . m + a . C a / 2`."""
    m, C, w = np.asarray(mean), np.asarray(covariance), np.asarray(a)
    log_z = float(w @ m + w @ C @ w / 2)
    problem = GaussianProblem(jnp.asarray(m), jnp.asarray(C))
    return Fixture(problem, Linear(jnp.asarray(w)), log_z, m + C @ w, C)


def gaussian_quadratic(mean: list, covariance: list, y: list, H: list) -> Fixture:
    """`N(m, C)` tilted by `-(x - y)' H (x - y) / 2`: a Gaussian again."""
    m, C, y_, H_ = (np.asarray(v, np.float64) for v in (mean, covariance, y, H))
    precision = np.linalg.inv(C)
    after = np.linalg.inv(precision + H_)
    centre = after @ (precision @ m + H_ @ y_)
    log_z = 0.5 * np.log(np.linalg.det(after) / np.linalg.det(C))
    log_z -= 0.5 * (m @ precision @ m + y_ @ H_ @ y_ - centre @ (precision + H_) @ centre)
    problem = GaussianProblem(jnp.asarray(m), jnp.asarray(C))
    reward = Quadratic(jnp.asarray(y_), jnp.asarray(H_))
    return Fixture(problem, reward, float(log_z), centre, after)


def by_quadrature(weights: list, means: list, stds: list, reward: Reward) -> Fixture:
    """A mixture on the line under any reward, its answers by a fine sum."""
    problem = mixture_1d(*(jnp.asarray(v) for v in (weights, means, stds)))
    x = np.linspace(min(means) - 12 * max(stds), max(means) + 12 * max(stds), 400_001)
    parts = [w * np.exp(-0.5 * ((x - m) / d) ** 2) / d for w, m, d in zip(weights, means, stds)]
    density = sum(parts) / np.sqrt(2 * np.pi)
    r = np.asarray(jax.vmap(reward)(jnp.asarray(x)[:, None]), np.float64)
    tilted = density * np.exp(r)
    step = x[1] - x[0]
    Z = tilted.sum() * step
    mean = (x * tilted).sum() * step / Z
    variance = ((x - mean) ** 2 * tilted).sum() * step / Z
    return Fixture(problem, reward, float(np.log(Z)), np.array([mean]), np.array([[variance]]))


def rare_mode(x: Float[Array, "1"]) -> Float[Array, ""]:
    """A classifier for the left mode: `log sigmoid(-4 (x + 0.6))`."""
    return jax.nn.log_sigmoid(-4 * (x[0] + 0.6))


def chain_end(kernel: str, steps: int, mean: float, variance: float) -> tuple[float, float]:
    """Mean and variance of the end of an untilted chain on `N(mean, variance)` on the line.

    Kernels of many steps have a distribution of their own; for Gaussian data every step is linear,
    and moments follow by recursion. `kernel` is "em" (`eps_t = t`, the last step without noise) or
    "ancestral"; times are equally spaced on the linear path.
    """
    m, V = 0.0, 1.0
    times = np.linspace(1.0, 0.0, steps + 1)
    for t, u in zip(times[:-1], times[1:], strict=True):
        gain = (1 - t) * variance / ((1 - t) ** 2 * variance + t**2)  # D = fixed + gain x
        fixed = mean * (1 - gain * (1 - t))
        if kernel == "em" and u > 0:  # v = (x - D) / t and eps score = ((1 - t) D - x) / t
            h = t - u
            slope = 1 + h / t * ((2 - t) * gain - 2)
            offset, noise = h / t * (2 - t) * fixed, 2 * t * h
        elif kernel == "em":
            slope, offset, noise = gain, fixed, 0.0
        else:
            a = (1 - t) / (1 - u)
            b = t**2 - (a * u) ** 2
            slope = a * u**2 / t**2 + (1 - u) * b / t**2 * gain
            offset, noise = (1 - u) * b / t**2 * fixed, u**2 * b / t**2
        m, V = slope * m + offset, slope**2 * V + noise
    return float(m), float(V)


def chain_linear(kernel: str, steps: int, mean: float, variance: float, a: float) -> Fixture:
    """The tilt by `a x` of that chain's distribution, with the exact map of `N(mean, variance)`."""
    prior = gaussian_linear([mean], [[variance]], [a])
    m, V = chain_end(kernel, steps, mean, variance)
    ended = gaussian_linear([m], [[V]], [a])
    return dataclasses.replace(
        prior, log_z=ended.log_z, mean=ended.mean, covariance=ended.covariance
    )


def fixtures() -> dict[str, Fixture]:
    """The closed-form cases of the self-test by name."""
    plane = [0.5, -0.3], [[1.44, 0.6], [0.6, 0.61]]
    return {
        "G1": gaussian_linear([0.4], [[1.5]], [1.2]),
        "G1q": gaussian_quadratic([0.4], [[1.5]], [1.2], [[2.0]]),
        "G2": gaussian_linear(*plane, [1.0, -0.7]),
        "G2 inpainting": gaussian_quadratic(*plane, [1.0, 0.0], [[1 / 0.09, 0.0], [0.0, 0.0]]),
        "M1": by_quadrature([0.3, 0.7], [-2.0, 1.0], [0.5, 0.4], Linear(jnp.ones(1))),
        "M2": by_quadrature([0.1, 0.9], [-2.0, 1.0], [0.3, 0.3], Function(rare_mode)),
    }
