"""The other models that a run uses: its teacher, and the weights that it starts from."""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from core.data.dataset import Dataset
from core.data.scale import Scale
from core.data.spec import DataSpec
from core.errors import UserError, require
from core.flow.change import MovedMap, restrict
from core.flow.field import VelocityField
from core.flow.flow_map import FlowMap
from core.flow.path import PATHS, Path, gaussian, path_name
from core.flow.teacher import Autoguided, Guided, MapTeacher, Nearest, Teacher
from core.methods.plugin import Progress
from core.methods.registry import find_plugin
from core.oracle import KNOWN_DISTRIBUTIONS, OracleMap
from core.train.build import Built, build
from core.train.config import TeachingConfig, TrainConfig
from core.train.own_teacher import MARK, open_own
from core.train.source import Source, open_source
from core.train.spaces import path_of
from core.train.teacher_check import check_own
from core.train.tracking import check_tracking


def build_run(config: TrainConfig, progress: Progress | None = None) -> Built:
    """The objects of a run that is to be trained, its teacher and its start opened; `progress`
    receives how much of what a teacher makes beforehand is done."""
    check_tracking(config.wandb)
    data: Dataset = config.data_flags.load()
    teacher, start = open_teacher(config, data.spec), open_start(config, data.spec)
    built = build(config, teacher, data, start=start, progress=progress)
    return replace(built, notes=moves(config, teacher))


def open_teacher(config: TrainConfig, spec: DataSpec | None = None) -> Teacher | None:
    """The teacher that --teacher and --teaching name, or None where none is named.

    `spec` says what the data are; without it they are loaded. Raises `UserError` where the method
    needs a teacher, or the named one does not exist.
    """
    if config.teacher is None:
        if find_plugin(config.plugin).needs_teacher:
            raise UserError(
                f"{config.plugin} needs a teacher: train one with python -m apps.train --plugin fm "
                f"--data {config.data}, then give --teacher runs/fm-{config.data}"
            )
        return None
    if config.teacher == "exact":
        if config.teaching != TeachingConfig():
            raise UserError(
                "a trained run is guided, and no exact velocity: leave out --teaching.scale and "
                "--teaching.weak with --teacher exact"
            )
        return MapTeacher(_exact_map(config))
    spec = spec or _spec_of(config)
    return _guided(config, spec, _opened(config.teacher, config, spec))


@dataclass(frozen=True, eq=False)
class _Opened:
    """A teacher on the run's path, before it is guided."""

    teacher: Teacher
    classes: int
    takes_guidance: bool = False
    without_null: bool = False


def _opened(name: str, config: TrainConfig, spec: DataSpec) -> _Opened:
    """The teacher that a flag names: of a folder, or the user's own. Raises `UserError`."""
    path = path_of(config, spec.space)
    if name.startswith(MARK):
        own, classes = open_own(name, gaussian(path), spec.num_classes), spec.num_classes
        check_own(own, name, spec.shape, config.plugin_flags.teacher_derivatives, config.plugin)
        return _Opened(own, classes)
    half = config.teaching.dtype == "bfloat16"
    source = open_source(name, dtype="bfloat16" if half else None)
    _check_fits(source, config, spec)
    flow_map = in_half(source.flow_map) if half else source.flow_map
    teacher = MapTeacher(flow_map) if source.path else on_path(gaussian(path), flow_map)
    return _Opened(teacher, source.spec.num_classes, source.takes_guidance, source.without_null)


def _guided(config: TrainConfig, spec: DataSpec, strong: _Opened) -> Teacher:
    """The teacher as --teaching and --plugin.guidance have it guided."""
    flags, drawn, teacher = config.teaching, takes_guidance(config), strong.teacher
    if flags.weak is not None:
        weak = _opened(flags.weak, config, spec).teacher
        teacher = Autoguided(teacher, weak, None if drawn else flags.weak_scale)
        drawn = False
    elif drawn and strong.takes_guidance:
        return teacher  # it was trained with the same input
    if flags.scale == 1 and not drawn:
        return teacher
    classes = strong.classes
    if not classes or spec.num_classes != classes:
        raise UserError(
            "guidance goes by labels: teacher and data need the same classes; leave out "
            "--teaching.scale and --plugin.guidance"
        )
    require(
        not strong.without_null,
        "this network was never trained without labels: leave out "
        + ("--plugin.guidance.most" if drawn else "--teaching.scale"),
    )
    if drawn:
        require(flags.scale == 1, "--plugin.guidance.most draws the scale: no --teaching.scale")
        return Guided(teacher, None, classes, channels=flags.guidance_channels)
    time_of_unit = teacher.path.time_of_unit
    interval = float(time_of_unit(flags.interval[0])), float(time_of_unit(flags.interval[1]))
    return Guided(teacher, flags.scale, classes, interval, flags.guidance_channels)


def in_half(flow_map: FlowMap) -> FlowMap:
    """The map with its matrices in bfloat16; vectors, biases and frequencies among them, stay."""

    def narrowed(leaf: Any) -> Any:
        large = eqx.is_inexact_array(leaf) and leaf.ndim > 1
        return leaf.astype(jnp.bfloat16) if large else leaf

    return jax.tree.map(narrowed, flow_map)


def on_path(path: Path, flow_map: FlowMap) -> Teacher:
    """The diagonal of a map at all times of a path: moved there where its own path is another
    (`MovedMap`), elsewhere than at the times that it knows the velocity of the nearest."""
    own = flow_map.path
    same = type(own) is type(path) and eqx.tree_equal(
        replace(path, t_min=own.t_min, t_max=own.t_max), own
    )
    moved = flow_map if same else MovedMap(flow_map=flow_map, path=restrict(path, gaussian(own)))
    teacher, slack = MapTeacher(moved), 1e-5 * (path.t_max - path.t_min)
    known = teacher.path
    narrow = known.t_min > path.t_min + slack or known.t_max < path.t_max - slack
    return Nearest(field=teacher, path=path) if narrow else teacher


