"""Uniform laws on boxes of any dimension: densities with hard edges, such as the checkerboard's."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from core.oracle.problem import Problem
from core.path import Path, Time


class BoxMixture(Problem):
    """`x_0` uniform on box `k`, the product over `i` of `[low_ki, high_ki]`, of probability
    `weights_k`.

    Given its box the coordinates of `x_t` are independent. With `sd = noise_std sigma`,

        p_t(x_i | k) = (Phi(b) - Phi(a)) / (alpha (high - low)),
        b = (x_i - alpha low) / sd,        a = (x_i - alpha high) / sd,

    and given `x_t = x` as well, `z / noise_std` is a standard normal confined to `[a, b]`. All of
    it is smooth where these formulas divide zeros, at `alpha = 0`, and in their tails: see
    `_Interval`.

    At `sigma = 0` the density has jumps. There `E[z | x] = 0`, and `E[x_0 | x]` is the point of
    the boxes nearest to `x`: `x` itself inside a box, and outside all of them, where no `x_0` can
    be, still finite, as is `log_prob`, of the order of `-(distance / eps)^2` with `eps` that of
    the dtype. The velocity is steep near the edges, `1 / sigma` times the distance to the box
    outside, so that integrating it to `sigma = 0` takes many steps. `sample_posterior` has no
    derivatives. The flow map has no closed form; `OracleMap` integrates it.

    **Fields:** `weights` (k,), positive with sum 1; `low`, `high` (k, dim), `low < high`. Boxes
    may touch or overlap.
    """

    weights: Float[Array, " k"]
    low: Float[Array, "k dim"]
    high: Float[Array, "k dim"]

    def __check_init__(self):
        if self.low.ndim != 2 or not self.low.shape == self.high.shape == (
            *self.weights.shape,
            *self.low.shape[1:],
        ):
            raise ValueError(
                f"BoxMixture needs weights (k,) and low and high (k, dim), got "
                f"{self.weights.shape}, {self.low.shape} and {self.high.shape}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        return self.low.shape[1:]

    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        key_box, key_place = jr.split(key)
        k = jr.categorical(key_box, jnp.log(self.weights))
        place = jr.uniform(key_place, self.shape, self.low.dtype)
        return self.low[k] + (self.high[k] - self.low[k]) * place

    def posterior_means(
        self, path: Path, x: Float[Array, " dim"], t: Time
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        log_joint, intervals = self._given_boxes(path, x, t)
        posterior = jax.nn.softmax(log_joint)[:, None]
        z, place = jax.vmap(jax.vmap(_Interval.means))(intervals)
        x_0 = jnp.sum(posterior * (self.low + (self.high - self.low) * place), axis=0)
        noise, floored = _noise(path, t, x.dtype)
        return x_0, path.noise_std * noise / floored * jnp.sum(posterior * z, axis=0)

    def sample_posterior(
        self, path: Path, key: PRNGKeyArray, x: Float[Array, " dim"], t: Time
    ) -> Float[Array, " dim"]:
        key_box, key_place = jr.split(key)
        log_joint, intervals = self._given_boxes(path, x, t)
        k = jr.categorical(key_box, log_joint)
        interval = jax.tree.map(lambda leaf: leaf[k], intervals)
        u = jr.uniform(key_place, x.shape, x.dtype)
        return self.low[k] + (self.high[k] - self.low[k]) * jax.vmap(_Interval.place)(interval, u)

    def log_prob(self, path: Path, x: Float[Array, " dim"], t: Time) -> Float[Array, ""]:
        return jax.nn.logsumexp(self._given_boxes(path, x, t)[0])

    def _given_boxes(
        self, path: Path, x: Float[Array, " dim"], t: Time
    ) -> tuple[Float[Array, " k"], "_Interval"]:
        """`log(weight_k p_t(x | k))`, and where `z / noise_std` can be given each box (k, dim)."""
        _, sd = _noise(path, t, x.dtype)
        a = (x[None] - path.alpha(t) * self.high) / sd
        b = (x[None] - path.alpha(t) * self.low) / sd
        span = path.alpha(t) * (self.high - self.low) / sd
        intervals = jax.vmap(jax.vmap(_Interval.between))(a, b, span)
        log_densities = jax.vmap(jax.vmap(_Interval.log_mean_density))(intervals) - jnp.log(sd)
        return jnp.log(self.weights) + jnp.sum(log_densities, axis=1), intervals


def checkerboard() -> BoxMixture:
    """The law of the data set `checkerboard`: uniform on the dark unit squares of a 4 x 4 board.

    The squares of `[-2, 2]^2` in which `floor(x) + floor(y)` is even, eight of them.
    """
    corners = [[x, y] for x in range(-2, 2) for y in range(-2, 2) if (x + y) % 2 == 0]
    low = jnp.array(corners, jnp.result_type(float))
    return BoxMixture(jnp.full(8, 1 / 8), low, low + 1)


class _Interval(eqx.Module):
    """A standard normal variable confined to `[a, b]`; one number, `jax.vmap` stands outside.

    The usual formulas, `log(Phi(b) - Phi(a))` and `(phi(a) - phi(b)) / (Phi(b) - Phi(a))`, lose
    all digits where `b - a` is small or both ends lie far out. Here every quantity is an integral
    of `phi` with a positive integrand, by Gauss-Legendre. `phi` is taken relative to its value at
    the point `nearest` 0, and the interval is cut where `phi` has fallen by the rounding error of
    the dtype, so that a fixed number of nodes gives every digit, for any ends. It is smooth in
    `a` and `b`, also where they meet.

    Points are `nearest + start + length y`, with `y` in `[0, 1]`. Their place between the ends,
    `(b - point) / (b - a)`, is `skipped + share (1 - y)`: it is 0 at `b`, where `x_0 = low`.
    """

    nearest: Float[Array, ""]
    start: Float[Array, ""]
    length: Float[Array, ""]
    skipped: Float[Array, ""]
    share: Float[Array, ""]

    @classmethod
    def between(
        cls, a: Float[Array, ""], b: Float[Array, ""], span: Float[Array, ""]
    ) -> "_Interval":
        """From the ends and `span = b - a`, which is given for its digits; it may be 0."""
        nearest = jnp.where(a > 0, a, jnp.where(b < 0, b, 0.0))
        below = jnp.where(b < 0, -span, jnp.where(a > 0, 0.0, a))
        above = jnp.where(a > 0, span, jnp.where(b < 0, 0.0, b))
        cut = -2 * math.log(jnp.finfo(a.dtype).eps)
        reach = cut / (jnp.sqrt(nearest**2 + cut) + jnp.abs(nearest))
        start, end = jnp.maximum(below, -reach), jnp.minimum(above, reach)
        whole = (start == below) & (end == above)
        safe = jnp.where(whole, 1.0, span)
        skipped = jnp.where(whole, 0.0, (above - end) / safe)
        share = jnp.where(whole, 1.0, (end - start) / safe)
        return cls(nearest, start, end - start, skipped, share)

    def log_mean_density(self) -> Float[Array, ""]:
        """`log((Phi(b) - Phi(a)) / (b - a))`."""
        mass = jnp.sum(self._masses(*self._nodes()))
        return jnp.log(self.share * mass) - 0.5 * (self.nearest**2 + math.log(2 * math.pi))

    def means(self) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """The means of the variable and of its place."""
        y, weights = self._nodes()
        masses = self._masses(y, weights)
        y = jnp.sum(masses * y) / jnp.sum(masses)
        return self.nearest + self.start + self.length * y, self.skipped + self.share * (1 - y)

    def place(self, u: Float[Array, ""]) -> Float[Array, ""]:
        """The place of the quantile `u`: with `u` uniform, a draw. By bisection of `y`."""
        nodes, weights = self._nodes()
        target = u * jnp.sum(self._masses(nodes, weights))

        def halve(i: Array, part: tuple[Array, Array]) -> tuple[Array, Array]:
            low, width = part
            middle = low + width / 2
            reached = middle * jnp.sum(self._masses(middle * nodes, weights))
            return jnp.where(reached < target, middle, low), width / 2

        digits = jnp.finfo(target.dtype).nmant + 1
        whole = jnp.zeros_like(target), jnp.ones_like(target)
        low, width = jax.lax.fori_loop(0, digits, halve, whole)
        y = low + width / 2
        return self.skipped + self.share * (1 - y)

    def _nodes(self) -> tuple[Float[Array, " nodes"], Float[Array, " nodes"]]:
        """Nodes and weights of Gauss and Legendre on `[0, 1]`, enough for `exp(-cut / 2)`."""
        dtype = self.start.dtype
        y, weights = np.polynomial.legendre.leggauss(40 if jnp.finfo(dtype).bits == 64 else 20)
        return jnp.asarray((1 + y) / 2, dtype), jnp.asarray(weights / 2, dtype)

    def _masses(
        self, y: Float[Array, " nodes"], weights: Float[Array, " nodes"]
    ) -> Float[Array, " nodes"]:
        """`weights phi(point) / phi(nearest)`."""
        step = self.start + self.length * y
        return weights * jnp.exp(-step * (self.nearest + step / 2))


def _noise(path: Path, t: Time, dtype: jnp.dtype) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The standard deviation of the noise, and the same kept above 0, to divide by."""
    sd = path.noise_std * path.sigma(t)
    return sd, jnp.maximum(sd, jnp.finfo(dtype).eps)
