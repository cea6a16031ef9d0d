"""Samples in one evaluation, for methods on the distribution of samples instead of a path."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.flow.condition import Condition
from core.flow.interpolant import Interpolant
from core.objectives.objective import Batch


class Starts(eqx.Module):
    """Where `n` jumps to the data begin: states `x_s` (n, *shape) at path times `s`, labels."""

    x_s: Float[Array, " n *shape"]
    s: Float[Array, " n"]
    label: Int[Array, " n"] | None


class OneStep(eqx.Module):
    """Jumps to the data end, `x = F(x_s, s, 0)`, one for each example of a batch and its label.

    They start at noise, `s = 1`; a share `middle` of them, the first of the batch, starts at the
    noised example at a time drawn uniformly in unit time. With the exact map both have the
    distribution of the data. `num_classes` is 0 where labels are to be left out.
    """

    path: Interpolant
    num_classes: int = eqx.field(static=True, default=0)
    middle: float = eqx.field(static=True, default=0.0)

    def starts(self, batch: Batch, key: Key[Array, ""]) -> Starts:
        """Draws where the jumps begin."""
        n, shape = len(batch.x_0), batch.x_0.shape[1:]
        label = batch.label if self.num_classes else None
        x_s = jax.vmap(lambda k: self.path.prior(k, shape))(jr.split(key, n))
        s = jnp.full((n,), self.path.t_max, x_s.dtype)
        count = round(self.middle * n)
        if not count:
            return Starts(x_s, s, label)
        # Child `n`: children 0 to `n - 1` have drawn the noise above.
        key_time, key_noise = jr.split(jr.fold_in(key, n))
        unit = jr.uniform(key_time, (count,), x_s.dtype)
        between = jax.vmap(self.path.time_of_unit)(unit)
        z = jax.vmap(lambda k: self.path.noise(k, shape))(jr.split(key_noise, count))
        noised = jax.vmap(self.path.interpolate)(batch.x_0[:count], z, between)
        return Starts(x_s.at[:count].set(noised), s.at[:count].set(between), label)

    def __call__(self, model: Any, starts: Starts) -> Float[Array, " n *shape"]:
        """The ends of the jumps. The map receives `s` and the data end, no other time."""
        end = jnp.asarray(self.path.t_min, starts.x_s.dtype)

        def one(x_s: Array, s: Array, label: Array | None) -> Array:
            return model(x_s, s, end, condition(label))

        return jax.vmap(one)(starts.x_s, starts.s, starts.label)


def condition(label: Int[Array, ""] | None) -> Condition | None:
    """The conditioning on a label; None where there is none."""
    return None if label is None else Condition(label=label)