def moves(config: TrainConfig, teacher: Teacher | None) -> tuple[str, ...]:
    """A line for each model that teaches on another path than its own, or knows a part of it."""
    if isinstance(teacher, Guided):
        return moves(config, teacher.field) if isinstance(teacher.field, Teacher) else ()
    if isinstance(teacher, Autoguided):
        fields: tuple[VelocityField, ...] = (teacher.strong, teacher.weak)
        names = (config.teacher, config.teaching.weak)
    else:
        fields, names = (() if teacher is None else (teacher,)), (config.teacher,)
    found = (_move(name, config.path, field) for name, field in zip(names, fields))
    return tuple(line for line in found if line)


def _move(name: str | None, path: str, field: VelocityField) -> str:
    outer, field = field, field.field if isinstance(field, Nearest) else field
    flow_map = field.flow_map if isinstance(field, MapTeacher) else None
    parts = []
    if isinstance(flow_map, MovedMap):
        parts.append(
            f"is moved from the {path_name(gaussian(flow_map.flow_map.path))} path to {path}"
        )
    if isinstance(outer, Nearest):
        low, high = (float(field.path.unit_time(t)) for t in (field.path.t_min, field.path.t_max))
        parts.append(
            f"knows the unit times {low:.4g} to {high:.4g}: elsewhere its velocity is that of the "
            "nearest"
        )
    return f"teacher {name} {' and '.join(parts)}" if parts else ""


def takes_guidance(config: TrainConfig) -> bool:
    """Whether the network takes guidance `(w, a, b)` as an input."""
    return config.net_flags.takes_guidance


def open_start(config: TrainConfig, spec: DataSpec | None = None) -> FlowMap | None:
    """The map that --init names, of a run or a model folder, or None. Raises `UserError` where
    there is none, or one on a path or data of another kind. A model folder's may be on another
    path: its network is converted (`core.nets.suited`)."""
    if config.init is None:
        return None
    source, spec = open_source(config.init), spec or _spec_of(config)
    folder, classes = source.folder, source.spec.num_classes
    require(
        source.path in (None, config.path),
        f"--init {folder} was trained on the {source.path} path; train this one there too: "
        f"--path {source.path}",
    )
    require(
        source.spec.shape == spec.shape,
        f"--init {folder} was trained on {source.spec.name or source.title}, whose examples have "
        f"another shape than those of {config.data} ({source.spec.shape}, not {spec.shape}); name "
        "a model of the same data",
    )
    require(
        source.path is not None or classes == spec.num_classes,
        f"--init {folder} has {classes:,} classes, data {spec.num_classes:,}",
    )
    if source.path is None:
        _check_scale(source, spec)
    return source.flow_map


def _spec_of(config: TrainConfig) -> DataSpec:
    return config.data_flags.load().spec


def _exact_map(config: TrainConfig) -> FlowMap:
    distribution = KNOWN_DISTRIBUTIONS.get(config.data)
    if distribution is None:
        raise UserError(
            "--teacher exact needs data of known distribution "
            f"({', '.join(KNOWN_DISTRIBUTIONS)}), not {config.data}; name a run folder instead"
        )
    return OracleMap(problem=distribution(), path=PATHS[config.path]())


def _check_fits(source: Source, config: TrainConfig, spec: DataSpec) -> None:
    """Raises `UserError` where a model cannot teach a run on these data."""
    folder, title = source.folder, source.title
    require(
        source.path in (None, config.path),
        f"teacher {folder} was trained on the {source.path} path; train this one there too: "
        f"--path {source.path}",
    )
    require(
        source.ends == (config.source, config.coupling),
        f"teacher {folder} was trained with --source {source.ends[0]} --coupling {source.ends[1]}, "
        "so that its trajectories start elsewhere than those of this run; name a teacher without "
        "these flags",
    )
    require(
        source.spec.shape == spec.shape,
        f"teacher {folder} was trained on {source.spec.name or title}, whose examples have another "
        f"shape than those of {config.data} ({source.spec.shape}, not {spec.shape}); name a model "
        "of the same data",
    )
    classes, own = source.spec.num_classes, spec.num_classes
    require(
        classes in (0, own) or (own == 0 and not source.without_null),
        f"teacher has {classes:,} classes, data {own:,}",
    )
    require(
        source.flow_map.two_times,
        f"teacher {folder} is a consistency model ({title}) and has no velocity; name a run of fm "
        "or of a flow map",
    )
    _check_scale(source, spec)


def _check_scale(source: Source, spec: DataSpec) -> None:
    """Raises `UserError` where latents are scaled otherwise than the teacher's."""
    theirs, ours = source.spec.scale, spec.scale
    if not (theirs and ours and spec.codec):
        return
    parts = ((theirs.centre, ours.centre), (theirs.spread, ours.spread))
    if any(np.abs(np.subtract(*part)).max() > 1e-3 * max(theirs.spread) for part in parts):
        raise UserError(
            f"latents are scaled by {_scaling(ours)}, the teacher's by {_scaling(theirs)}; encode "
            "them again with apps.latents --vae of the autoencoder that it was trained with"
        )


def _scaling(scale: Scale) -> str:
    """`1 / spread`, where it is one number, and the shift."""
    factors = sorted({f"{1 / one:.5g}" for one in scale.spread}, key=float)
    shift = f" after a shift by {max(scale.centre, key=abs):.3g}" if any(scale.centre) else ""
    return " to ".join(factors[:: max(len(factors) - 1, 1)]) + shift
