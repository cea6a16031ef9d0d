"""A policy from any network: its last layer, once more for every number of a mixture."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Asked, Callee, as_network, suited
from core.flow.path import Path
from core.flow.policy import MixturePolicy, PolicyMap

BOUND = 4.0
"""Of `|log w_k| / 2`: no width of the network is beyond `exp(4)` noises, or below `exp(-4)`."""


class MixtureMap(PolicyMap):
    """A policy by a network `N(x, s, s)`: its last layer `W` has `2 K` or `3 K` neighbours `W_j`.

        v_k = N + d_k + e_k,     log a_k = mean of l_k,     log std_k = B tanh(mean of r_k / B)

    with `N_j` the output with `W_j` in the place of `W`, and `d_k, l_k, r_k` differences
    `N_j - N_0` to a layer of zeros; means are over the last axis. All but the last layer is
    computed once. The neighbours are zero at the start, where the components have the network's own
    velocity, spread by `e_k` with mean zero, so that they come apart: the mean velocity is
    then the network's, such as a teacher's whose weights it has. `std` is one fixed
    standard deviation over that of the noise in `x_s`, in the place of `std_k`; 0 learns them.

    The paper has one layer with all outputs, whose means begin as copies of the teacher's, and one
    width from the embedding of the time. Raises `UserError` where it is evaluated by a network
    that does not say which its last layer is (`Network.last_weight`).
    """

    net: Callee
    path: Path
    heads: Float[Array, " heads *weight"] | None
    components: int = eqx.field(static=True)
    substeps: int = eqx.field(static=True)
    std: float = eqx.field(static=True, default=0.0)

    @classmethod
    def around(
        cls, net: Callee, path: Path, *, components: int, substeps: int, std: float = 0.0
    ) -> "MixtureMap":
        """The map of a network as it begins."""
        net = suited(net, Asked("average", path))
        weight, heads = as_network(net).last_weight, None
        if weight is not None:
            count = (2 if std else 3) * components
            heads = jnp.zeros((count, *weight.shape), weight.dtype)
        sizes = {"components": components, "substeps": substeps, "std": std}
        return cls(net=net, path=path, heads=heads, **sizes)

    def policy(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> MixturePolicy:
        own, parts = self._outputs(x, s, cond)
        apart, levels, *widths = jnp.split(parts, len(parts) // self.components)
        velocities = own[None] + apart + spread(self.components, x)
        log_weights = jnp.mean(levels, axis=-1, keepdims=True)
        if widths:
            log_stds = BOUND * jnp.tanh(jnp.mean(widths[0], axis=-1, keepdims=True) / BOUND)
        else:
            log_stds = jnp.full_like(log_weights, np.log(self.std))
        return MixturePolicy.of(self.path, x, s, velocities, log_weights, log_stds)

    def _outputs(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None
    ) -> tuple[Float[Array, "*shape"], Float[Array, " heads *shape"]]:
        """The network's own output, and those of its other last layers."""
        net, unit = as_network(self.net), self.path.unit_time(s)
        if self.heads is None:
            raise UserError(
                "a policy needs a network whose last layer is known, such as --net mlp or --net dit"
            )
        last = lambda net: net.last_weight  # noqa: E731
        own: Any = last(net)
        layers = jnp.concatenate([jnp.stack([own, jnp.zeros_like(own)]), self.heads])
        found = jax.vmap(lambda W: eqx.tree_at(last, net, W)(x, unit, unit, cond))(layers)
        return found[0], found[2:] - found[1:2]


def spread(components: int, x: Float[Array, "*shape"]) -> Float[Array, " K *shape"]:
    """Fixed normal numbers, one for each component and entry of the last axis, with mean zero over
    the components."""
    drawn = np.random.default_rng(0).standard_normal((components, x.shape[-1]))
    drawn -= drawn.mean(axis=0)
    shape = (components, *(1,) * (x.ndim - 1), x.shape[-1])
    return jnp.broadcast_to(jnp.asarray(drawn.reshape(shape), x.dtype), (components, *x.shape))
