"""G0: the gradient of a method's loss, at maps that are not exact, is the one that it declares.

Where the residual is zero a wrong stop changes nothing, and the map and its target are the same. So
three different maps stand here for the model, the target and the teacher: an exact one with bumps
of three kinds of parameters. The gradient of the loss, by reverse mode through the method's own
stops, is compared with central differences of its declared form (`declared` of a term, a weight, an
objective), in which the gradient's carrier is evaluated with one copy of the parameters and numbers
with another: nothing there is stopped. The numbers must depend on the parameters that are declared,
and on no others, and no loss on the parameters of another player.

Negative controls: each stop of the traced loss taken out, all of them taken out, the model and the
target exchanged, and the model in the place of the target. Whatever of that means something for
the method must change the gradient.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from core.conformance import policies
from core.conformance.cases import STEPS, BatchCase, Case, Cast, Psi, RowsCase
from core.conformance.checks import Check, need_wide_floats
from core.conformance.probes import NUM_BUMPS, NoNetwork, bumped
from core.conformance.problems import problems, space_problem
from core.conformance.spaces import Smooth
from core.conformance.stops import masks, without_stops
from core.conformance.tokens import TokenBumped, chain
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import MapTeacher
from core.methods.plugin import Method, Plugin, Task
from core.objectives.carriers import VELOCITY, Declares
from core.objectives.categorical import DIAGONAL_LOGITS
from core.objectives.objective import Batch, GroupTerm, JointTerm, Players
from core.objectives.row import Row
from core.objectives.rows import RowObjective
from core.oracle import OracleMap, Problem, SpaceProblem
from core.times.pairs import Diagonal

G0_BOUND = 1e-6
STEP = 1e-5
"""Step of the central differences in the parameters of the bumps: so small that they seldom reach
across a kink of a network (a leaky ReLU of a discriminator), and errors of rounding are 1e-10."""
MOMENTS = (5, 50, 100)
"""Steps of the training, of `STEPS`, at which rows are drawn: curricula differ between them."""
ROWS = 4
DIAGONALS = ((VELOCITY.symbol,), (DIAGONAL_LOGITS.symbol,))
"""The symbols of rows of the diagonal, which stand beside others."""
SCALES = (1.0, 0.6)
"""Standard deviations of the data over that of the noise."""


def gradient_checks(
    plugin: Plugin, path: Interpolant, *, scales: Sequence[float] = SCALES, seed: int = 0
) -> list[Check]:
    """The checks G0 of a plugin. Call it with 64-bit floats enabled.

    **Arguments:** `plugin` with its flags; `path`; `scales`, standard deviations of the data over
    that of the noise: the noise of the path is stretched, and a flag `data_std` of the plugin
    follows. Raises `ValueError` where floats are 32-bit.
    """
    need_wide_floats()
    checks = _card_check(plugin, path)
    if not path.space.flat:
        return checks + _scaled_checks(plugin, path, jr.key(seed))
    for scale in scales[:1] if plugin.tokens else scales:  # one-hot rows have one scale
        flags = {"data_std": scale} if hasattr(plugin, "data_std") else {}
        scaled: Any = dataclasses.replace(plugin, **flags)
        stretched: Any = dataclasses.replace(path, noise_std=path.noise_std / scale)  # pyright: ignore
        for found in _scaled_checks(scaled, stretched, jr.key(seed)):
            checks.append(dataclasses.replace(found, name=f"data_std {scale:g}: {found.name}"))
    return checks


def declaration(method: Method) -> tuple[str, str]:
    """What carries the gradient of a method's loss, and whose parameters its numbers depend on, as
    a `Card` says it; the diagonal rows beside others are left out."""
    objective, declared = method.objective, [method.objective.declares]
    if isinstance(objective, RowObjective):
        terms = [kind.term for kind in objective.kinds if kind.share > 0]
        jumps = [term for term in terms if term.declares.symbols not in DIAGONALS]
        declared = [term.declares for term in jumps or terms]
        if objective.guide is not None and objective.guide.targets:
            declared.append(Declares((), ("target",)))
    slow = "EMA" if method.target_decay else "last stage" if method.target_every else "current"
    words = {"target": slow}
    symbols = dict.fromkeys(symbol for each in declared for symbol in each.symbols)
    numbers = dict.fromkeys(words.get(n, n) for each in declared for n in each.numbers)
    return ", ".join(symbols), ", ".join(numbers) or "none"


def _card_check(plugin: Plugin, path: Interpolant) -> list[Check]:
    """Whether the card says what the losses declare, of the first variant of the plugin."""
    described = hasattr(plugin, "card")
    if not described or plugin != next(iter(type(plugin).variants().values())):
        return []
    _, exact, task = _setting(plugin, path)
    method = _built(plugin, exact, task, jr.key(0), jr.key(1))
    card, found = plugin.card, declaration(method)
    label = f"card: gradient of {card.gradient}, numbers of {card.targets}"
    if found == (card.gradient, card.targets):
        return [Check(label, "G0", 0.0, G0_BOUND, float("inf"))]
    label += f"; the losses declare {found[0]} and {found[1]}"
    return [Check(label, "G0", float("inf"), G0_BOUND, float("inf"))]


def _setting(plugin: Plugin, path: Interpolant) -> tuple[Problem | SpaceProblem, FlowMap, Task]:
    """The data of the checks, a smooth map for them, and the task."""
    if plugin.tokens:
        problem = chain()
        smooth = TokenBumped(psi=jnp.zeros(NUM_BUMPS), path=path)
        return problem, smooth, Task(problem.shape, "tokens", 0, STEPS)
    if not path.space.flat:
        _, on_space = space_problem(path.space)
        return (
            on_space,
            Smooth(problem=on_space, path=path),
            Task(on_space.shape, "points", 0, STEPS),
        )
    if plugin.policies:
        mixture = policies.plane()
        task = Task(mixture.shape, "points", 0, STEPS)
        return mixture, policies.exact_map(mixture, gaussian(path)), task
    problem = problems()["gaussian"]
    task = Task(problem.shape, "points", 2 if plugin.with_labels else 0, STEPS)
    return problem, OracleMap(problem=problem, path=gaussian(path)), task


def _scaled_checks(plugin: Plugin, path: Interpolant, key: Key[Array, ""]) -> list[Check]:
    problem, exact, task = _setting(plugin, path)
    keys = jr.split(key, 7)
    first, second = (_built(plugin, exact, task, keys[0], k) for k in keys[1:3])
    cast = Cast(exact, first.players, keys[3])
    psi, target = cast.parameters(keys[4]), cast.parameters(keys[5])
    batch = Batch(jax.vmap(problem.sample)(jr.split(keys[6], ROWS * len(MOMENTS))))
    if plugin.with_labels:
        batch = dataclasses.replace(batch, label=jnp.arange(len(batch.x_0)) % 2)
    if not isinstance(first.objective, RowObjective):
        case = _batch_case(first, cast(psi), batch, keys[0])
        name, declares = "step", first.objective.declares
        return [_check(name, declares, [], _examine(case, case, cast, psi, target))]
    checks = []
    for index, kind in enumerate(first.objective.kinds):
        if kind.share > 0:
            here, there = (
                _rows_case(made.objective, index, batch, jr.fold_in(key, index))
                for made in (first, second)
            )
            found = _examine_rows(here, there, cast, psi, target)
            read = isinstance(kind.term, JointTerm) and _named(kind.term, path)
            slots = ["current", "target", "teacher", *cast.others] if read else []
            checks.append(_check(kind.name, kind.term.declares, slots, found))
    return checks


def _named(term: JointTerm, path: Interpolant) -> bool:
    """Whether the term's declared form is the one that its carriers make."""
    return type(term).declared is JointTerm.declared and not term.of_points(path.space)


