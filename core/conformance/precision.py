"""How exactly a method's residuals are computed, by the precision of its network.

Where a difference of two evaluations is divided by a small gap, or compared with it, rounding is
divided too: in bfloat16, of which a network's output is good to a percent, a quotient over 0.001 is
noise. The loss still falls then, towards something else. Here the residuals of a method's rows are
computed by a small transformer with noise on its parameters: in float64, in float32, in float32
with products of TF32 operands and in bfloat16. The **error over the signal** of a precision is

    |R - R_64| / |R_64|,

norms over all rows: of a residual `V - sg[T]` the error of its target over its pull. For an
objective without rows it is that of the gradient of its loss.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float

from core.conformance.emulation import with_tf32
from core.flow.flow_map import AverageVelocityMap, Network
from core.flow.path import Path
from core.flow.teacher import MapTeacher, frozen
from core.methods.plugin import Method, Plugin, Task
from core.methods.precision import ROUNDING, WORST
from core.nets.dit import DiTConfig
from core.nets.layers import Dtype
from core.objectives.objective import Batch, GroupTerm, Objective, Players, RowKind
from core.objectives.row import Row
from core.objectives.rows import RowObjective

PRECISIONS = ("float32", "tf32", "bfloat16")
LARGEST = 2 * WORST
"""The measured error in bfloat16 up to which a method need not declare anything: the declaration
is for the middle of the interval, within a factor of two."""
TF32_BOUND = 0.02
SHAPE, CLASSES, NOISE = (8, 8, 1), 10, 0.1
LAST = 99_999
"""A step in which curricula are over, all players have begun and each is trained that is trained in
every n-th step alone (n = 2, 4, 5 ...)."""
CONFIG = DiTConfig(width=32, depth=2, heads=2, head_depth=1)

Quantity = Callable[[Players, Objective, Any], Any]
"""What is computed of the players, the objective and rows or a batch, by every precision."""


@dataclasses.dataclass(frozen=True)
class Precision:
    """The error over the signal of one kind of rows, by precision, and by how much the method says
    that rounding is multiplied in it: `JointTerm.amplification`."""

    kind: str
    errors: dict[str, float]
    declared: float = 1.0

    @property
    def passed(self) -> bool:
        """Whether products of rounded operands do little harm, and bfloat16 little or declared."""
        narrow = self.errors.get("bfloat16", 0.0)
        refused = ROUNDING["bfloat16"] * self.declared > WORST
        return (narrow <= LARGEST or refused) and self.errors.get("tf32", 0.0) <= TF32_BOUND


def precision_errors(
    plugin: Plugin,
    path: Path,
    *,
    rows: int = 64,
    seed: int = 0,
    precisions: tuple[str, ...] = PRECISIONS,
) -> list[Precision]:
    """The error over the signal of each kind of a plugin's rows, at the end of training.

    "float32" is that of the machine: where it rounds operands to TF32 by itself, this column shows
    it; "tf32" rounds them by hand.
    """
    with jax.enable_x64(False):
        key = jr.key(seed)
        batch = _batch(rows, key)
        narrow = {d: _method(plugin, path, d, key) for d in ("float32", "bfloat16")}
        objective = narrow["float32"].objective
        if not isinstance(objective, RowObjective):
            return [Precision("gradient", _errors(narrow, _gradient(key), batch, precisions))]
        found, batch = [], objective.weighed(batch)
        for index, kind in enumerate(objective.kinds):
            if kind.share > 0:
                last = jnp.asarray(objective.steps)
                made = _rows(objective, kind, batch, jr.fold_in(key, index + 1), last)
                errors = _errors(narrow, _residuals(index), made, precisions)
                found.append(Precision(kind.name, errors, kind.term.amplification(kind.step)))
        return found


def _errors(
    methods: dict[str, Method], quantity: Quantity, given: Any, precisions: tuple[str, ...]
) -> dict[str, float]:
    """The error of a quantity over its size, by precision."""

    def at(name: str, wide: bool = False) -> np.ndarray:
        method = methods["bfloat16" if name == "bfloat16" else "float32"]
        everything = _players(method), method.objective, given
        everything = _in_float64(everything) if wide else everything
        arrays, static = eqx.partition(everything, eqx.is_array)

        def run(arrays: Any) -> Any:
            return quantity(*eqx.combine(arrays, static))

        run = with_tf32(run) if name == "tf32" else run
        return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(jax.jit(run)(arrays))])

    with jax.enable_x64(True), _drawn_in_float32():
        exact = at("float32", wide=True)
    size = np.linalg.norm(exact)
    return {name: float(np.linalg.norm(at(name) - exact) / size) for name in precisions}


def _residuals(index: int) -> Quantity:
    """The residuals of the flow map on the rows of one kind, guided as in training."""

    def residuals(players: Players, objective: Objective, made: Any) -> Any:
        assert isinstance(objective, RowObjective)
        kind: RowKind = objective.kinds[index]
        term = kind.term.single() if isinstance(kind.term, GroupTerm) else kind.term
        rows = objective.guided(kind, frozen(players["model"]), made)
        return jax.vmap(lambda row: term.residuals(players, frozen(players), row)["model"])(rows)

    return residuals


def _gradient(key: Any) -> Quantity:
    """The gradient of the flow map's loss in its parameters, in the last step of a training, after
    one that fills what is carried with the first half of the batch."""
    key_first, key_then = jr.split(key)

    def gradient(players: Players, objective: Objective, batch: Batch) -> Any:
        step = jnp.asarray(LAST, jnp.int32)
        first, then = (jax.tree.map(lambda a: a[half::2], batch) for half in (0, 1))
        start = objective.init(players)
        carry = objective(players, frozen(players), start, first, key_first, step)[1]
        arrays, static = eqx.partition(players["model"], eqx.is_inexact_array)

        def loss(arrays: Any) -> Array:
            known = players | {"model": eqx.combine(arrays, static)}
            return objective(known, frozen(known), carry, then, key_then, step)[0]["model"]

        return jax.grad(loss)(arrays)

    return gradient


def _method(plugin: Plugin, path: Path, dtype: Dtype, key: Any) -> Method:
    """The method on networks of this precision, the teacher's too."""
    key_net, key_teacher, key_method = jr.split(jr.fold_in(key, 0), 3)
    config = dataclasses.replace(CONFIG, dtype=dtype)
    net = _network(plugin.net_flags(config), key_net)
    teacher = MapTeacher(AverageVelocityMap(net=_network(config, key_teacher), path=path))
    task = Task(SHAPE, "small-image", CLASSES)
    return plugin.method(net, path, teacher, task, key=key_method)


