"""Maps of a posterior: one network for `p(x_0 | x_t)` at every state and time.

A map `X(y, s, u | x, t)` that is conditioned on an observation of the clean example, the noisy
state `x` at time `t`, is the flow map of the distribution of `x_0 | x_t`: with `y` of the prior,
`X(y, 1, 0 | x, t)` is a draw of it. Without an observation (`t = 1`) it is an ordinary flow map.
The observation is part of the condition, so rules, samplers and metrics need no change.

Source: Meta Flow Maps (arXiv 2601.14430); posterior diamond maps (arXiv 2602.05993).
"""

import dataclasses

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import Path, gaussian


class States(eqx.Module):
    """Draws for each row a state of its own clean example, with noise of its own.

    The state must come from the row's `x_0` and its noise must not be the row's `z`: from another
    example it would teach the network to ignore it. Its time is `1 - U^2`, `least` at least; with
    the probability `nothing` there is no observation, which is zeros at time 1.
    """

    nothing: float = eqx.field(static=True, default=0.1)
    least: float = eqx.field(static=True, default=0.01)

    def __call__(
        self, path: Path, x_0: Float[Array, "*shape"], cond: Condition | None, key: Key[Array, ""]
    ) -> Condition:
        """The condition of the row of `x_0`, with a state."""
        key_time, key_blind, key_noise = jr.split(key, 3)
        t = jnp.maximum(1 - jr.uniform(key_time, (), x_0.dtype) ** 2, self.least)
        blind = jr.bernoulli(key_blind, self.nothing)
        state = (1 - t) * x_0 + t * path.noise(key_noise, x_0.shape).astype(x_0.dtype)
        return dataclasses.replace(
            cond or Condition(),
            state=jnp.where(blind, 0.0, state),
            state_time=jnp.where(blind, 1.0, t),
        )


def conditioned_on(
    path: Path, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
) -> Condition:
    """The condition that says that the state at path time `t` was `x`."""
    cond = Condition() if cond is None else cond
    state = x / (path.alpha(t) + path.sigma(t))
    return dataclasses.replace(cond, state=state, state_time=path.unit_time(t))


def posterior_jump(
    flow_map: FlowMap,
    y: Float[Array, "*shape"],
    x: Float[Array, "*shape"],
    t: Float[Array, ""],
    cond: Condition | None = None,
) -> Float[Array, "*shape"]:
    """`X(y, 1, 0 | x, t)`: a draw of `p(x_0 | x_t = x)` in one evaluation, for `y` of the prior.

    The map must have been trained as one of a posterior (`--plugin mfm`); others ignore `x`.
    """
    start, end = (flow_map.path.time_of_unit(unit).astype(y.dtype) for unit in (1.0, 0.0))
    return flow_map(y, start, end, conditioned_on(gaussian(flow_map.path), x, t, cond))
