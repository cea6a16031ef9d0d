"""From a configuration to the objects of a run: data, network, method and path."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.random as jr

from core.adapters import adapted, base_print, is_adapted, trained
from core.adapters.places import DEFAULT
from core.data.dataset import Dataset
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.teacher import Autoguided, Guided, MapTeacher, Nearest, Teacher
from core.methods.plugin import DataContext, Method, Progress, Task
from core.methods.precision import check_precision
from core.methods.spaces import check_space
from core.methods.warm_start import COMPUTATION, later_names, unlike, warm_started
from core.nets.dropout import has_dropout
from core.nets.suited import core_of
from core.objectives.objective import Objective, Players
from core.objectives.rows import RowObjective
from core.train import toml
from core.train.config import TrainConfig
from core.train.ends import couple_of, load_ends
from core.train.gather import Couple
from core.train.spaces import network_of, path_of
from core.train.state import TargetParameters


@runtime_checkable
class Trainable(Protocol):
    """The object that the loop trains: networks, their learning rates where not 1, the loss, the
    parameters that targets use, the data of training, which arrays of the networks are trained (a
    filter of Equinox), and how the ends of a batch are coupled."""

    @property
    def players(self) -> Players: ...
    @property
    def rates(self) -> Mapping[str, float]: ...
    @property
    def objective(self) -> Objective: ...
    @property
    def target(self) -> TargetParameters: ...
    @property
    def training(self) -> Dataset: ...
    @property
    def trained(self) -> Any: ...
    @property
    def couple(self) -> Couple | None: ...


@dataclass(frozen=True)
class Built:
    """A data set, the path, and the method with freshly initialised networks.

    `training` has the examples of the method: the data set, or the pairs that its teacher made.
    `start` says with which weights training starts, where there is a choice; `couple` chooses the
    ends of a batch, or is None; `notes` are lines on what the teacher does to serve.
    """

    dataset: Dataset
    training: Dataset
    path: Interpolant
    task: Task
    method: Method
    start: str = ""
    couple: Couple | None = None
    notes: tuple[str, ...] = ()

    @property
    def players(self) -> Players:
        """All trained networks by name; the flow map is "model"."""
        return {"model": self.method.flow_map, **self.method.players}

    @property
    def objective(self) -> Objective:
        """The losses of a training step."""
        return self.method.objective

    @property
    def rates(self) -> Mapping[str, float]:
        """Learning rates of players, in units of the optimiser's."""
        return self.method.rates

    @property
    def target(self) -> TargetParameters:
        """Which parameters the method's targets use."""
        return TargetParameters(self.method.target_decay, self.method.target_every)

    @property
    def adapted(self) -> bool:
        """Whether the map is trained through an adapter."""
        return is_adapted(self.method.flow_map)

    @property
    def trained(self) -> Any:
        """Which arrays of the players are trained: all numbers, or of the map the adapter."""
        if not self.adapted:
            return eqx.is_inexact_array
        others = jax.tree.map(eqx.is_inexact_array, self.method.players)
        return {"model": trained(self.method.flow_map), **others}

    def num_parameters(self) -> int:
        """Trained numbers in all players."""
        return _size(eqx.filter(self.players, self.trained))

    def sizes(self) -> tuple[int, int]:
        """Trained numbers in all players, and those that stay as they are under an adapter."""
        trained = self.num_parameters()
        return trained, _size(eqx.filter(self.players, eqx.is_inexact_array)) - trained

    def base(self) -> str:
        """The fingerprint of the weights that an adapter stands on; empty without one."""
        if not self.adapted:
            return ""
        return base_print(self.method.flow_map)


def build(
    config: TrainConfig,
    teacher: Teacher | None = None,
    data: Any = None,
    *,
    start: FlowMap | None = None,
    train: bool = True,
    progress: Progress | None = None,
) -> Built:
    """Loads the data (or takes `data`) and builds the method of a configuration.

    `start` gives its weights to the map; without it the seed fixes the initialisation, or the
    teacher's weights are taken where the method starts from them. Without `train` no pairs are made
    by a teacher, since nothing will be trained; `progress` receives their number.
    Raises `UserError` for settings that do not fit together.
    """
    dataset = load_ends(config, data)
    task = Task(dataset.shape, dataset.kind, dataset.num_classes, config.steps, dataset)
    path = path_of(config, dataset.space)
    method, begun = method_of(config, path, teacher, task), ""
    if train:
        check_precision(
            config.plugin,
            method.objective,
            getattr(config.net_flags, "dtype", "float32"),
            exact=hasattr(config.plugin_flags, "derivative"),
        )
        fresh = method.flow_map
        flow_map, begun = _started(fresh, config, teacher, start, dataset.num_classes)
        if config.adapter.rank and flow_map is fresh:
            raise UserError(_no_base(config, begun))
        method = dataclasses.replace(method, flow_map=flow_map)
    if config.adapter.rank:
        method = dataclasses.replace(method, flow_map=_adapted(method.flow_map, config))
    training = dataset
    if train:
        key_pairs = jr.fold_in(jr.key(config.seed), 2)
        training = config.plugin_flags.dataset(dataset, DataContext(teacher, key_pairs, progress))
    return Built(dataset, training, path, task, method, begun, couple_of(config))


def method_of(
    config: TrainConfig, path: Interpolant, teacher: Teacher | None, task: Task
) -> Method:
    """The method of a configuration around a fresh network."""
    key_net, key_method = jr.split(jr.fold_in(jr.key(config.seed), 0))
    check_space(config.plugin_flags, path.space)
    net = network_of(config.net_flags, path, task.shape, task.num_classes, key=key_net)
    method = config.plugin_flags.method(net, path, teacher, task, key=key_method)
    parts = (method.objective, *vars(method.objective).values())
    if has_dropout(method.flow_map) and not any(isinstance(part, RowObjective) for part in parts):
        raise UserError(
            f"--net.dropout draws a mask for each row of a batch, and {config.plugin} does not "
            "compare rows one by one; leave it out"
        )
    return method


