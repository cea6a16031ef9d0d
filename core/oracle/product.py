"""Products of 1-D mixtures: the oracle with curvature whose flow map is still exact."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.scipy.special import log_ndtr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.change import move_average_velocity
from core.flow.path import Path, Time, TrigPath
from core.oracle.problem import ClosedProblem


class ProductMixture(ClosedProblem):
    """Independent coordinates, each `sum_k weights_k N(means_k, stds_k^2)`.

    In one dimension trajectories cannot cross, so the flow map is the monotone rearrangement
    `F(x, s, t) = Q_t(Phi_s(x))` with `Phi_s` the distribution function and `Q_t` the quantile
    function of the marginals. It is found on the trigonometric path, on which the problem is
    smooth and of unit scale up to both ends, and moved to the path asked for. Where `s` and `t`
    are too close for a difference quotient, Runge-Kutta steps replace it.

    Derivatives (forward or reverse, any order) are with respect to `x`, `s` and `t` only: the
    flow map treats the mixture itself as a constant.

    **Fields:** `weights`, `means`, `stds`: each (*shape, k), weights positive with sum 1 along
    the last axis, stds positive.
    """

    weights: Float[Array, "*shape k"]
    means: Float[Array, "*shape k"]
    stds: Float[Array, "*shape k"]

    def __check_init__(self):
        if not self.weights.shape == self.means.shape == self.stds.shape:
            raise ValueError(
                f"ProductMixture needs weights, means and stds of one shape (*shape, k), got "
                f"{self.weights.shape}, {self.means.shape} and {self.stds.shape}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.means.shape[:-1]

    def sample(self, key: PRNGKeyArray) -> Float[Array, "*shape"]:
        key_component, key_noise = jr.split(key)
        k = jr.categorical(key_component, jnp.log(self.weights))
        noise = jr.normal(key_noise, self.shape, self.means.dtype)
        return _pick(self.means, k) + _pick(self.stds, k) * noise

    def posterior_means(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        centres, spreads = self._marginals(path, t)
        offsets = x[..., None] - centres
        posterior = jax.nn.softmax(self._log_joint(path, x, t))
        shrunk = posterior * offsets / spreads**2
        x_0 = jnp.sum(posterior * self.means + path.alpha(t) * self.stds**2 * shrunk, axis=-1)
        return x_0, path.noise_std**2 * path.sigma(t) * jnp.sum(shrunk, axis=-1)

    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        key_component, key_noise = jr.split(key)
        weights, means, stds = self.posterior(path, x, t)
        k = jr.categorical(key_component, jnp.log(weights))
        noise = jr.normal(key_noise, self.shape, self.means.dtype)
        return _pick(means, k) + _pick(stds, k) * noise

    def posterior(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> tuple[Float[Array, "*shape k"], Float[Array, "*shape k"], Float[Array, "*shape k"]]:
        """Weights, means and standard deviations of the components of `x_0 | x_t = x`."""
        centres, spreads = self._marginals(path, t)
        means = self.means + path.alpha(t) * (self.stds / spreads) ** 2 * (x[..., None] - centres)
        stds = self.stds * path.noise_std * path.sigma(t) / spreads
        return jax.nn.softmax(self._log_joint(path, x, t)), means, stds

    def log_prob(self, path: Path, x: Float[Array, "*shape"], t: Time) -> Float[Array, ""]:
        return jnp.sum(self.log_densities(path, x, t))

    def log_densities(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape"]:
        """The log density of every coordinate; `log_prob` is their sum."""
        return jax.nn.logsumexp(self._log_joint(path, x, t), axis=-1)

    def average_velocity(
        self, path: Path, x: Float[Array, "*shape"], s: Time, t: Time
    ) -> Float[Array, "*shape"]:
        frozen = jax.lax.stop_gradient(self)
        on_angles = functools.partial(_average_velocity, frozen)
        s, t = jnp.asarray(s, x.dtype), jnp.asarray(t, x.dtype)
        return move_average_velocity(path, ANGLES, on_angles)(x, s, t)

    def given_state(self, path: Path, x: Float[Array, "*shape"], t: Time) -> "ProductMixture":
        return ProductMixture(*self.posterior(path, x, t))

    def tilted(self, a: Float[Array, "*shape"]) -> "ProductMixture":
        """Weights times `exp(a m + a^2 sd^2 / 2)`, means `m + a sd^2`, the same deviations."""
        a, variances = a[..., None], self.stds**2
        weights = jax.nn.softmax(jnp.log(self.weights) + a * self.means + a**2 * variances / 2)
        return ProductMixture(weights, self.means + a * variances, self.stds)

    def _marginals(
        self, path: Path, t: Time
    ) -> tuple[Float[Array, "*shape k"], Float[Array, "*shape k"]]:
        """Centres and standard deviations of the components of `x_t`."""
        noise = path.noise_std * path.sigma(t)
        return path.alpha(t) * self.means, jnp.hypot(path.alpha(t) * self.stds, noise)

    def _log_joint(
        self, path: Path, x: Float[Array, "*shape"], t: Time
    ) -> Float[Array, "*shape k"]:
        """`log(weight_k p_t(x | k))` of every coordinate and component."""
        centres, spreads = self._marginals(path, t)
        z = (x[..., None] - centres) / spreads
        return jnp.log(self.weights) - 0.5 * z**2 - jnp.log(spreads) - 0.5 * jnp.log(2 * jnp.pi)


def mixture_1d(
    weights: Float[Array, " k"], means: Float[Array, " k"], stds: Float[Array, " k"]
) -> ProductMixture:
    """A mixture on the line, whose examples have shape `(1,)`."""
    return ProductMixture(weights[None], means[None], stds[None])


ANGLES = TrigPath()


@jax.jit
def _average_velocity(
    problem: ProductMixture,
    x: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
) -> Float[Array, "*shape"]:
    """`V(x_s, s, t)` on the trigonometric path."""
    near = jnp.abs(t - s) < _near_gap(x.dtype)
    elsewhere = jnp.where(s > jnp.pi / 4, s - 0.5, s + 0.5)
    t_far = jnp.where(near, elsewhere, t)
    V_far = (_rearrange(problem, x, s, t_far) - x) / (t_far - s)
    V_near = _runge_kutta(problem, x, s, jnp.where(near, t, s))
    return jnp.where(near, V_near, V_far)


def _near_gap(dtype: jnp.dtype) -> float:
    """Gaps of time below which rounding costs a quotient more than Runge-Kutta's own error."""
    return 4 * float(jnp.finfo(dtype).eps) ** 0.2


