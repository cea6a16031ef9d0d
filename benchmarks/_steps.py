"""Training steps to be timed: a compiled one on one batch, and a run's own loop."""

import dataclasses
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from core.data.dataset import Dataset
from core.methods.cost import temporary
from core.methods.plugin import Method
from core.objectives.objective import Batch
from core.train.build import build
from core.train.config import OptimConfig, TrainConfig
from core.train.optim import optimizer
from core.train.state import TargetParameters, init_state
from core.train.step import make_step
from core.train.trainer import Dispatch, Trainer

ENDLESS = 10**9


class CompiledStep:
    """A compiled training step on one batch. Each call does a step: the state goes in (donated),
    and the next one comes out."""

    def __init__(self, lowered: jax.stages.Lowered, state: Any, rest: tuple[Any, ...]):
        self.compiled = lowered.compile()
        self._state, self._rest = state, rest

    def __call__(self) -> Any:
        self._state, metrics = self.compiled(self._state, *self._rest)
        return self._state, metrics

    @property
    def memory_mib(self) -> float:
        """The memory of the step beside its state and its batch."""
        return temporary(self.compiled) / 2**20

    @property
    def state_mib(self) -> float:
        """Parameters, optimiser, averages and whatever the objective holds."""
        return sum(_bytes(leaf) for leaf in jax.tree.leaves((self._state, self._rest))) / 2**20

    @property
    def parameters(self) -> int:
        """Trained numbers of all players."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._state.players))


def training_step(method: Method, batch: Batch, steps: int = 1, rows: int = 0) -> CompiledStep:
    """The step of a method on one batch, with optimiser and averages; `steps` of them in one call.

    With `rows` the batch is that many examples, drawn again in each step from those given.
    """
    return CompiledStep(*lower_step(method, batch, steps, rows))


def lower_step(
    method: Method, batch: Batch, steps: int = 1, rows: int = 0
) -> tuple[jax.stages.Lowered, Any, tuple[Any, ...]]:
    """The step not compiled yet, its state, and its other arguments."""
    rule, target = (
        optimizer(OptimConfig(), 1000),
        TargetParameters(method.target_decay, method.target_every),
    )
    players = {"model": method.flow_map, **method.players}
    state, static = init_state(players, method.objective, rule, jr.key(0), target)
    step = make_step(static, rule, 0.999, target, method.rates)
    arrays, fixed = eqx.partition(method.objective, eqx.is_array)

    def one(state, arrays, batch):
        if rows:
            index = jr.randint(jr.fold_in(state.key, state.step), (rows,), 0, len(batch.x_0))
            batch = jax.tree.map(lambda part: part[index], batch)
        return step(state, batch, eqx.combine(arrays, fixed))

    def many(state, arrays, batch):
        return jax.lax.scan(lambda s, _: one(s, arrays, batch), state, None, length=steps)

    run = one if steps == 1 else many
    state = jax.tree.map(jnp.copy, state)  # donated: the method's own arrays stay
    rest = arrays, batch
    return jax.jit(run, donate_argnums=0).lower(state, *rest), state, rest


def dispatches(config: TrainConfig, data: Dataset | None = None) -> Iterator[Dispatch]:
    """The loop of a run without an end and without log, pictures and checkpoints."""
    config = dataclasses.replace(config, steps=ENDLESS)
    return Trainer(config, build(config, data=data)).run()


def turn(iterator: Iterator[Any], count: int) -> Callable[[], None]:
    """A call that takes the next `count` elements."""

    def take() -> None:
        for _ in islice(iterator, count):
            pass

    return take


def _bytes(leaf: jax.Array) -> int:
    return leaf.size * leaf.dtype.itemsize
