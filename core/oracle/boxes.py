"""Uniform distributions on boxes of any dimension, such as a checkerboard: hard edges."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.path import Path, Time
from core.oracle.problem import Problem


class BoxMixture(Problem):
    """`x_0` is in box `k` with probability `weights_k`, and uniform there; any dimension.

    Given its box, a product over `i` of intervals `[low_ki, high_ki]`, the coordinates of `x_t`
    are independent. With `sd = noise_std sigma`,

        p_t(x_i | k) = (Phi(b) - Phi(a)) / (alpha (high - low)),
        a = (x_i - alpha high) / sd,        b = (x_i - alpha low) / sd,

    and given `x_t = x` too, `z_i / noise_std` is a standard normal confined to `[a, b]`. All of it
    is smooth also where these formulas divide zeros, at `alpha = 0` and far in the tails.

    At `sigma = 0` the density has jumps. There `E[z | x] = 0` and `E[x_0 | x]` is the point of the
    boxes nearest to `x`: inside a box `x` itself. Outside, where no `x_0` can be, `log_prob` is
    finite, about `-(distance / eps)^2 / 2` with the `eps` of the dtype. For `sigma > 0` outside,
    `E[z | x]` grows like `distance / sigma`. `sample_posterior` has no derivatives. The flow map
    has no closed form; `OracleMap` integrates it.

    **Fields:** `weights` (k,), positive with sum 1; `low`, `high` (k, dim), `low < high`. Boxes
    may touch or overlap.
    """

    weights: Float[Array, " k"]
    low: Float[Array, "k dim"]
    high: Float[Array, "k dim"]

    def __check_init__(self):
        low, high, weights = self.low.shape, self.high.shape, self.weights.shape
        if len(low) != 2 or low != high or low[:1] != weights:
            raise ValueError(
                f"BoxMixture needs weights (k,) and low and high (k, dim), got "
                f"{weights}, {low} and {high}."
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
    """The distribution of `checkerboard`: uniform on the dark unit squares of a 4 x 4 board.

    The squares of `[-2, 2]^2` in which `floor(x) + floor(y)` is even, eight of them.
    """
    corners = [[x, y] for x in range(-2, 2) for y in range(-2, 2) if (x + y) % 2 == 0]
    low = jnp.array(corners, jnp.result_type(float))
    return BoxMixture(jnp.full(8, 1 / 8), low, low + 1)


class _Interval(eqx.Module):
    """A standard normal variable confined to `[a, b]`; one number, `jax.vmap` stands outside.

    Its mean is `(phi(a) - phi(b)) / (Phi(b) - Phi(a))`, but that and `log(Phi(b) - Phi(a))` lose
    all digits where `b - a` is small or both ends lie far out. So the integrals of `phi` are taken
    by Gauss-Legendre, relative to `phi(nearest)` at the point nearest 0, over the part of the
    interval where `phi` is above the rounding error of that: there a fixed number of nodes gives
    every digit for any ends, no sum has terms of two signs, and derivatives follow, also where
    `a` and `b` meet.

    Points are `nearest + start + length y` with `y` in `[0, 1]`. Their place between the ends,
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
        """Nodes and weights on `[0, 1]`, as many as the dtype has use for."""
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