def _built(plugin: Plugin, exact: FlowMap, task: Task, key: Array, key_teacher: Array) -> Method:
    bumps = 0.4 * jr.normal(key_teacher, (NUM_BUMPS,))
    teacher = MapTeacher(bumped(exact, bumps))
    return plugin.method(NoNetwork(), exact.path, teacher, task, key=key)


def _batch_case(method: Method, players: Players, batch: Batch, key: Array) -> BatchCase:
    """A step that carries what the one before it left."""
    objective, carry = method.objective, method.objective.init(players)
    case = BatchCase(objective, carry, batch, key)
    if jax.tree.leaves(carry):
        carry = objective(players, players, carry, batch, jr.fold_in(key, 1), case.step)[1]
    return dataclasses.replace(case, carry=carry)


def _rows_case(objective: Any, index: int, batch: Batch, key: Key[Array, ""]) -> RowsCase:
    """Rows of one kind, in groups that a loss needs, with a leading axis of groups."""
    kind = dataclasses.replace(objective.kinds[index], share=1.0)
    alone = dataclasses.replace(objective, kinds=(kind,))
    size = kind.term.size if isinstance(kind.term, GroupTerm) else 1
    few = jax.tree.map(lambda leaf: leaf[: max(ROWS, size)], alone.weighed(batch))
    drawn = [alone.rows(kind, few, jr.fold_in(key, step), jnp.asarray(step)) for step in MOMENTS]
    rows = jax.tree.map(lambda *parts: jnp.concatenate(parts), *drawn)
    grouped = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), rows)
    # Without what is over when rows are drawn, so that one program serves all methods whose rows
    # of a kind differ in their times alone.
    plain = jax.tree.map(
        lambda leaf: jnp.asarray(leaf) if type(leaf) is float else leaf, kind.weight
    )
    kind = dataclasses.replace(kind, times=Diagonal(), weight=plain, step=None)
    bare = dataclasses.replace(alone, kinds=(kind,), label_drop=0.0, weigh=None, states=None)
    return RowsCase(bare, grouped)


