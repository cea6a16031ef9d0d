"""Conversions among the four predictions that describe one state of a Gaussian path.

Of the expectation given `x_t = x`, each of these determines the others:

- `"x_0"`: the denoised mean `E[x_0 | x_t]`;
- `"noise"`: `E[z | x_t]`, with `z` of standard deviation `noise_std` (so `noise_std` times the
  unit-noise prediction of most papers);
- `"velocity"`: `v = d_alpha E[x_0 | x_t] + d_sigma E[z | x_t]`;
- `"score"`: `grad_x log p_t(x) = -E[z | x_t] / (noise_std^2 sigma)`.

All follow from `x = alpha x_0 + sigma z` and the line above (Albergo, Boffi and Vanden-Eijnden,
arXiv 2303.08797, section 2; Salimans and Ho, arXiv 2202.00512, for the velocity). Each pair has
its own direct formula, so that a conversion divides by no more than it must:

| from, to | divides by |
|---|---|
| velocity to x_0 or noise | the determinant, positive everywhere |
| x_0 to noise, velocity or score; anything to score | sigma: not at the data end |
| noise or score to x_0 or velocity | alpha: not at the noise end |
"""

from collections.abc import Callable

from jaxtyping import Array, Float

from core.flow.path import Path, Time

Value = Float[Array, "*shape"]


def convert(
    path: Path,
    value: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    t: Time,
    *,
    source: str,
    target: str,
) -> Float[Array, "*shape"]:
    """The prediction `value` at state `x` and time `t`, read as `source`, converted to `target`.

    **Arguments:** `source` and `target` are among `"x_0"`, `"noise"`, `"velocity"`, `"score"`.
    **Returns:** an array of the shape of `x`. It is not finite where the table of this module's
    docstring says that the formula divides by zero.
    **Raises:** `ValueError` for another name.
    """
    for name in (source, target):
        if name not in PREDICTIONS:
            raise ValueError(f"Unknown prediction {name!r}; choose among {', '.join(PREDICTIONS)}.")
    if source == target:
        return value
    return _FORMULAS[source, target](path, value, x, t)


def drift_rate(path: Path, t: Time) -> Float[Array, ""]:
    """`f = d_alpha / alpha` of the SDE `dx = f x dt + g dw`; infinite where `alpha = 0`."""
    return path.d_alpha(t) / path.alpha(t)


def diffusion_squared(path: Path, t: Time) -> Float[Array, ""]:
    """`g^2 = 2 noise_std^2 sigma determinant / alpha` of the SDE `dx = f x dt + g dw`.

    With it the velocity of the probability-flow ODE is `v = f x - g^2 score / 2` (Song et al.,
    arXiv 2011.13456, eq. 13). Infinite where `alpha = 0`.
    """
    return 2 * path.noise_std**2 * path.sigma(t) * path.determinant(t) / path.alpha(t)


def _x_0_to_noise(path: Path, x_0: Value, x: Value, t: Time) -> Value:
    return (x - path.alpha(t) * x_0) / path.sigma(t)


def _x_0_to_velocity(path: Path, x_0: Value, x: Value, t: Time) -> Value:
    return path.conditional_velocity(x_0, _x_0_to_noise(path, x_0, x, t), t)


def _x_0_to_score(path: Path, x_0: Value, x: Value, t: Time) -> Value:
    return (path.alpha(t) * x_0 - x) / (path.noise_std * path.sigma(t)) ** 2


def _noise_to_x_0(path: Path, z: Value, x: Value, t: Time) -> Value:
    return (x - path.sigma(t) * z) / path.alpha(t)


def _noise_to_velocity(path: Path, z: Value, x: Value, t: Time) -> Value:
    return path.conditional_velocity(_noise_to_x_0(path, z, x, t), z, t)


def _noise_to_score(path: Path, z: Value, x: Value, t: Time) -> Value:
    del x
    return -z / (path.noise_std**2 * path.sigma(t))


def _velocity_to_x_0(path: Path, v: Value, x: Value, t: Time) -> Value:
    return (path.d_sigma(t) * x - path.sigma(t) * v) / path.determinant(t)


def _velocity_to_noise(path: Path, v: Value, x: Value, t: Time) -> Value:
    return (path.alpha(t) * v - path.d_alpha(t) * x) / path.determinant(t)


def _velocity_to_score(path: Path, v: Value, x: Value, t: Time) -> Value:
    return _noise_to_score(path, _velocity_to_noise(path, v, x, t), x, t)


def _score_to_x_0(path: Path, score: Value, x: Value, t: Time) -> Value:
    return (x + (path.noise_std * path.sigma(t)) ** 2 * score) / path.alpha(t)


def _score_to_noise(path: Path, score: Value, x: Value, t: Time) -> Value:
    del x
    return -(path.noise_std**2) * path.sigma(t) * score


def _score_to_velocity(path: Path, score: Value, x: Value, t: Time) -> Value:
    return drift_rate(path, t) * x - diffusion_squared(path, t) * score / 2


PREDICTIONS = ("x_0", "noise", "velocity", "score")

_FORMULAS: dict[tuple[str, str], Callable[[Path, Value, Value, Time], Value]] = {
    ("x_0", "noise"): _x_0_to_noise,
    ("x_0", "velocity"): _x_0_to_velocity,
    ("x_0", "score"): _x_0_to_score,
    ("noise", "x_0"): _noise_to_x_0,
    ("noise", "velocity"): _noise_to_velocity,
    ("noise", "score"): _noise_to_score,
    ("velocity", "x_0"): _velocity_to_x_0,
    ("velocity", "noise"): _velocity_to_noise,
    ("velocity", "score"): _velocity_to_score,
    ("score", "x_0"): _score_to_x_0,
    ("score", "noise"): _score_to_noise,
    ("score", "velocity"): _score_to_velocity,
}
