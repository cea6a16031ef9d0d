"""The cost of a method: operations, time and memory of loss and gradient, over one forward pass.

The unit is the forward-pass equivalent (FPE): the operations that the compiler counts for one
evaluation of the network on the batch. A loop's body is counted once, so the network must be
unrolled.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from core.flow.flow_map import AverageVelocityMap, FlowMap, Network
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher, frozen
from core.methods.plugin import Method, Plugin, Task
from core.objectives.objective import Batch, Objective
from core.objectives.rows import RowObjective

Program = tuple[Any, Callable[[], Any]]


@dataclass(frozen=True)
class Cost:
    """Of one loss and gradient: operations and time over those of a forward pass, and bytes."""

    flops: float
    time: float
    temporary_bytes: int


@dataclass(frozen=True)
class Bench:
    """A batch, a network and a teacher of the same network, with their forward pass as the unit.

    `repeats` timings are taken of each program, in turn with the forward pass; the least counts.
    `num_classes` is that of the batch's labels, 0 without; `kind` names the flags of `split`:
    "points", "small-image" or "image".
    """

    net: Network
    teacher_net: Network
    batch: Batch
    repeats: int = 3
    num_classes: int = 0
    kind: str = "image"

    def whole(self, plugin: type[Plugin]) -> Cost:
        """Every kind of rows on the whole batch, as surveys count."""
        method = self.method(plugin.whole())
        objective = method.objective
        if not isinstance(objective, RowObjective):
            return self._measure(method, [objective])
        kinds = [kind for kind in objective.kinds if kind.share > 0]
        alone = [eqx.tree_at(lambda o: o.kinds, objective, (_filled(kind),)) for kind in kinds]
        return self._measure(method, alone)

    def flags(self, plugin: Plugin) -> Cost:
        """A method with the flags that it has."""
        method = self.method(plugin)
        return self._measure(method, [method.objective])

    def duel(self, first: Plugin, second: Plugin) -> list[tuple[float, float]]:
        """Seconds of the first and of the second method's loss and gradient, `repeats` pairs, each
        timed one right after the other."""
        one, other = (self._program(self.method(plugin)) for plugin in (first, second))
        return [(_seconds(one), _seconds(other)) for _ in range(self.repeats)]

    def split(self, plugin: type[Plugin]) -> Cost:
        """The method's own division of the batch into kinds of rows."""
        return self.flags(plugin.preset(self.kind))

    def method(self, plugin: Plugin) -> Method:
        """The method on the bench's network, with its teacher."""
        path = LinearPath()
        teacher = MapTeacher(AverageVelocityMap(net=self.teacher_net, path=path))
        shape = self.batch.x_0.shape[1:]
        return plugin.method(
            self.net, path, teacher, Task(shape, self.kind, self.num_classes), key=jr.key(0)
        )

    def _measure(self, method: Method, objectives: list[Objective]) -> Cost:
        unit = compiled(one_forward, method.flow_map, self.batch.x_0)
        programs = [self._program(method, objective) for objective in objectives]
        operations, seconds, memory = 0.0, 0.0, 0
        forward = min(_seconds(unit) for _ in range(self.repeats))
        for program in programs:
            forward = min(forward, *(_seconds(unit) for _ in range(self.repeats)))
            seconds += min(_seconds(program) for _ in range(self.repeats))
            operations += flops(program[0])
            memory = max(memory, temporary(program[0]))
        return Cost(operations / flops(unit[0]), seconds / forward, memory)

    def _program(self, method: Method, objective: Objective | None = None) -> Program:
        players = {"model": method.flow_map, **method.players}
        step = jnp.zeros((), jnp.int32)
        objective = objective or method.objective
        return compiled(_loss_and_gradient, players, objective, self.batch, jr.key(1), step)


def compiled(f: Callable, *args: Any) -> Program:
    """The compiled program and a call of it; arrays are arguments, never constants."""
    arrays, static = eqx.partition(args, eqx.is_array)
    program = jax.jit(lambda given: f(*eqx.combine(given, static))).lower(arrays).compile()
    return program, lambda: jax.block_until_ready(program(arrays))


def one_forward(flow_map: FlowMap, x: jax.Array) -> jax.Array:
    """One evaluation of a map on a batch."""
    times = jnp.full(len(x), 0.7), jnp.full(len(x), 0.2)
    return jax.vmap(flow_map.average_velocity)(x, *times)


def _loss_and_gradient(players, objective, batch, key, step):
    trained, static = eqx.partition(players, eqx.is_inexact_array)

    def total(trained):
        all_players = eqx.combine(trained, static)
        losses, _, metrics = objective(
            all_players, frozen(all_players), objective.init(all_players), batch, key, step
        )
        return sum(losses.values(), start=jnp.zeros(())), metrics

    return jax.value_and_grad(total, has_aux=True)(trained)


def _filled(kind):
    return dataclasses.replace(kind, share=1.0)


def flops(program: Any) -> float:
    """Operations of a compiled program; the body of a loop counts once. NaN: not known."""
    return float((program.cost_analysis() or {}).get("flops", float("nan")))


def temporary(program: Any) -> int:
    """Bytes that a compiled program needs beside arguments and results; 0: not known."""
    memory = program.memory_analysis()
    return 0 if memory is None else int(memory.temp_size_in_bytes)


def _seconds(program: Program) -> float:
    began = time.perf_counter()
    program[1]()
    return time.perf_counter() - began
