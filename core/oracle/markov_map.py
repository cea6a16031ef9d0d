"""The exact flow map of a Markov chain of symbols."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.categorical import TokenMap, towards
from core.flow.condition import Condition
from core.flow.path import LinearPath, Path
from core.flow.series import sinhc
from core.flow.solve import AdaptiveSteps, FixedSteps, solve
from core.oracle.markov import MarkovText

EARLIEST = 0.02
"""Below this time the posterior is a vertex to rounding: the map goes on along a line."""
PRECISE = AdaptiveSteps("dopri8", rtol=1e-11, atol=1e-13)


class MarkovMap(TokenMap):
    """The map of tokens that a perfectly trained network would be.

    With `L = log(s / t)`, `r` in [0, 1] and `tau = s e^(-r L)`, even in the logarithm of time, the
    endpoint is `psi(x, s, t) = P(1)` of

        dP/dr = E[e | x_tau] L e^(r L) / (e^L - 1),      x_tau = tau / s (x + (e^L - 1) P),

    no quotient, and right at `s = t`. It supports `jax.jvp` and `jax.vmap`, not reverse mode. The
    diagonal has no solve. **Fields:** `problem`; `path`; `stepping`.
    """

    problem: MarkovText
    path: Path = LinearPath()
    stepping: FixedSteps | AdaptiveSteps = eqx.field(default=PRECISE)

    def logits(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        del cond
        least = jnp.finfo(x.dtype).tiny
        return jnp.log(jnp.maximum(self._endpoint(x, s, t), least))

    def endpoint_at(
        self, x: Float[Array, "length symbols"], t: Float[Array, ""]
    ) -> Float[Array, "length symbols"]:
        """`E[e | x_t = x]`."""
        return jax.nn.softmax(self.problem.logits(self.path, x, t))

    def _endpoint(
        self, x: Float[Array, "length symbols"], s: Float[Array, ""], t: Float[Array, ""]
    ) -> Float[Array, "length symbols"]:
        s, u = jnp.maximum(s, EARLIEST), jnp.maximum(t, EARLIEST)
        psi = self._integral(x, s, u)
        early = t < EARLIEST
        share = jnp.where(early, t * (s - u) / (u * jnp.where(early, s - t, 1.0)), 1.0)
        vertex = self.endpoint_at(x + (u - s) * towards(x, s, psi), u)
        return share * psi + (1 - share) * vertex

    def _integral(
        self, x: Float[Array, "length symbols"], s: Float[Array, ""], t: Float[Array, ""]
    ) -> Float[Array, "length symbols"]:
        length = jnp.log(s / t)

        def rate(P: Array, r: Array) -> Array:
            shrink = jnp.exp(-r * length)
            mean = self.endpoint_at(shrink * (x + jnp.expm1(length) * P), s * shrink)
            return mean * jnp.exp((r - 0.5) * length) / sinhc(length / 2)

        return solve(rate, jnp.zeros_like(x), 0.0, 1.0, stepping=self.stepping).x
