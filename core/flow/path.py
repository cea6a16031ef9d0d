"""Gaussian probability paths in flat space: which end is data, and how fast.

Here and everywhere in this project data sits at the small end of time and noise at the large end:
`t = t_min` is data, `t = t_max` is noise. `z ~ N(0, noise_std^2 I)`; most papers have
`noise_std = 1`, TrigFlow and IMM have `noise_std = sigma_data`.
"""

import abc
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.errors import UserError
from core.flow.interpolant import Interpolant
from core.flow.interpolant import Time as Time
from core.flow.series import sinc, sinhc
from core.flow.space import Euclidean, Space


class Path(Interpolant):
    """The interpolant `x_t = alpha(t) x_0 + sigma(t) z` between data and Gaussian noise.

    Times are scalars in `[t_min, t_max]` and belong to one example; states have any shape.
    The signal-to-noise ratio falls strictly: `determinant(t) > 0`.

    **Fields:**

    - `t_min`, `t_max`: the interval of times in which the path is used.
    - `noise_std`: standard deviation of every entry of `z`.
    """

    t_min: eqx.AbstractVar[float]
    t_max: eqx.AbstractVar[float]
    noise_std: eqx.AbstractVar[float]

    @property
    def space(self) -> Space:
        """Flat space."""
        return Euclidean()

    @abc.abstractmethod
    def alpha(self, t: Time) -> Float[Array, ""]:
        """The coefficient of the data."""

    @abc.abstractmethod
    def sigma(self, t: Time) -> Float[Array, ""]:
        """The coefficient of the noise variable `z` (so the noise has std `sigma * noise_std`)."""

    @abc.abstractmethod
    def d_alpha(self, t: Time) -> Float[Array, ""]:
        """The time derivative of `alpha`."""

    @abc.abstractmethod
    def d_sigma(self, t: Time) -> Float[Array, ""]:
        """The time derivative of `sigma`."""

    @abc.abstractmethod
    def alpha_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        """`(alpha(t) - alpha(s)) / (t - s)` without cancellation; `d_alpha(t)` at `s = t`.

        Smooth at `s = t`, so that jvp and grad of it are finite and right there.
        """

    @abc.abstractmethod
    def sigma_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        """`(sigma(t) - sigma(s)) / (t - s)` without cancellation; `d_sigma(t)` at `s = t`."""

    @abc.abstractmethod
    def time_of_ray(self, alpha: Time, sigma: Time) -> Float[Array, ""]:
        """The time at which `(alpha(t), sigma(t))` points along the given `(alpha, sigma)`.

        Takes any `alpha >= 0, sigma >= 0` that are not both 0; `alpha = 0` is pure noise, whose
        time is infinite on a path that never gets there.
        """

    def time_of_eta(self, eta: Time) -> Float[Array, ""]:
        """The time at which `sigma / alpha = eta`, the inverse of `eta`; `eta` in `[0, inf]`."""
        small = jnp.minimum(eta, 1.0)
        large = 1.0 / jnp.maximum(eta, 1.0)
        return self.time_of_ray(large, small)

    def unit_time(self, t: Time) -> Float[Array, ""]:
        """`sigma / (alpha + sigma)`: the linear path's time at the same noise-to-signal ratio.

        In [0, 1] on every path; networks receive this time.
        """
        return self.sigma(t) / (self.alpha(t) + self.sigma(t))

    def time_of_unit(self, unit: Time) -> Float[Array, ""]:
        """The inverse of `unit_time`, clipped to `[t_min, t_max]`."""
        return jnp.clip(self.time_of_ray(jnp.subtract(1.0, unit), unit), self.t_min, self.t_max)

    def eta(self, t: Time) -> Float[Array, ""]:
        """The noise-to-signal ratio `sigma / alpha`; it leaves `noise_std` out."""
        return self.sigma(t) / self.alpha(t)

    def log_snr(self, t: Time) -> Float[Array, ""]:
        """`log(alpha / sigma)`, as in DPM-Solver. IMM and VDM call twice this the log-SNR."""
        return jnp.log(self.alpha(t)) - jnp.log(self.sigma(t))

    def determinant(self, t: Time) -> Float[Array, ""]:
        """`alpha d_sigma - d_alpha sigma`, positive; it is `alpha^2` times the slope of `eta`."""
        return self.alpha(t) * self.d_sigma(t) - self.d_alpha(t) * self.sigma(t)

    def interpolate(
        self, x_0: Float[Array, "*shape"], z: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        """`x_t = alpha(t) x_0 + sigma(t) z`."""
        return self.alpha(t) * x_0 + self.sigma(t) * z

    def conditional_velocity(
        self, x_0: Float[Array, "*shape"], z: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        """`d x_t / dt = d_alpha(t) x_0 + d_sigma(t) z` of the pair, the flow-matching target."""
        return self.d_alpha(t) * x_0 + self.d_sigma(t) * z

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """A noise variable `z ~ N(0, noise_std^2 I)`."""
        return self.noise_std * jr.normal(key, shape)

    def prior(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        """The start of sampling, `sigma(t_max) z`.

        It leaves out `alpha(t_max) x_0`: exact only where `alpha(t_max) = 0`, and the usual small
        error on the VP and EDM paths.
        """
        return self.start(self.noise(key, shape), self.t_max)

    def start(self, z: Float[Array, "*shape"], t: Time) -> Float[Array, "*shape"]:
        """`sigma(t) z`, without the `alpha(t) x_0`."""
        return self.sigma(t) * z


class LinearPath(Path):
    """`alpha = 1 - t, sigma = t`: rectified flow (Liu et al., arXiv 2209.03003)."""

    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)
    noise_std: float = eqx.field(static=True, default=1.0)

    def alpha(self, t: Time) -> Float[Array, ""]:
        return jnp.subtract(1.0, t)

    def sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.asarray(t)

    def d_alpha(self, t: Time) -> Float[Array, ""]:
        return -jnp.ones_like(t)

    def d_sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.ones_like(t)

    def alpha_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        del s
        return -jnp.ones_like(t)

    def sigma_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        del s
        return jnp.ones_like(t)

    def time_of_ray(self, alpha: Time, sigma: Time) -> Float[Array, ""]:
        return jnp.divide(sigma, jnp.add(alpha, sigma))


class TrigPath(Path):
    """`alpha = cos t, sigma = sin t`, time as an angle in `[0, pi/2]`.

    TrigFlow (Lu and Song, arXiv 2410.11081) is this path with `noise_std = sigma_data`.
    """

    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=jnp.pi / 2)
    noise_std: float = eqx.field(static=True, default=1.0)

    def alpha(self, t: Time) -> Float[Array, ""]:
        return jnp.cos(t)

    def sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.sin(t)

    def d_alpha(self, t: Time) -> Float[Array, ""]:
        return -jnp.sin(t)

    def d_sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.cos(t)

    def alpha_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        middle, half = jnp.add(s, t) / 2, jnp.subtract(t, s) / 2
        return -jnp.sin(middle) * sinc(half)

    def sigma_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        middle, half = jnp.add(s, t) / 2, jnp.subtract(t, s) / 2
        return jnp.cos(middle) * sinc(half)

    def time_of_ray(self, alpha: Time, sigma: Time) -> Float[Array, ""]:
        return jnp.arctan2(sigma, alpha)


class CosinePath(Path):
    """`alpha = cos(pi t / 2), sigma = sin(pi t / 2)`: the trigonometric path in unit time.

    It is variance preserving. The discrete schedule of Nichol and Dhariwal (arXiv 2102.09672) is
    close to it but not equal: that one has an offset and capped steps.
    """

    t_min: float = eqx.field(static=True, default=0.0)
    t_max: float = eqx.field(static=True, default=1.0)
    noise_std: float = eqx.field(static=True, default=1.0)

    def alpha(self, t: Time) -> Float[Array, ""]:
        return jnp.cos(_QUARTER * t)

    def sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.sin(_QUARTER * t)

    def d_alpha(self, t: Time) -> Float[Array, ""]:
        return -_QUARTER * jnp.sin(_QUARTER * t)

    def d_sigma(self, t: Time) -> Float[Array, ""]:
        return _QUARTER * jnp.cos(_QUARTER * t)

    def alpha_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        middle, half = _QUARTER * jnp.add(s, t) / 2, _QUARTER * jnp.subtract(t, s) / 2
        return -_QUARTER * jnp.sin(middle) * sinc(half)

    def sigma_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        middle, half = _QUARTER * jnp.add(s, t) / 2, _QUARTER * jnp.subtract(t, s) / 2
        return _QUARTER * jnp.cos(middle) * sinc(half)

    def time_of_ray(self, alpha: Time, sigma: Time) -> Float[Array, ""]:
        return jnp.arctan2(sigma, alpha) / _QUARTER


class VPPath(Path):
    """The variance-preserving diffusion with linear `beta(t) = beta_0 + (beta_1 - beta_0) t`.

    `alpha = exp(-b(t)), b(t) = (beta_1 - beta_0) t^2 / 4 + beta_0 t / 2, sigma^2 = 1 - alpha^2`
    (Song et al., arXiv 2011.13456, eq. 33). `d_sigma` grows like `t^(-1/2)` towards `t = 0`, so
    `t_min` must be positive: 1e-3 is usual for sampling, 1e-5 for likelihoods.
    """

    t_min: float = eqx.field(static=True, default=1e-3)
    t_max: float = eqx.field(static=True, default=1.0)
    noise_std: float = eqx.field(static=True, default=1.0)
    beta_0: float = eqx.field(static=True, default=0.1)
    beta_1: float = eqx.field(static=True, default=20.0)

    def __check_init__(self):
        if self.t_min <= 0:
            raise ValueError(f"VPPath needs t_min > 0, got {self.t_min}; try 1e-3 or 1e-5.")

    def alpha(self, t: Time) -> Float[Array, ""]:
        return jnp.exp(-self._decay(t))

    def sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.sqrt(-jnp.expm1(-2 * self._decay(t)))

    def d_alpha(self, t: Time) -> Float[Array, ""]:
        return -0.5 * self._beta(t) * self.alpha(t)

    def d_sigma(self, t: Time) -> Float[Array, ""]:
        return 0.5 * self._beta(t) * self.alpha(t) ** 2 / self.sigma(t)

    def alpha_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        middle = (self._decay(s) + self._decay(t)) / 2
        decay_slope = self._beta(jnp.add(s, t) / 2) / 2
        half = -decay_slope * jnp.subtract(t, s) / 2
        return -decay_slope * jnp.exp(-middle) * sinhc(half)

    def sigma_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        # sigma^2 = 1 - alpha^2, and a slope of squares is the slope times the sum.
        ratio = (self.alpha(s) + self.alpha(t)) / (self.sigma(s) + self.sigma(t))
        return -ratio * self.alpha_slope(s, t)

    def time_of_ray(self, alpha: Time, sigma: Time) -> Float[Array, ""]:
        alpha = jnp.maximum(alpha, 1e-18 * sigma)  # pure noise: a large finite time, not nan
        twice_decay = jnp.log1p(jnp.divide(sigma, alpha) ** 2)
        root = jnp.sqrt(self.beta_0**2 + 2 * (self.beta_1 - self.beta_0) * twice_decay)
        return 2 * twice_decay / (self.beta_0 + root)

    def _beta(self, t: Time) -> Float[Array, ""]:
        return jnp.add(self.beta_0, (self.beta_1 - self.beta_0) * t)

    def _decay(self, t: Time) -> Float[Array, ""]:
        return t * (self.beta_0 + self._beta(t)) / 4


class EDMPath(Path):
    """`alpha = 1, sigma = t`: variance exploding, time is the noise level itself.

    Karras et al. (arXiv 2206.00364) use `sigma` in `[0.002, 80]` for images in `[-1, 1]`.
    """

    t_min: float = eqx.field(static=True, default=0.002)
    t_max: float = eqx.field(static=True, default=80.0)
    noise_std: float = eqx.field(static=True, default=1.0)

    def alpha(self, t: Time) -> Float[Array, ""]:
        return jnp.ones_like(t)

    def sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.asarray(t)

    def d_alpha(self, t: Time) -> Float[Array, ""]:
        return jnp.zeros_like(t)

    def d_sigma(self, t: Time) -> Float[Array, ""]:
        return jnp.ones_like(t)

    def alpha_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        del s
        return jnp.zeros_like(t)

    def sigma_slope(self, s: Time, t: Time) -> Float[Array, ""]:
        del s
        return jnp.ones_like(t)

    def time_of_ray(self, alpha: Time, sigma: Time) -> Float[Array, ""]:
        return jnp.divide(sigma, jnp.maximum(alpha, 0.0))  # cos(pi / 2) rounds to below 0


PATHS: dict[str, Callable[[], Path]] = {
    "linear": LinearPath,
    "trig": TrigPath,
    "cosine": CosinePath,
    "vp": VPPath,
    "edm": EDMPath,
}


def path_name(path: Path) -> str:
    """The name of a path's kind among `PATHS`; that of its class for others."""
    return next((name for name, kind in PATHS.items() if kind is type(path)), type(path).__name__)


def gaussian(path: Interpolant) -> Path:
    """The same interpolant, for what needs a Gaussian path. Raises `UserError` where it is not."""
    if not isinstance(path, Path):
        raise UserError(
            f"this needs a Gaussian path in flat space, not the geodesics of {path.space.name}"
        )
    return path


_QUARTER = jnp.pi / 2  # a quarter turn, in radians
