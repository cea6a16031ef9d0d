"""The panel Map: particles and a grid carried from any time to any other, and tables of jumps."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from core.data.labels import class_number
from core.errors import UserError, require
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.flow.solve import FixedSteps
from core.oracle import KNOWN_DISTRIBUTIONS, OracleMap
from portolan.model import Model
from portolan.runs import Run
from portolan.studio.bounds import MOST, most_nodes
from portolan.studio.fields import SEED, Fields
from portolan.studio.sampling import bucket, noise
from portolan.studio.session import BESIDE, Opened
from portolan.studio.views import Shown, shown, view_of

JUMPS = 64
"""Jumps of a way of many, at most."""
FINE = 33
"""Places of a trajectory."""
NODES = 12
"""Times of a table, at most."""
STEPS = 64, 4
"""Steps of the exact flow from s to t, and between two places of a trajectory."""


def plane(run: Opened, fields: Fields) -> Shown:
    """Particles and a grid at time s, and where one jump and many jumps carry them at time t."""
    s, t = fields.number("s", 0, 1), fields.number("t", 0, 1)
    jumps = fields.whole("jumps", 1, JUMPS, 8)
    before, lines = states_at(run, fields, s), grid_of(run)
    x = np.concatenate([before, lines.reshape(-1, before.shape[1])])
    cond = condition(run.model, fields)
    ends = {
        "one": carried(run.model.flow_map, x, [s, t], cond)[-1],
        "many": carried(run.model.flow_map, x, np.linspace(s, t, jumps + 1), cond)[-1],
    }
    arrays = {"before": before, "lines_before": lines}
    for name, y in ends.items():
        arrays[name], arrays[f"lines_{name}"] = split(y, before, lines)
    apart = np.asarray(_apart(run.model.flow_map, arrays["one"], arrays["many"]))
    return Shown(arrays, {"apart": float(np.sqrt(np.mean(apart**2)))})


def exact(run: Opened, fields: Fields) -> Shown:
    """The same by the exact flow of the distribution. Raises `UserError` where it is not known."""
    s, t = fields.number("s", 0, 1), fields.number("t", 0, 1)
    before, lines = states_at(run, fields, s), grid_of(run)
    x = np.concatenate([before, lines.reshape(-1, before.shape[1])])
    end = carried(exact_map(run.model, STEPS[0]), x, [s, t], None)[-1]
    there, lines_there = split(end, before, lines)
    return Shown({"exact": there, "lines_exact": lines_there})


def trajectory(run: Opened, fields: Fields) -> Shown:
    """The way of the state `at` from s to t: by one jump to each time between and by many jumps,
    or, where it is asked for alone, by the exact flow."""
    model = run.model
    check_drawn(model)
    s, t = fields.number("s", 0, 1), fields.number("t", 0, 1)
    dim = model.spec.shape[0]
    at = np.array([fields.numbers("at", dim, -100, 100)], np.float32)
    require(at.shape == (1, dim), f"at must be {dim} numbers")
    at = np.asarray(jax.jit(model.flow_map.path.space.project)(at[0]))[None]
    cond, units = condition(model, fields), np.linspace(s, t, FINE)
    if fields.flag("exact"):
        ways = carried(exact_map(model, STEPS[1]), at, units, None, whole=True)
        return Shown({"exact": np.concatenate([at[None], ways]).swapaxes(0, 1)})
    fan = np.asarray(_fan(model.flow_map, at[0], np.asarray(units, np.float32), cond))
    jumps = fields.whole("jumps", 1, JUMPS, 8)
    many = carried(model.flow_map, at, np.linspace(s, t, jumps + 1), cond, whole=True)
    return Shown({"one": fan[None], "many": np.concatenate([at[None], many]).swapaxes(0, 1)})


def table(run: Opened, fields: Fields) -> Shown:
    """F(F(z, 1, s), s, t) of one noise for falling times s (rows) and t <= s (columns), and how
    far each is from F(z, 1, t), which a perfect map makes zero: root mean squares."""
    model, most = run.model, most_nodes(run.model, NODES)
    nodes = fields.whole("nodes", 2, most, min(7, most))
    require(
        model.flow_map.two_times and model.abilities.most_nfe is None,
        f"{model.name} has learned jumps to the data alone: there is no table of others",
    )
    seed, index = fields.whole("seed", 0, SEED, 0), fields.whole("index", 0, MOST - 1, 0)
    z = noise(run, seed, np.array([index]))[0]
    units = np.linspace(1, 0, nodes).astype(np.float32)
    pairs = [(i, j) for i in range(nodes) for j in range(i, nodes)]
    rows, columns = np.array(pairs).T
    cond = condition(model, fields)
    found = np.asarray(_two_jumps(model.flow_map, z, units[rows], units[columns], cond))
    first = found[:nodes]  # the row of s = 1
    off = np.full((nodes, nodes), np.nan, np.float32)
    for k, (i, j) in enumerate(pairs):
        off[i, j] = np.sqrt(np.mean((found[k] - first[j]) ** 2))
    picture = shown(run, found)
    said = {**picture.said, "units": units.tolist(), "pairs": pairs}
    return Shown({**picture.arrays, "off": off}, said)


def states_at(run: Opened, fields: Fields, s: float) -> Float[np.ndarray, "n dim"]:
    """Particles of the marginal at time s, of the class that is carried: of the data with noise
    where these are at hand, else carried from noise by the map. Raises `UserError` where they are
    drawn on no picture here."""
    model = run.model
    check_drawn(model)
    n = fields.whole("n", 1, BESIDE, 600)
    z = noise(run, fields.whole("seed", 0, SEED, 0), np.arange(n))
    cond = condition(model, fields)
    try:
        x_0 = np.resize(run.examples(n, label=class_of(model, cond)), z.shape)
    except UserError:
        return carried(model.flow_map, z, np.linspace(1, s, 17), cond)[-1] if s < 1 else z
    return np.asarray(_mixed(model.flow_map, x_0, z, np.asarray(s, np.float32)))


def check_drawn(model: Model) -> None:
    """Raises `UserError` for a run whose states are no points of a plane, globe or square."""
    view, dim = view_of(model.spec), model.spec.shape[0]
    drawn = (view, dim) in (("plane", 2), ("torus", 2), ("globe", 3))
    require(drawn, "the plane of a map is drawn for points of two numbers, on the sphere or torus")


def grid_of(run: Opened) -> Float[np.ndarray, "k m dim"]:
    """The lines of a grid over the picture, each as places close to each other."""
    view = view_of(run.model.spec)
    if view == "globe":
        a, b = np.linspace(-np.pi, np.pi, 49), np.radians(np.arange(-60, 61, 30))[:, None]
        parallels = np.stack([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), np.sin(b + 0 * a)], -1)
        c = np.radians(np.arange(0, 180, 30))[:, None]
        meridians = np.stack([np.cos(a) * np.cos(c), np.cos(a) * np.sin(c), np.sin(a + 0 * c)], -1)
        return np.concatenate([parallels, meridians]).astype(np.float32)
    side = np.pi if view == "torus" else 3.0
    places, fine = np.linspace(-side, side, 13), np.linspace(-side, side, 37)
    across = np.stack(np.broadcast_arrays(fine, places[:, None]), -1)
    return np.concatenate([across, across[..., ::-1]]).astype(np.float32)


def split(
    y: Float[np.ndarray, "m dim"],
    before: Float[np.ndarray, "n dim"],
    lines: Float[np.ndarray, "k f dim"],
) -> tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, "k f dim"]]:
    """Particles and lines, which were carried as one array."""
    return y[: len(before)], y[len(before) :].reshape(lines.shape)


def condition(model: Model, fields: Fields) -> Condition | None:
    """The class asked for; all together, or the first, where none is."""
    classes = model.spec.num_classes
    if not classes:
        return None
    usual = classes if model.abilities.all_classes else 0
    if not fields.has("label"):
        return Condition(label=jnp.asarray(usual))
    return Condition(label=jnp.asarray(class_number(model.spec, fields.whole("label", 0, SEED))))


def class_of(model: Model, cond: Condition | None) -> int | None:
    """The class of a condition; None for all together."""
    label = None if cond is None or cond.label is None else int(cond.label)
    return None if label == model.spec.num_classes else label


def carried(
    field: FlowMap,
    x: Float[np.ndarray, "n dim"],
    units: Sequence[float] | Float[np.ndarray, " nodes"],
    cond: Condition | None,
    whole: bool = False,
) -> Float[np.ndarray, "jumps n dim"]:
    """The states after each jump along unit times; only the last, unless `whole`."""
    many = np.resize(x, (bucket(len(x)), *x.shape[1:]))
    found = _carried(field, many, np.asarray(units, np.float32), cond, whole)
    return np.asarray(found)[:, : len(x)]


@eqx.filter_jit
def _carried(field: FlowMap, x, units, cond: Condition | None, whole: bool):
    times = jax.vmap(field.path.time_of_unit)(units)
    project = field.path.space.project

    def jump(states, pair):
        s, t = pair
        moved = jax.vmap(lambda y: project(field(y, s, t, cond)))(states)
        return moved, moved if whole else None

    end, ways = jax.lax.scan(jump, x, (times[:-1], times[1:]))
    return end[None] if ways is None else ways


@eqx.filter_jit
def _fan(field: FlowMap, x, units, cond: Condition | None):
    times = jax.vmap(field.path.time_of_unit)(units)
    return jax.vmap(lambda t: field(x, times[0], t, cond))(times)


@eqx.filter_jit
def _two_jumps(field: FlowMap, z, sources, targets, cond: Condition | None):
    path = field.path

    def one(s, t):
        top, s, t = (path.time_of_unit(u) for u in (jnp.asarray(1.0), s, t))
        return field(field(path.start(z, top), top, s, cond), s, t, cond)

    return jax.vmap(one)(sources, targets)


@eqx.filter_jit
def _apart(field: FlowMap, x, y):
    return jax.vmap(field.path.space.distance)(x, y)


@eqx.filter_jit
def _mixed(field: FlowMap, x_0, z, unit):
    path = field.path
    t = path.time_of_unit(unit)
    return jax.vmap(lambda a, b: path.interpolate(a, b, t))(x_0, z)


def knows_exact(model: Model) -> bool:
    """Whether the exact flow of a run's distribution is known: of some data, from independent
    noise, without classes."""
    if not isinstance(model, Run) or model.config.data not in KNOWN_DISTRIBUTIONS:
        return False
    return model.abilities.noise == "independent" and not model.spec.num_classes


def exact_map(model: Model, steps: int) -> OracleMap:
    """The exact flow map, solved in so many steps. Raises `UserError` where it is not known."""
    known = ", ".join(KNOWN_DISTRIBUTIONS)
    require(
        knows_exact(model),
        f"the exact flow is known for {known} alone, from independent noise and without classes",
    )
    assert isinstance(model, Run)
    problem = KNOWN_DISTRIBUTIONS[model.config.data]()
    return OracleMap(
        problem=problem, path=gaussian(model.flow_map.path), stepping=FixedSteps("heun", steps)
    )