def _as_array(leaf: Any) -> Any:
    return jnp.asarray(leaf) if type(leaf) is float else leaf


class _Found(eqx.Module):
    """What `_examine` computes; axes of losses and gradients: rows, if any, and settings."""

    losses: dict[str, Array]
    declared: dict[str, Array]
    gradients: dict[str, dict[str, Array]]
    expected: dict[str, Array]
    numbers: Array


_compiled: Any = partial(  # pyright: ignore[reportCallIssue]
    eqx.filter_jit,
    compiler_options={
        "xla_backend_optimization_level": 0,
        "xla_llvm_disable_expensive_passes": True,
    },
)
"""For programs that are compiled for far longer than they run."""


@_compiled
def _examine_rows(here: RowsCase, there: RowsCase, cast: Cast, psi: Psi, target: Psi) -> _Found:
    def one(rows: Row) -> _Found:
        first, second = (dataclasses.replace(case, rows=rows) for case in (here, there))
        return _found(first, second, cast, psi, target)

    return jax.vmap(one)(here.rows)


@_compiled
def _examine(here: Case, there: Case, cast: Cast, psi: Psi, target: Psi) -> _Found:
    found = _found(here, there, cast, psi, target)
    return jax.tree.map(lambda leaf: leaf[None], found)


def _found(here: Any, there: Any, cast: Cast, psi: Psi, target: Psi) -> _Found:
    fixed, still = cast(psi), cast(target)
    gradients, losses = _gradients(here.losses, cast, psi, target)
    expected, declared = _differences(lambda now: here.declared(cast(now), fixed, still), psi)
    return _Found(
        losses=losses,
        declared=declared,
        gradients=gradients,
        expected=expected,
        numbers=_varied(here, there, cast, psi, target),
    )


def _gradients(
    losses: Callable[[Players, Players], Any], cast: Cast, psi: Psi, target: Psi
) -> tuple[dict[str, dict[str, Array]], dict[str, Array]]:
    """Of each loss for the parameters of each player; as the method stops them, then with model
    and target exchanged, with the model for a target, with all stops taken out, and each alone; and
    the losses."""
    free, n = without_stops(lambda now, then: losses(cast(now), cast(then)), psi, target)
    whole = masks(n)
    taken = jnp.concatenate([whole[:1], whole[:1], whole])
    first, second = ([target if i == 1 else psi for i in range(len(taken))],
                     [psi if i in (1, 2) else target for i in range(len(taken))])  # fmt: skip
    now, then = (jax.tree.map(lambda *leaves: jnp.stack(leaves), *psis) for psis in (first, second))

    def twice(p: Psi, m: Array, q: Psi) -> tuple[Any, Any]:
        found = free(m, p, q)
        return found, found

    gradients, found = jax.vmap(jax.jacrev(twice, has_aux=True))(now, taken, then)
    return gradients, jax.tree.map(lambda leaf: leaf[0], found)


