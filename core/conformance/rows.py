"""The oracle checks that every plugin must pass, ours or another package's.

Where the data's distribution is known, so is the exact flow map. Put in the place of the network,
it must be a fixed point of a correct objective:

- **P0**: with the marginal velocity for supervision, every residual is zero, row by row. The
  marginal velocity is supplied through the data: the pair `(E[x_0 | x_s], E[z | x_s])` lies on the
  same `x_s`, and its conditional velocity is the marginal one.
- **E0**: with sampled pairs, the expected update direction is zero: the gradient of `|R|^2 / 2`,
  unweighted, with respect to coefficients of smooth perturbations of the map, within 4 standard
  errors of 0.

- **O(h^k)**: a rule with a finite step is not exact at the true map. The expectation of its
  residual given `x_s`, by quadrature over the posterior, must fall as the stated power of the step
  when that is halved twice. The value is by how much the measured power falls short of `k`.

Each check has a negative control: the same with `Flipped`, the map that a rule with the wrong sign
before `(t - s)` would learn. It must fail. Where only the distribution of samples counts, a map
whose velocity is off by a constant serves too: flipped, a Gaussian's map has the same distribution.
Everything is computed in float64. At a residual of zero a wrong stop changes nothing: where
gradients flow is checked away from the exact map, in `core.conformance.gradients`.

Where the rows of a batch have weights, the gradients are multiplied by them, and where a method
learns another distribution than that of the data, a tilted one, the exact map is that of the tilted
one. Where rows are conditioned on a noisy state of their clean example, exact map and marginal
velocity are those of the posterior. A method for pairs of a teacher alone gets those of the exact
map, in both checks.

Where a method learns guidance, the data have two classes and the exact map is that of the guided
velocity, integrated by Diffrax; the pair's velocity goes through the method's guidance first.

Tokens are strings of a Markov chain, whose flow map is integrated by Diffrax too; perturbations
move its logits, and few rows are drawn, away from the ends. Maps by policies get mixtures of
Gaussians, whose exact policy is known; perturbations move their components. A term that is known to
be biased says so: its residual and update at the exact map are printed, and refused nobody.

Further players are exact too: a second velocity field that is trained on the student's samples is
the marginal velocity when the student is exact. A discriminator is then constant. That the student
has no gradient under a constant discriminator says nothing, but that the discriminator has none on
samples of an exact student does: on those of a wrong one it has. In an objective that is not made
of rows E0 is therefore checked for every such player.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from core.conformance import policies, spaces, tokens
from core.conformance.batches import batch_checks, batch_scores
from core.conformance.checks import E0_BOUND, Check, largest_score, need_wide_floats
from core.conformance.probes import NUM_BUMPS, NoNetwork, Probe, flipped, off_by, probed, shifted
from core.conformance.problems import Case, classes, exact_map, pairs_of, space_problem
from core.conformance.problems import problems as all_problems
from core.flow.categorical import TokenMap
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import MapTeacher, frozen
from core.methods.plugin import Method, Plugin
from core.objectives.objective import Batch, GroupTerm, JointTerm, RowKind
from core.objectives.row import Row
from core.objectives.rows import RowObjective
from core.objectives.weights import Weight
from core.oracle import ClassMixture, Problem, ProductMixture, SpaceMap, SpaceProblem
from core.oracle.map import posterior

P0_BOUND = 1e-9
ORDER_BOUND = 0.25
ORDER_ROWS = 256
STEPS = (0.04, 0.02, 0.01)


class _Orders(NamedTuple):
    """How the order of a rule with a finite step is measured."""

    rows: int
    steps: tuple[float, ...]


def check_plugin(
    plugin: Plugin,
    path: Interpolant,
    *,
    problems: Mapping[str, Problem] | None = None,
    rows: int = 4096,
    order_rows: int = ORDER_ROWS,
    steps: tuple[float, ...] = STEPS,
    seed: int = 0,
) -> list[Check]:
    """The checks of one plugin at the exact map; `gradient_checks` has those beside it. Call it
    with 64-bit floats enabled.

    **Arguments:** `plugin` with its flags; `path`; the `problems` that are checked, by default all
    of `core.conformance.problems`; one with guidance or labels is checked on classes always, one of
    tokens or policies on problems of its own, and on a path in a space that is not flat the problem
    is that of the space; `rows` per check;
    `order_rows`, of which the order of a finite step and groups are measured; the `steps` for that,
    each half of the one before; `seed`. Raises `ValueError` where floats are 32-bit.
    """
    need_wide_floats()
    checks: list[Check] = []
    labels = plugin.with_labels
    given = {"classes": classes()} if labels else problems or all_problems()
    if plugin.tokens:
        given, rows = {"chain": tokens.chain()}, min(rows, tokens.ROWS)
    if plugin.policies:
        given = policies.problems()
    if not path.space.flat:
        given, rows = dict([space_problem(path.space)]), min(rows, spaces.ROWS)
        order_rows = min(order_rows, spaces.ORDER_ROWS)
        steps = tuple(step * spaces.FINER for step in steps)
    for name, problem in given.items():
        key = jr.fold_in(jr.key(seed), len(checks))
        kept = isinstance(problem, ClassMixture | SpaceProblem)
        learned = problem if kept else plugin.learns(problem)
        exact, task = exact_map(learned, path, plugin)
        method = plugin.method(NoNetwork(), path, MapTeacher(exact), task, key=key)
        drawn = jax.vmap(problem.sample)(jr.split(jr.fold_in(key, 0), rows))
        batch = Batch(*drawn) if isinstance(drawn, tuple) else Batch(drawn)
        batch = pairs_of(exact, batch, jr.fold_in(key, 0)) if plugin.paired else batch
        orders = _Orders(order_rows, steps)
        checks += _check_method(name, method, learned, exact, batch, orders, key)
    return checks


def _models(exact: FlowMap) -> list[FlowMap]:
    """The exact map and the flipped one. On spaces, where velocities are small beside those of
    pairs and few rows show a flip in the mean, also one whose velocity and jumps are off alike at
    all rows: the control of E0."""
    flips = [jnp.asarray(flip) for flip in (0.0, 1.0)]
    if not isinstance(exact, SpaceMap):
        return [flipped(exact, flip) for flip in flips]
    right, off = off_by(exact, 0.0), off_by(exact, 1.0)
    return [*(flipped(right, flip) for flip in flips), flipped(off, flips[0])]


def _check_method(
    name: str,
    method: Method,
    problem: Case,
    exact: FlowMap,
    batch: Batch,
    orders: _Orders,
    key: Key[Array, ""],
) -> list[Check]:
    objective = method.objective
    models = _models(exact)
    # Every further player is a velocity field that should equal the map's, so the map takes its
    # place.
    players = list(method.players)
    if not isinstance(objective, RowObjective):
        probes = shifted(models[0], 0.0), shifted(models[1], 0.0), shifted(models[0])
        scores = [batch_scores(objective, method, probe, batch, key) for probe in probes]
        return batch_checks(name, method, scores)
    checks, batch = [], objective.weighed(batch)
    for index, kind in enumerate(objective.kinds):
        if kind.share == 0:
            continue
        # At the end of training, where curricula have their smallest steps and all stages have
        # begun.
        last = jnp.asarray(objective.steps)
        if isinstance(exact, TokenMap):
            kind = dataclasses.replace(kind, times=tokens.Within(kind.times))
        made = objective.rows(kind, batch, jr.fold_in(key, index + 1), last)
        term = kind.term
        if isinstance(problem, SpaceProblem) and isinstance(term, JointTerm):
            checks += _on_space(f"{name}: {kind.name}", term, problem, exact, made, key)
        if isinstance(term, GroupTerm):
            checks += _check_group(name, kind, term, models[:2], exact, _first(made, orders.rows))
            term = term.single()
        # A finite step leaves a residual at the exact map, so P0 and E0 would fail; its order is
        # checked.
        if term.order is not None:
            label, few = f"{name}: {kind.name}", _first(made, orders.rows)
            checks += _check_order(label, term, problem, models[:2], players, few, orders.steps)
            continue
        # Guidance comes after the exchange of the pair: its targets contain the pair's velocity
        # too.
        marginal = made if batch.z is not None else _marginal_rows(problem, objective.path, made)
        guided = _guided if objective.guide is not None else RowObjective.guided
        (p0, e0), (p0_flipped, e0_flipped), *far = (
            _examine(
                term,
                model,
                dict.fromkeys(players, model),
                *(guided(objective, kind, model, rows) for rows in (made, marginal)),
            )
            for model in models
        )
        e0_flipped = far[0][1] if far else e0_flipped
        found = {"residual": (p0, P0_BOUND, p0_flipped), "update": (e0, E0_BOUND, e0_flipped)}
        for check, kind_of in (("residual", "P0"), ("update", "E0")):
            label = f"{name}: {kind.name} {check}"
            checks.append(Check(label, kind_of, *found[check], term.biased))
    return checks


def _on_space(
    label: str,
    term: JointTerm,
    problem: SpaceProblem,
    exact: FlowMap,
    made: Row,
    key: Key[Array, ""],
) -> list[Check]:
    """The checks that are of spaces alone, where the exact map is one there."""
    assert isinstance(exact, SpaceMap)
    few = _marginal_rows(problem, exact.path, _first(made, spaces.FEW))
    return spaces.extra_checks(label, term, exact, few, jr.fold_in(key, 5))


@eqx.filter_jit
def _guided(objective: RowObjective, kind: RowKind, model: FlowMap, rows: Row) -> Row:
    """The rows as the objective guides them, by one program for all models."""
    return objective.guided(kind, model, rows)


def _check_order(
    name: str,
    term: JointTerm,
    problem: Case,
    models: list[FlowMap],
    players: list[str],
    made: Row,
    steps: tuple[float, ...],
) -> list[Check]:
    """By how much the measured power of the step falls short, on problems with a quadrature."""
    if not isinstance(problem, ProductMixture | SpaceProblem):
        return []
    if isinstance(problem, ProductMixture) and problem.shape != (1,):
        return []
    order = term.order
    assert order is not None
    terms = [_traced(term.with_step(h)) for h in steps]
    sizes = [
        [float(_mean_size(t, problem, m, dict.fromkeys(players, m), made)) for t in terms]
        for m in models
    ]
    short, short_flipped = (order - _power(size) for size in sizes)
    label = f"{name} order {order - short:.2f}"
    return [Check(label, f"O(h^{order})", max(short, 0.0), ORDER_BOUND, short_flipped)]


def _check_group(
    name: str, kind: RowKind, term: GroupTerm, models: list[FlowMap], exact: FlowMap, made: Row
) -> list[Check]:
    """The loss of groups whose neighbours lie on true trajectories, and its gradient: both 0."""
    assert isinstance(kind.weight, Weight)
    weight = kind.weight
    few = _first(made, len(made.s) // term.size * term.size)
    groups = jax.tree.map(lambda leaf: leaf.reshape(-1, term.size, *leaf.shape[1:]), few)
    value, control = (float(_group_size(term.exact(exact), weight, m, groups)) for m in models)
    return [Check(f"{name}: {kind.name} groups", "P0", value, P0_BOUND, control)]


@eqx.filter_jit
def _group_size(term: GroupTerm, weight: Weight, model: FlowMap, groups: Row) -> Float[Array, ""]:
    """The largest loss of a group, or entry of its gradient."""

    def loss(psi: Array, group: Row) -> Array:
        probe = Probe(exact=model, psi=psi, path=model.path)
        return term.loss(probe, frozen(model), group, weight)[0]

    both = jax.value_and_grad(loss)
    values, gradients = jax.vmap(lambda group: both(jnp.zeros(NUM_BUMPS), group))(groups)
    return jnp.maximum(jnp.max(jnp.abs(values)), jnp.max(jnp.abs(gradients)))


def _traced(term: JointTerm) -> JointTerm:
    """The term with arrays in the place of its numbers, so that one program serves all steps."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if type(leaf) is float else leaf, term)