def _runge_kutta(
    problem: ProductMixture,
    x: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    steps: int = 8,
) -> Float[Array, "*shape"]:
    """The average velocity by classical Runge-Kutta steps; no division by `t - s`."""
    h = (t - s) / steps
    ahead, weight = jnp.array([0.0, 0.5, 0.5, 1.0]), jnp.array([1.0, 2.0, 2.0, 1.0]) / (6 * steps)

    def stage(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        V, slope, V_next = state  # V at the start of the step, and as far as it is summed up
        part = ahead.astype(x.dtype)[i % 4]
        y = x + (t - s) * V + part * h * slope
        slope = problem.velocity(ANGLES, y, s + (i // 4 + part) * h)
        V_next = V_next + weight.astype(x.dtype)[i % 4] * slope
        return jnp.where(i % 4 == 3, V_next, V), slope, V_next

    start = jnp.zeros_like(x)
    return jax.lax.fori_loop(0, 4 * steps, stage, (start, start, start))[0]


@jax.custom_jvp
def _rearrange(
    problem: ProductMixture,
    x: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
) -> Float[Array, "*shape"]:
    """`F(x, s, t)` on the trigonometric path: the point with the same tail probability.

    The smaller of the two tails is matched, in logarithm, so that no digits are lost far out.
    An upper tail is the lower tail of the mirror image.
    """
    centres, spreads = problem._marginals(ANGLES, s)
    z = (x[..., None] - centres) / spreads
    below, above = _log_tail(problem, jnp.stack([z, -z]))
    mirror = jnp.where(below < above, 1.0, -1.0)
    z = mirror[..., None] * z
    centres, spreads = problem._marginals(ANGLES, t)
    centres = mirror[..., None] * centres
    # Phi_s(x) lies between the components' own probabilities, so F lies between their quantiles.
    low = jnp.min(centres + spreads * jnp.min(z, axis=-1, keepdims=True), axis=-1)
    high = jnp.max(centres + spreads * jnp.max(z, axis=-1, keepdims=True), axis=-1)
    return mirror * _quantile(problem, jnp.minimum(below, above), centres, spreads, low, high)


@_rearrange.defjvp
def _rearrange_jvp(primals: tuple, tangents: tuple) -> tuple[Array, Array]:
    """`dF/dx = p_s(x) / p_t(F)`, `dF/dt = v(F, t)`, `dF/ds = -dF/dx v(x, s)`."""
    problem, x, s, t = primals
    _, dx, ds, dt = tangents
    F = _rearrange(problem, x, s, t)
    log_stretch = problem.log_densities(ANGLES, x, s) - problem.log_densities(ANGLES, F, t)
    along = dx - problem.velocity(ANGLES, x, s) * ds
    return F, jnp.exp(log_stretch) * along + problem.velocity(ANGLES, F, t) * dt


def _log_tail(problem: ProductMixture, z: Float[Array, "... k"]) -> Float[Array, "..."]:
    """The log of the probability below a point that is `z` standard deviations above centres."""
    log_weights = jnp.broadcast_to(jnp.log(problem.weights), z.shape)
    return jax.nn.logsumexp(log_weights + log_ndtr(z), axis=-1)


def _quantile(
    problem: ProductMixture,
    log_tail: Float[Array, "*shape"],
    centres: Float[Array, "*shape k"],
    spreads: Float[Array, "*shape k"],
    low: Float[Array, "*shape"],
    high: Float[Array, "*shape"],
) -> Float[Array, "*shape"]:
    """The point in `[low, high]` with `log_tail` below it: bisection, then Newton steps.

    Twenty halvings bring the error to a millionth of the bracket, where Newton squares it.
    """
    log_heights = jnp.log(problem.weights) - jnp.log(spreads) - 0.5 * jnp.log(2 * jnp.pi)
    halvings, newton_steps = 20, 3

    def improve(i: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, y = state
        z = (y[..., None] - centres) / spreads
        gap = log_tail - _log_tail(problem, z)
        log_hazard = jax.nn.logsumexp(log_heights - 0.5 * z**2, axis=-1) - log_tail + gap
        hazard = jnp.maximum(jnp.exp(log_hazard), jnp.finfo(y.dtype).tiny)
        newton = jnp.clip(y + gap / hazard, low, high)
        bisecting = i < halvings
        low = jnp.where(bisecting & (gap > 0), y, low)
        high = jnp.where(bisecting & (gap <= 0), y, high)
        return low, high, jnp.where(bisecting, (low + high) / 2, newton)

    state = low, high, (low + high) / 2
    return jax.lax.fori_loop(0, halvings + newton_steps, improve, state)[2]


def _pick(values: Float[Array, "*shape k"], k: Array) -> Float[Array, "*shape"]:
    return jnp.take_along_axis(values, k[..., None], axis=-1)[..., 0]
