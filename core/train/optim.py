"""Optimisers and schedules, by Optax."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp

from core.train.config import OptimConfig

if TYPE_CHECKING:
    import optax

Schedule = Callable[[Any], Any]


def schedule(config: OptimConfig, steps: int) -> Schedule:
    """The learning rate as a function of the step."""
    import optax

    warmup = min(config.warmup, max(steps - 1, 0))
    if config.schedule == "cosine":
        main = optax.cosine_decay_schedule(config.rate, max(steps - warmup, 1))
    elif config.schedule == "constant":
        main = optax.constant_schedule(config.rate)
    else:
        main = _inverse_root(config.rate, max(config.decay, warmup), warmup)
    ramp = optax.linear_schedule(0.0, config.rate, max(warmup, 1))
    return optax.join_schedules([ramp, main], [warmup]) if warmup else main


def _inverse_root(rate: float, decay: int, offset: int) -> Schedule:
    """`rate sqrt(decay / step)` from step `decay` on, of steps counted from `offset`."""

    def value(step):
        return rate * jnp.sqrt(decay / jnp.maximum(step + offset, decay))

    return value


def optimizer(config: OptimConfig, steps: int) -> "optax.GradientTransformation":
    """Clipping, then Adam, AdamW or RAdam with the schedule."""
    import optax

    rate = schedule(config, steps)
    if config.name == "adamw":
        rule = optax.adamw(rate, config.b1, config.b2, weight_decay=config.weight_decay)
    elif config.name == "radam":
        rule = optax.radam(rate, config.b1, config.b2)
    else:
        rule = optax.adam(rate, config.b1, config.b2)
    return optax.chain(optax.clip_by_global_norm(config.clip), rule) if config.clip else rule