def _network(config: DiTConfig, key: Any) -> Network:
    """A network with normal numbers for parameters, drawn by NumPy: no gate or output is zero."""
    draw = np.random.default_rng(np.asarray(jr.key_data(key)))

    def drawn(leaf: jax.ShapeDtypeStruct) -> Any:
        spread = NOISE + (leaf.shape[-1] ** -0.5 if len(leaf.shape) > 1 else 0.0)
        return jnp.asarray(spread * draw.normal(size=leaf.shape), leaf.dtype)

    return jax.tree.map(drawn, eqx.filter_eval_shape(config.build, SHAPE, CLASSES, key=key))


@eqx.filter_jit
def _rows(objective: RowObjective, kind: RowKind, batch: Batch, key: Any, step: Any) -> Row:
    return objective.rows(kind, batch, key, step)


def _players(method: Method) -> Players:
    """The players, the others with noise too: one that begins as a copy of the teacher would leave
    a difference of nothing."""
    draw = np.random.default_rng(0)

    def noisy(leaf: Any) -> Any:
        if not eqx.is_inexact_array(leaf):
            return leaf
        return (leaf + NOISE * draw.normal(size=leaf.shape)).astype(leaf.dtype)

    return {"model": method.flow_map, **jax.tree.map(noisy, method.players)}


def _batch(rows: int, key: Any) -> Batch:
    draw = np.random.default_rng(np.asarray(jr.key_data(key)))
    images = draw.uniform(-1, 1, (rows, *SHAPE)).astype(np.float32)
    return Batch(jnp.asarray(images), jnp.asarray(draw.integers(0, CLASSES, rows), jnp.int32))


def _in_float64(tree: Any) -> Any:
    arrays, static = eqx.partition(tree, eqx.is_inexact_array)
    return eqx.combine(jax.tree.map(lambda a: np.asarray(a, np.float64), arrays), static)


@contextlib.contextmanager
def _drawn_in_float32() -> Iterator[None]:
    """What a term draws itself has the values that it has in float32: other bits otherwise."""

    def narrow(draw: Callable[..., Array]) -> Callable[..., Array]:
        def drawn(
            key: Any, shape: Any = (), dtype: Any = None, **rest: Any
        ) -> Float[Array, "*shape"]:
            return draw(key, shape, jnp.float32, **rest).astype(dtype or jnp.float64)

        return drawn

    bernoulli = jr.bernoulli

    def chance(key: Any, p: Any = 0.5, *rest: Any, **more: Any) -> Array:
        return bernoulli(key, jnp.asarray(p, jnp.float32), *rest, **more)

    with (
        mock.patch.object(jr, "bernoulli", chance),
        mock.patch.object(jr, "uniform", narrow(jr.uniform)),
        mock.patch.object(jr, "normal", narrow(jr.normal)),
    ):
        yield