def _first(rows: Row, n: int) -> Row:
    return jax.tree.map(lambda leaf: leaf[:n], rows)


NODES = 12


def _power(sizes: list[float]) -> float:
    """The exponent of a quantity that was measured at halved steps; 0 where it is not finite."""
    ratios = np.asarray(sizes[:-1]) / np.maximum(np.asarray(sizes[1:]), 1e-300)
    power = np.mean(np.log2(np.maximum(ratios, 1e-300)))
    return float(power) if np.isfinite(power) else 0.0


@eqx.filter_jit
def _mean_size(
    term: JointTerm,
    problem: ProductMixture | SpaceProblem,
    model: FlowMap,
    others: dict[str, FlowMap],
    rows: Row,
) -> Float[Array, ""]:
    """The median over rows of `|E[R | x_s]|`."""
    if isinstance(problem, SpaceProblem):
        return spaces.mean_size(term, problem, model, others, rows)
    points, weights = np.polynomial.hermite_e.hermegauss(NODES)
    weights = jnp.asarray(weights / weights.sum())

    def mean(row: Row) -> Array:
        share, centres, stds = problem.posterior(gaussian(model.path), row.x_s, row.s)
        x_0 = centres[0][:, None] + stds[0][:, None] * jnp.asarray(points)[None, :]
        values = jax.vmap(lambda clean: residual(clean, row))(x_0.reshape(-1, 1))
        return jnp.sum((share[0][:, None] * weights[None, :]).reshape(-1, 1) * values, axis=0)

    def residual(clean: Array, row: Row) -> Array:
        path = gaussian(model.path)
        z = (row.x_s - path.alpha(row.s) * clean) / path.sigma(row.s)
        v = path.conditional_velocity(clean, z, row.s)
        pair = eqx.tree_at(lambda r: (r.x_0, r.z, r.v), row, (clean, z, v))
        players = {"model": model, **others}
        return term.residuals(players, players, pair)["model"][0]

    return jnp.median(jnp.abs(jax.vmap(mean)(rows)))


