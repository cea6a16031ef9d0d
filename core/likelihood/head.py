"""The determinant of a jump by a learned divergence, in one evaluation."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.divergence import DivergenceHead
from core.flow.flow_map import FlowMap
from core.likelihood.log_det import Jump, LogDet


class HeadLogDet(LogDet):
    """The determinant by a divergence head, in one evaluation. The sign is taken to be +1."""

    head: DivergenceHead

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
        log_det = x.size * (t - s) * self.head(x, s, t, cond)
        return Jump(flow_map(x, s, t, cond), log_det, jnp.ones_like(log_det))
