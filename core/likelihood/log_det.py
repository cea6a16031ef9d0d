"""`log |det dF/dx|` of one jump of a flow map."""

import abc

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.divergence import along_axes
from core.flow.flow_map import FlowMap

TAIL = 1e-3
"""The last term of a series that has converged, at most, in nats for each number of an example."""


class Jump(eqx.Module):
    """Where a jump ends, `log |det|` of its Jacobian in nats, and the sign of that determinant.

    A flow keeps the sign +1; a learned map whose determinant is negative folds the space there.
    """

    x: Float[Array, "*shape"]
    log_det: Float[Array, ""]
    sign: Float[Array, ""]


class LogDet(eqx.Module):
    """How the determinant of a jump is taken."""

    @abc.abstractmethod
    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None,
        *,
        key: Key[Array, ""],
    ) -> Jump:
        """The jump of one example from `s` to `t`, in either direction."""


class ExactLogDet(LogDet):
    """The determinant of the whole Jacobian, by as many Jacobian-vector products of one
    linearisation as `x` has numbers: for some hundreds of numbers."""

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None,
        *,
        key: Key[Array, ""],
    ) -> Jump:
        del key
        y, push = jax.linearize(lambda place: flow_map(place, s, t, cond), x)

        sign, log_det = jnp.linalg.slogdet(
            along_axes(x, lambda direction, _: push(direction).ravel())
        )
        return Jump(y, log_det, sign)


class SeriesLogDet(LogDet):
    """`log det(I + A) = sum over k of (-1)^(k+1) tr(A^k) / k`, `A = (t - s) grad V`, with traces
    estimated by `probes` random directions.

    It converges where the spectral radius of `A` is below 1, at the rate of its powers; split the
    jump where it is not: `log_det` is nan where the last term is not below `TAIL` of a nat a
    number of `x`. The sign is taken to be +1. Source: residual flows (arXiv 1906.02735), eq. 5, cut
    off after `terms`.
    """

    terms: int = eqx.field(static=True, default=12)
    probes: int = eqx.field(static=True, default=8)

    def __call__(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None,
        *,
        key: Key[Array, ""],
    ) -> Jump:
        V, push = jax.linearize(lambda place: flow_map.average_velocity(place, s, t, cond), x)

        def parts(probe_key: Array) -> Array:
            probe = jr.rademacher(probe_key, x.shape, x.dtype)

            def power(direction: Array, k: Array) -> tuple[Array, Array]:
                direction = (t - s) * push(direction)
                return direction, jnp.where(k % 2 == 1, 1.0, -1.0) / k * jnp.sum(probe * direction)

            return jax.lax.scan(power, probe, jnp.arange(1, self.terms + 1))[1]

        terms = jnp.mean(jax.lax.map(parts, jr.split(key, self.probes)), axis=0)
        converged = jnp.abs(terms[-1]) < TAIL * x.size
        log_det = jnp.where(converged, jnp.sum(terms), jnp.nan)
        return Jump(x + (t - s) * V, log_det, jnp.ones_like(log_det))
