"""CTM's adaptive weights: every part of the loss pulls on the last layer as hard as the first.

    lambda_k = clip(|grad_W L_0| / (|grad_W L_k| + 1e-4), low_k, high_k)

`W` is the weight of the network's last layer, and no gradient passes through `lambda`. Source: CTM
(arXiv 2310.02279), section 4.2; the rule is VQGAN's (arXiv 2012.09841), eq. 7.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.network import as_network

Losses = dict[str, Float[Array, ""]]


def ratio(
    first: Float[Array, ""], other: Float[Array, ""], low: float, high: float
) -> Float[Array, ""]:
    """The weight of a part from the two gradient norms, between `low` and `high`."""
    return jax.lax.stop_gradient(jnp.clip(first / (other + 1e-4), low, high))


def last_weight(flow_map: Any) -> Any:
    """The weight of the last layer of the network inside a map, for `eqx.tree_at` too."""
    return as_network(flow_map.net).last_weight


def with_gradients(
    parts: Callable[[Any], tuple[Losses, Any]], flow_map: Any
) -> tuple[Losses, Any, Losses]:
    """`(losses, rest, norms)` of `parts(flow_map)`, norms of the gradients of the last weight.

    One forward pass serves the losses and all norms; each norm costs a backward pass from its loss
    to the last layer of the network, not through the network.
    """

    def of_last(weight: Float[Array, "..."]) -> tuple[Losses, Any]:
        return parts(eqx.tree_at(last_weight, flow_map, weight))

    losses, pull, rest = jax.vjp(of_last, last_weight(flow_map), has_aux=True)
    none = jax.tree.map(jnp.zeros_like, losses)
    norms = {
        name: jnp.linalg.norm(pull(none | {name: jnp.ones_like(loss)})[0].reshape(-1))
        for name, loss in losses.items()
    }
    return losses, rest, jax.lax.stop_gradient(norms)
