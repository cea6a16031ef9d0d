"""How far students are from their teachers before the first step: `python -m benchmarks.students`.

For every method that starts from its teacher's weights, and published networks of a few thousand
random numbers: the largest difference of the two velocities over the largest velocity.
"""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from apps._main import launch
from core.errors import pick
from core.flow.change import MovedMap, restrict
from core.flow.condition import Condition
from core.flow.flow_map import AverageVelocityMap, FlowMap
from core.flow.path import PATHS, LinearPath, VPPath, gaussian
from core.flow.teacher import Guided, MapTeacher, Teacher
from core.layouts.edm import edm_map
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin, plugins
from core.methods.row_plugin import RowPlugin
from core.nets import EDMUNetConfig, NetworkConfig, OfficialDiTConfig
from core.nets.native import flow_map_of
from core.nets.suited import prediction_of
from core.report.versions import versions
from core.train.absent import AbsentTeacher
from core.train.build import Built, build
from core.train.cli import parse_flags
from portolan.settings import config_of
from portolan.tables import markdown, print_table, save

SIT = OfficialDiTConfig(
    width=16, depth=2, heads=2, frequencies=8, times="s", clock="reversed", positions="stored"
)
DISCRETE = "linear 0.0001 0.02 1000"
NETS: dict[str, NetworkConfig] = {
    "sit": SIT,
    "dit": dataclasses.replace(SIT, clock=DISCRETE),
    "edm": EDMUNetConfig(channels=8, multipliers=(1,), blocks=1, attention=()),
}
CLASSES = 10
POINTS = 64
"""States and times at which velocities are compared."""
SPREAD = 0.3
"""Standard deviation of the teachers' weights."""


@dataclass(frozen=True)
class StudentsConfig:
    """Builds the student of each method, and compares it with its teacher before the first step.

    `sit` has velocities, `dit` the noise at the steps of discrete diffusion, `edm` a network behind
    EDM's preconditioning; the last two are on other paths, and are moved. A method has no figure
    with guidance as an input where it cannot learn it.
    """

    method: str | None = None
    """One method; by default all that start from their teacher."""
    path: str = "linear"
    """The path of the students."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints and writes."""
    config = parse_flags(StudentsConfig, argv)
    pick(PATHS, config.path, "path")
    names = [config.method] if config.method else list(starting())
    rows = [row(name, config.path) for name in names]
    columns, title = list(rows[0]), f"Students and their teachers, {config.path} path"
    print_table(title, columns, rows)
    result = {"path": config.path, "points": POINTS, "rows": rows, "versions": versions()}
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    return result if config.json else None


def starting() -> Iterator[str]:
    """The methods that start from the weights of their teacher."""
    for name, plugin in plugins().items():
        if starts(plugin):
            yield name


def starts(plugin: type[Plugin]) -> bool:
    """Whether a method learns from a teacher, and starts from its weights."""
    begins = plugin.preset("small-image").starts_from(AbsentTeacher(LinearPath()))
    return plugin.needs_teacher and begins


def row(name: str, path: str) -> dict[str, Any]:
    """The differences of one method, by network, without guidance and with it as an input."""
    found: dict[str, Any] = {"method": name}
    for net in NETS:
        found[net] = difference(name, net, path)
        if guidable(find_plugin(name)):
            found[f"{net}, guidance"] = difference(name, net, path, guided=True)
    return found


def guidable(plugin: type[Plugin]) -> bool:
    """Whether a student of this method can take guidance as an input."""
    return issubclass(plugin, RowPlugin) and plugin.guidable and not plugin.from_teacher


def difference(name: str, net: str, path: str = "linear", *, guided: bool = False) -> float:
    """The largest difference of velocities over the largest velocity, of the student and of dmd's
    second network. Raises `ValueError` for a student that starts from nothing."""
    teacher, exact = teacher_of(net, path, guided)
    built = student(name, net, path, teacher, guided)
    if not built.start.startswith("starts from its teacher's weights"):
        raise ValueError(f"{name} of {net} {built.start}")
    fields = [built.players[name] for name in ("model", "fake") if name in built.players]
    apart = [np.abs(velocities(field, path, guided) - exact).max() for field in fields]
    return float(max(apart) / np.abs(exact).max())


def student(name: str, net: str, path: str, teacher: Teacher, guided: bool) -> Built:
    """The method as a run begins."""
    settings: dict[str, Any] = {"path": path, "plugin": {}, "steps": 10}
    if guided:
        settings["plugin"]["guidance"] = {"most": 4.0}
    if hasattr(find_plugin(name), "pairs"):
        settings["plugin"] |= {"pairs": 8, "solver_steps": 1}
    config = config_of(name, "digits", settings)
    flags = NETS[net].as_student(prediction_of(published(net)) or "plain")
    config = dataclasses.replace(config, net_flags=config.plugin_flags.net_flags(flags))
    return build(config, teacher)


@cache
def published(name: str) -> FlowMap:
    """A network with random weights in the map of its layout."""
    config = NETS[name]
    net = eqx.filter_eval_shape(lambda key: config.build((8, 8, 1), CLASSES, key=key), jr.key(0))
    generator = np.random.default_rng(0)
    net = jax.tree.map(
        lambda leaf: jnp.asarray(SPREAD * generator.normal(size=leaf.shape), jnp.float32), net
    )
    if name == "edm":
        return edm_map(net)
    if name == "dit":
        return flow_map_of(net, VPPath(), DISCRETE, "noise")
    return AverageVelocityMap(net=net, path=LinearPath())


@cache
def teacher_of(name: str, path: str, guided: bool) -> tuple[Teacher, np.ndarray]:
    """The teacher on the students' path, for drawn guidance too, and its velocities."""
    own, there = published(name), PATHS[path]()
    moved = type(own.path) is not type(there)
    teacher = MapTeacher(
        MovedMap(flow_map=own, path=restrict(there, gaussian(own.path))) if moved else own
    )
    chosen = Guided(teacher, None, CLASSES) if guided else teacher
    return chosen, velocities(chosen, path, guided)


def velocities(field: Any, path: str, guided: bool) -> np.ndarray:
    """Of a velocity field, at the same states, times and labels; guided at scale 1."""
    generator = np.random.default_rng(1)
    x = jnp.asarray(generator.normal(size=(POINTS, 8, 8, 1)), jnp.float32)
    units = jnp.asarray(generator.uniform(0.02, 0.98, POINTS), jnp.float32)
    labels = jnp.asarray(generator.integers(0, CLASSES + 1, POINTS), jnp.int32)
    return np.asarray(_velocities(field, x, units, labels, PATHS[path](), guided))


@eqx.filter_jit
def _velocities(field, x, units, labels, path, guided):
    scale = jnp.asarray([1.0, 0.0, 1.0]) if guided else None
    one = lambda x, t, label: field.velocity(x, t, Condition(label, scale))  # noqa: E731
    return jax.vmap(one)(x, jax.vmap(path.time_of_unit)(units), labels)


if __name__ == "__main__":
    launch(main)