@eqx.filter_jit
def _marginal_rows(problem: Case, path: Interpolant, rows: Row) -> Row:
    return jax.vmap(lambda row: _marginal_row(problem, path, row))(rows)


def _marginal_row(problem: Case, path: Interpolant, row: Row) -> Row:
    """The row whose pair is the posterior mean, so that its velocity is the marginal one, of its
    class where there are classes."""
    if isinstance(problem, SpaceProblem):
        return spaces.marginal_row(problem, row)
    path = gaussian(path)
    if isinstance(problem, ClassMixture):
        assert row.cond is not None and row.cond.label is not None
        problem = problem.given(row.cond.label)
    else:
        problem = posterior(problem, path, row.cond)
    x_0 = problem.x_0_mean(path, row.x_s, row.s)
    v = problem.velocity(path, row.x_s, row.s)
    z = problem.noise_mean(path, row.x_s, row.s)
    return eqx.tree_at(lambda r: (r.x_0, r.z, r.v), row, (x_0, z, v))


def _examine(
    term: JointTerm, model: FlowMap, others: dict[str, FlowMap], made: Row, marginal: Row
) -> tuple[float, float]:
    """The largest residual on marginal rows, and the score of the update on sampled ones."""
    sizes, gradients = _sizes_and_gradients(term, model, others, made, marginal)
    largest = np.max(np.asarray(sizes))
    return float(largest) if np.isfinite(largest) else float("inf"), largest_score(
        np.asarray(gradients)
    )


@eqx.filter_jit
def _sizes_and_gradients(
    term: JointTerm, model: FlowMap, others: dict[str, FlowMap], made: Row, marginal: Row
) -> tuple[Float[Array, " n"], Float[Array, "n count"]]:
    """Per row: the largest entry of the flow map's residuals, with the marginal velocity; and the
    gradient of `factor |R|^2 / 2` with respect to the perturbations at zero, with the sampled
    one."""

    def loss(psi: Array, row: Row) -> tuple[Array, Array]:
        probe = probed(model, psi)
        players = {"model": probe, **others}
        parts = term.residuals(players, {k: frozen(p) for k, p in players.items()}, row)["model"]
        squares = sum((jnp.sum(part**2) for part in parts), start=jnp.zeros(()))
        return row.factor * squares / 2, jnp.max(jnp.stack([jnp.abs(part).max() for part in parts]))

    # One program for both: it is compiled for longer than it runs.
    n = len(made.s)
    rows = jax.tree.map(lambda *both: jnp.concatenate(both), marginal, made)
    both = jax.vmap(lambda row: jax.grad(loss, has_aux=True)(jnp.zeros(NUM_BUMPS), row))
    gradients, sizes = both(rows)
    return sizes[:n], gradients[n:]
