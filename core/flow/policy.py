"""Policies: velocities of a whole jump from one evaluation of a network, and maps that follow them.

A policy is a velocity field that is valid on the way from one state `x_s`: here the posterior of a
Gaussian mixture. The network gives a mixture for `x_0 | x_s`, and at any later state

    p(x_0 | x_u, x_s)  ~  p(x_0 | x_s) p(x_u | x_0) / p(x_s | x_0),
    pi(x_u, u) = d_alpha(u) E[x_0 | x_u, x_s] + d_sigma(u) E[z | x_u, x_s],

with `p(x_u | x_0) = N(alpha_u x_0, n^2 sigma_u^2)`, `n = noise_std`. The ratio of Gaussians is one
in `x_0`, so the posterior is a mixture too. If `p(x_0 | x_s)` is the data's own posterior, `x_s`
drops out, and `pi` is the exact velocity everywhere. The jump is the ODE of the policy, by small
steps without the network. Source: GMFlow (arXiv 2504.05304); pi-Flow (arXiv 2510.14974), on the
linear path and with one width for all components; both in general here.
"""

import abc
import functools

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.flow_map import FlowMap
from core.flow.path import Path

LEAST = 1e-4
"""Floor of the precision of a component over that at the source, on the way to noise alone, where
a width of the network may be none of a posterior."""
NEAR = 1e-3
"""Gaps of unit time below which substeps are even in the path's own time."""