def _differences(
    f: Callable[[Psi], dict[str, Array]], psi: Psi
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Central differences of each loss in the parameters of its own player; and the losses."""
    n, one = NUM_BUMPS, jnp.eye(NUM_BUMPS)
    moves = STEP * jnp.concatenate([one, -one, jnp.zeros((1, n))])
    values = jax.vmap(lambda move: f({name: own + move for name, own in psi.items()}))(moves)
    slopes = jax.tree.map(lambda v: (v[:n] - v[n : 2 * n]) / (2 * STEP), values)
    return slopes, jax.tree.map(lambda v: v[-1], values)


def _varied(here: Any, there: Any, cast: Cast, psi: Psi, target: Psi) -> Float[Array, "k ..."]:
    """The numbers of the residuals: as they are, then with other parameters of the model, of the
    target, of the teacher, of each further player."""
    names = list(cast.others)
    moved = [None, "model", None, None, *names]
    now = [{k: v + 0.3 * (k == which) for k, v in psi.items()} for which in moved]
    then = [{k: v + 0.3 * (i == 2) for k, v in target.items()} for i in range(len(moved))]
    cases = [there if i == 3 else here for i in range(len(moved))]
    arrays, static = eqx.partition(cases, eqx.is_array)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)

    def numbers(arrays: Any, now: Psi, then: Psi) -> Array:
        case = eqx.combine(arrays, static[0])
        return case.numbers(cast(now), cast(then), cast(psi), cast(target))

    return jax.vmap(numbers)(
        stacked, *(jax.tree.map(lambda *p: jnp.stack(p), *q) for q in (now, then))
    )


def _check(name: str, declares: Declares, slots: list[str], found: _Found) -> Check:
    """One check from what was found; `slots` are the parameters that numbers might depend on."""
    scales = {k: np.abs(v).max() for k, v in found.expected.items()}
    own = {k: np.asarray(found.gradients[k][k]) for k in scales}
    settings = next(iter(own.values())).shape[1]

    def error(i: int) -> float:
        errors = [np.abs(own[k][:, i] - v).max() / scales[k] for k, v in found.expected.items()]
        errors += [np.abs(g[:, i]).max() / scales[k] for k in scales
                   for p, g in found.gradients[k].items() if p != k]  # fmt: skip
        return float(np.max(errors)) if np.isfinite(errors).all() else float("inf")

    def moves(i: int) -> bool:
        pairs = [(own[k][:, i], own[k][:, 0], scales[k]) for k in scales]
        return any(np.abs(a - b).max() > 1e-9 * scale for a, b, scale in pairs)

    values = [error(0)]
    for k, loss in found.losses.items():
        values.append(float(np.max(np.abs(loss - found.declared[k])) / np.abs(loss).max()))
    controls = [1, *([2] if "target" in declares.numbers else []),
                *([3] if "current" in declares.numbers else []),
                *(i for i in range(3, settings) if moves(i))]  # fmt: skip
    label = f"{name} gradient of {', '.join(declares.symbols)}"
    sizes = np.abs(np.asarray(found.numbers) - np.asarray(found.numbers)[:, :1])
    depends = tuple(slot for i, slot in enumerate(slots, 1) if sizes[:, i].max() > 1e-9)
    if any(carrier.read is None for carrier in declares.carriers):
        # All of the residual carries the gradient: nothing of the model is a number.
        depends = tuple(slot for slot in depends if slot != "current")
    if slots and set(depends) != set(declares.numbers):
        label += f", numbers of {', '.join(depends) or 'none'}"
        values.append(float("inf"))
    return Check(label, "G0", max(values), G0_BOUND, min(error(i) for i in controls))