def _started(
    fresh: FlowMap,
    config: TrainConfig,
    teacher: Teacher | None,
    start: FlowMap | None,
    classes: int,
) -> tuple[FlowMap, str]:
    """The map with the weights that training starts from, and which these are in words."""
    if start is not None:
        found = warm_started(start, fresh)
        if found is None:
            other = ", ".join(_differences(config, config.init, classes, start, fresh))
            raise UserError(
                f"--init {config.init} is a run of another network or form of the map ({other}); "
                "give this one the same settings"
            )
        named = config.init or "the given map"
        return found, f"starts from the weights of {named}{_begun(start, found)}"
    if not config.plugin_flags.starts_from(teacher):
        return fresh, ""
    source = _unguided(teacher, config.plugin_flags.from_teacher)
    found = None if source is None else warm_started(source, fresh)
    if found is None and config.plugin_flags.from_teacher:
        why = [] if source is None else _differences(config, config.teacher, classes, source, fresh)
        raise UserError(
            "this method goes on from its teacher's weights and needs an unguided run of the same "
            "network for a teacher: train one with the same --net flags"
            + (f" ({', '.join(why)})" if why else "")
        )
    if source is not None and found is not None:
        return found, f"starts from its teacher's weights{_begun(source, found)}"
    return fresh, f"starts from nothing: {_unlike(config, source, fresh, classes)}"


def _unguided(teacher: Teacher | None, itself: bool) -> FlowMap | None:
    """The map whose weights a student of this teacher starts from.

    Where guidance is drawn it is the map that is guided: the teacher where the scale is 1, unless
    the student must be the teacher `itself`.
    """
    field: Any = None
    if isinstance(teacher, Nearest):
        field = teacher.field
    elif isinstance(teacher, Guided) and teacher.scale is None and not itself:
        field = teacher.field
    elif isinstance(teacher, Autoguided) and teacher.scale is None and not itself:
        field = teacher.strong
    if isinstance(field, Teacher):
        return _unguided(field, itself)
    return teacher.flow_map if isinstance(teacher, MapTeacher) else None


def _begun(source: FlowMap, found: FlowMap) -> str:
    """Which inputs the student has that its source lacks, in words."""
    new = later_names(core_of(found)) - later_names(core_of(source))
    if not new:
        return ""
    step = any(".step." in f".{name}" for name in new)
    guided = any(".step." not in f".{name}" for name in new)
    inputs = [*["the second time"] * step, *["guidance"] * guided]
    return f"; {' and '.join(inputs)} enter{'s' * (len(inputs) == 1)} at zero"


def _adapted(flow_map: FlowMap, config: TrainConfig) -> FlowMap:
    """The map with the adapter of a configuration."""
    flags = config.adapter
    return adapted(
        flow_map,
        flags.layers or DEFAULT,
        rank=flags.rank,
        alpha=flags.alpha,
        rs=flags.rs,
        key=jr.fold_in(jr.key(config.seed), 3),
    )


def _no_base(config: TrainConfig, begun: str) -> str:
    """Why there is no adapter without weights to start from."""
    why = f", and {config.plugin} {begun}" if begun else ""
    return (
        f"--adapter.rank {config.adapter.rank} changes trained weights, and there are none to "
        f"start from{why}; name a run of the same network with --init, or leave it out"
    )


def _size(tree: Any) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _unlike(config: TrainConfig, source: FlowMap | None, fresh: FlowMap, classes: int) -> str:
    """Why the weights of the teacher cannot be taken."""
    if source is None:
        return (
            "its teacher is guided, or no trained run, so that there are no weights to start from; "
            "--init DIR names some"
        )
    why = ", ".join(_differences(config, config.teacher, classes, source, fresh))
    return (
        f"its teacher has another network or form of the map ({why}); with the same settings it "
        "would start from the teacher's weights"
    )


def _differences(
    config: TrainConfig, run: str | None, classes: int, source: FlowMap, fresh: FlowMap
) -> list[str]:
    """In what that run's map differs: its settings, each with both values, or else the names and
    shapes of weights."""
    written = FilePath(run or "") / "config.toml"
    found = _settings(config, written, classes) if run and written.exists() else []
    return found or unlike(source, fresh)


def _settings(config: TrainConfig, written: FilePath, classes: int) -> list[str]:
    """The settings of the map in which that run differs, each with both values."""
    here, there = toml.to_dict(config), toml.read(written)
    pairs = [("--plugin.form", there["plugin"].get("form"), here["plugin"].get("form"))]
    before, now = (flags["plugin"].get("conditioning") or 0.0 for flags in (there, here))
    pairs.append(("--plugin.conditioning", before, now))
    if there["net"]["name"] != here["net"]["name"]:
        pairs.append(("--net", there["net"]["name"], here["net"]["name"]))
    else:
        for name in sorted(set(there["net"]) | set(here["net"])):
            if name not in COMPUTATION:
                flag = f"--net.{name.replace('_', '-')}"
                pairs.append((flag, there["net"].get(name), here["net"].get(name)))
    described = written.parent / "data.toml"
    if described.exists():
        pairs.append(("classes", toml.read(described)["num_classes"], classes))
    found = [f"{what} {old} there, {new} here" for what, old, new in pairs if old != new]
    return found or [f"--plugin {there['plugin']['name']} there, {config.plugin} here"]
