"""Maps of tokens that the oracle checks put in the place of a trained one, and their problem.

Perturbations are added to the logits. A rule with the wrong sign before `t - s` learns
`2 zeta_ss - zeta` off the diagonal, to first order.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from core.flow.categorical import TokenMap
from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.solve import FixedSteps
from core.oracle.markov import MarkovText
from core.oracle.markov_map import MarkovMap
from core.times.pairs import TimeSampler

ROWS = 128
"""Rows of a check at most: each is solved for many times."""
STEPPING = FixedSteps("dopri8", 32)


def chain() -> MarkovText:
    """Strings of three symbols of four: the distribution on which methods of tokens are checked."""
    rows = np.array([[6, 2, 1, 1], [1, 1, 7, 1], [2, 3, 2, 3], [5, 1, 1, 3]]) / 10
    return MarkovText(jnp.array([0.4, 0.3, 0.2, 0.1]), jnp.asarray(rows), 3)


class Within(TimeSampler):
    """The times of `times`, squeezed into `[low, high]`: there the exact map is so to 1e-10."""

    times: TimeSampler
    low: float = 0.15
    high: float = 0.95

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        s, t = self.times(key, n, progress)
        width = self.high - self.low
        return self.low + width * s, self.low + width * t


class TokenProbe(TokenMap):
    """A map with smooth perturbations added to its logits: `zeta + sum_k psi_k phi_k(x, s, t)`."""

    exact: TokenMap
    psi: Float[Array, " count"]
    path: Interpolant

    def logits(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        shapes = (ramp(x), x, jnp.sin(2 * x), s * x, t * x, jnp.cos(x) * (s - t))
        bumps = [c * b for c, b in zip(self.psi, shapes, strict=True)]
        return self.exact.logits(x, s, t, cond) + sum(bumps, start=jnp.zeros_like(x))


class TokenFlipped(TokenMap):
    """Where `flip` is 1, the map that a sign error learns; the exact map where it is 0."""

    exact: TokenMap
    flip: Float[Array, ""]
    path: Interpolant

    def logits(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        here, zeta = self.exact.logits(x, s, s, cond), self.exact.logits(x, s, t, cond)
        return zeta + self.flip * jnp.where(s == t, -2 * here, 2 * (here - zeta))


class TokenBumped(TokenMap):
    """A map that is not exact: logits of `x` and smooth bumps, also of the label."""

    psi: Float[Array, " count"]
    path: Interpolant

    def logits(
        self,
        x: Float[Array, "length symbols"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "length symbols"]:
        shapes = (ramp(x), x, jnp.sin(2 * x + t), s * x, t**2 * jnp.cos(x[::-1]), s * t * x)
        size = jnp.ones(())
        if cond is not None and cond.label is not None:
            size += cond.label / 4
        bumps = [c * b for c, b in zip(self.psi, shapes, strict=True)]
        return x + size * sum(bumps, start=jnp.zeros_like(x))


def ramp(x: Float[Array, "length symbols"]) -> Float[Array, "length symbols"]:
    """Something else for each symbol; what is the same for all means nothing."""
    return jnp.broadcast_to(jnp.linspace(-1.0, 1.0, x.shape[-1])[None, :], x.shape)


def exact_map(problem: MarkovText, path: Interpolant) -> MarkovMap:
    """The exact map of the problem on the linear path of the checks."""
    return MarkovMap(problem=problem, path=gaussian(path), stepping=STEPPING)