class Policy(eqx.Module):
    """A velocity field of one example on the way from `x_s`, without a network."""

    path: eqx.AbstractVar[Path]

    @abc.abstractmethod
    def means(
        self, x: Float[Array, "*shape"], u: Float[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """`(E[x_0 | x_u = x, x_s], E[z | x_u = x, x_s])`, with `alpha x_0 + sigma z = x`."""

    def velocity(self, x: Float[Array, "*shape"], u: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`pi(x, u)`."""
        return self.path.conditional_velocity(*self.means(x, u), u)


class MixturePolicy(Policy):
    """The posterior of a mixture of `K` Gaussians, one mixture for each position.

    Positions are all axes but the last, whose numbers (channels, coordinates) are joint; widths are
    one number for all of them. In the units of `x_s`, with `x_0 = centre + sigma_s y`,
    `c = sigma_u / sigma_s` and `xi_u = (x_u - alpha_u centre) / sigma_s = alpha_u y + c z`,

        y | x_s  ~  sum_k a_k N(mu_k, n^2 w_k I),
        Z = alpha_u^2 - c^2 alpha_s^2,   N = alpha_u xi_u - c^2 alpha_s xi_s,   E_k = c^2 + w_k Z,
        E_k[y | x_u] = (w_k N + c^2 mu_k) / E_k,
        E_k[z | x_u] = c (xi_u - alpha_u mu_k + w_k alpha_s (alpha_u xi_s - alpha_s xi_u)) / E_k,
        log a_k | x_u = log a_k - d/2 log E_k + (mu_k . N - Z |mu_k|^2 / 2) / (n^2 E_k)
                        + |N|^2 (w_k - w) / (2 n^2 E_k (c^2 + w Z)) + ...,

    `d` the size of the last axis, `w` any width, here the mean of them. Nothing divides by
    `sigma_u`, so it is finite at the data end, where `E_k[y]` is `x_0` for all; at `u = s` it is
    the mixture itself. For `u <= s` every `E_k` is positive. Towards noise it is so for a width
    that a posterior can have, `w_k alpha_s^2 < 1`; others are floored there.

    **Fields:** `path`; `x_s`, `s`; `centre` and `xi` (*shape), `xi_s` above; `mu` (K, *shape);
    `log_weights` and `w` (K, *positions, 1).
    """

    path: Path
    x_s: Float[Array, "*shape"]
    s: Float[Array, ""]
    centre: Float[Array, "*shape"]
    xi: Float[Array, "*shape"]
    mu: Float[Array, " K *shape"]
    log_weights: Float[Array, " K *positions"]
    w: Float[Array, " K *positions"]

    @classmethod
    def of(
        cls,
        path: Path,
        x_s: Float[Array, "*shape"],
        s: Float[Array, ""],
        velocities: Float[Array, " K *shape"],
        log_weights: Float[Array, " K *positions"],
        log_stds: Float[Array, " K *positions"],
    ) -> "MixturePolicy":
        """From what a network says: each component's mean as a velocity at `(x_s, s)`, on the
        linear path `x_s - s v_k`, and its standard deviation over that of the noise in `x_s`,
        `n sigma_s`, in logarithm; weights need not be normalised."""
        middle = jnp.mean(velocities, axis=0)
        centre = convert(path, middle, x_s, s, source="velocity", target="x_0")
        xi = convert(path, middle, x_s, s, source="velocity", target="noise")
        mu = (middle[None] - velocities) / path.determinant(s)
        return cls(path, x_s, s, centre, xi, mu, log_weights, jnp.exp(2 * log_stds))

    def means(
        self, x: Float[Array, "*shape"], u: Float[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        path, xi_s, sigma_s = self.path, self.xi, self.path.sigma(self.s)
        alpha_s, alpha_u = path.alpha(self.s), path.alpha(u)
        unit = jnp.where(sigma_s > 0, sigma_s, 1.0)  # at the data end there is u = s alone
        c = jnp.where(sigma_s > 0, path.sigma(u) / unit, 1.0)
        xi_u = xi_s + ((x - self.x_s) - (alpha_u - alpha_s) * self.centre) / unit
        Z, N = alpha_u**2 - (c * alpha_s) ** 2, alpha_u * xi_u - c**2 * alpha_s * xi_s
        W, M, R = self._sums(c, Z, N)
        y = W * N + c**2 * M
        z = c * (R * xi_u - alpha_u * M + W * alpha_s * (alpha_u * xi_s - alpha_s * xi_u))
        return self.centre + sigma_s * y, z

    def _sums(
        self, c: Float[Array, ""], Z: Float[Array, ""], N: Float[Array, "*shape"]
    ) -> tuple[Float[Array, "*positions"], Float[Array, "*shape"], Float[Array, "*positions"]]:
        """Of `w_k / E_k`, `mu_k / E_k` and `1 / E_k`, with the weights given `x_u`.

        The components are written out: one loop over the positions, where reductions over an axis
        take several times as long on a CPU (eight components, images of 8 x 8).
        """

        def inverse(w: Array) -> Array:
            return 1 / jnp.maximum(c**2 + w * Z, LEAST * jnp.minimum(w, 1.0))

        noise = self.path.noise_std**2
        w, mu, levels = (list(each) for each in (self.w, self.mu, self.log_weights))
        mean = _added(w) / len(w)
        wide = _total(N**2) * inverse(mean) / 2
        inverses = [inverse(each) for each in w]
        logits = [
            level
            + (_total(m * N) - Z / 2 * _total(m**2) + wide * (v - mean)) * r / noise
            + N.shape[-1] / 2 * jnp.log(r)
            for level, m, v, r in zip(levels, mu, w, inverses, strict=True)
        ]
        top = jax.lax.stop_gradient(functools.reduce(jnp.maximum, logits))
        shares = [jnp.exp(logit - top) for logit in logits]
        total = _added(shares)
        parts = [share * r / total for share, r in zip(shares, inverses, strict=True)]
        W, M = (_added([p * a for p, a in zip(parts, each, strict=True)]) for each in (w, mu))
        return W, M, _added(parts)


def _added(parts: list[Array]) -> Array:
    return functools.reduce(jnp.add, parts)


def _total(a: Float[Array, "*shape"]) -> Float[Array, "*positions"]:
    return jnp.sum(a, axis=-1, keepdims=True)


class PolicyMap(FlowMap):
    """A flow map by a policy: `F(x_s, s, t)` is the end of the policy's ODE from `s` to `t`.

    One evaluation of the network a jump, whatever its length; `substeps` steps of the ODE. A
    subclass gives `path`, `substeps` and `policy`. Jumps from one state are those of one ODE, but
    a new policy is made wherever one stops.
    """

    substeps: eqx.AbstractVar[int]

    @abc.abstractmethod
    def policy(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Policy:
        """The policy of the way from `x` at time `s`, by one evaluation of the network."""

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return followed(self.policy(x, s, cond), x, s, t, self.substeps)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        return self.policy(x, t, cond).velocity(x, t)


def followed(
    policy: Policy,
    x: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    steps: int,
) -> Float[Array, "*shape"]:
    """The average velocity of the policy's ODE from `x` at `s` to `t`; finite at `s = t`.

    Steps of the midpoint rule, even in unit time, with the means of `x_0` and `z` held fixed
    inside of a step (DDIM's, so that it is the same on every path): an error of `O(1 / steps^2)`.
    """
    path = policy.path
    place = jnp.arange(steps + 1, dtype=x.dtype) / steps
    first, last = path.unit_time(s), path.unit_time(t)
    near = jnp.abs(first - last) < NEAR
    graded = jax.vmap(path.time_of_unit)(first + (last - first) * place)
    times = jnp.where(near, s + (t - s) * place, graded)
    gaps = jnp.diff(times) / jnp.where(near, 1.0, t - s)
    shares = jnp.where(near, 1 / steps, gaps)

    def step(V: Array, now: tuple[Array, Array, Array]) -> tuple[Array, None]:
        u, then, share = now
        x_u = x + (t - s) * V
        middle = path.time_of_unit((path.unit_time(u) + path.unit_time(then)) / 2)
        half = x_u + (middle - u) * _slope(path, policy.means(x_u, u), u, middle)
        return V + share * _slope(path, policy.means(half, middle), u, then), None

    return jax.lax.scan(step, jnp.zeros_like(x), (times[:-1], times[1:], shares))[0]


def _slope(
    path: Path,
    means: tuple[Float[Array, "*shape"], Float[Array, "*shape"]],
    u: Float[Array, ""],
    then: Float[Array, ""],
) -> Float[Array, "*shape"]:
    """The average velocity from `u` to `then` of a fixed pair `(x_0, z)`."""
    x_0, z = means
    return path.alpha_slope(u, then) * x_0 + path.sigma_slope(u, then) * z


def visited(
    policy: Policy,
    x: Float[Array, "*shape"],
    s: Float[Array, ""],
    times: Float[Array, " states"],
    steps: int,
) -> Float[Array, " states *shape"]:
    """The states of the policy's ODE from `x` at `s` at these times, one after the other, `steps`
    steps between two of them."""

    def further(at: tuple[Array, Array], time: Array) -> tuple[tuple[Array, Array], Array]:
        x, u = at
        x = x + (time - u) * followed(policy, x, u, time, steps)
        return (x, time), x

    return jax.lax.scan(further, (x, s), times)[1]


def of_policy(model: FlowMap) -> PolicyMap:
    """The map itself. Raises `UserError` where it is none by a policy."""
    if not isinstance(model, PolicyMap):
        raise UserError("this method trains a policy: its map is that of --plugin pi-flow")
    return model
