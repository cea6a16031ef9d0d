"""The other runs that a run uses: its teacher, and the weights that it starts from."""

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError, require
from core.flow.flow_map import FlowMap
from core.flow.path import PATHS
from core.flow.teacher import Autoguided, Guided, MapTeacher, Teacher
from core.methods.plugin import Progress
from core.methods.registry import find_plugin
from core.oracle import OracleMap
from core.report.evaluation import KNOWN_DISTRIBUTIONS
from core.train.build import Built, build
from core.train.config import TeachingConfig, TrainConfig
from core.train.run import Run, open_run
from core.train.tracking import check_tracking


def build_run(config: TrainConfig, progress: Progress | None = None) -> Built:
    """The objects of a run that is to be trained, its teacher and its start opened; `progress`
    receives how much of what a teacher makes beforehand is done."""
    check_tracking(config.wandb)
    data: Dataset = config.data_flags.load()
    teacher, start = open_teacher(config, data.spec), open_start(config, data.spec)
    return build(config, teacher, data, start=start, progress=progress)


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
    run, spec = open_run(config.teacher), spec or _spec_of(config)
    _check_path(run, config, spec)
    if not run.flow_map.two_times:
        raise UserError(
            f"teacher {run.folder} is a consistency model ({run.config.plugin}) and has no "
            "velocity; name a run of fm or of a flow map"
        )
    return _guided(config, spec, run, MapTeacher(run.flow_map))


def _guided(config: TrainConfig, spec: DataSpec, run: Run, teacher: Teacher) -> Teacher:
    """The teacher as --teaching and --plugin.guidance have it guided."""
    flags, drawn = config.teaching, takes_guidance(config)
    if flags.weak is not None:
        weak = open_run(flags.weak)
        _check_path(weak, config, spec)
        scale = None if drawn else flags.weak_scale
        teacher = Autoguided(teacher, MapTeacher(weak.flow_map), scale)
        drawn = False
    elif drawn and takes_guidance(run.config):
        return teacher  # it was trained with the same input
    if flags.scale == 1 and not drawn:
        return teacher
    classes = run.num_classes
    if not classes or spec.num_classes != classes:
        raise UserError(
            "guidance goes by labels: teacher and data need the same classes; leave out "
            "--teaching.scale and --plugin.guidance"
        )
    if drawn:
        require(flags.scale == 1, "--plugin.guidance.most draws the scale: no --teaching.scale")
        return Guided(teacher, None, classes)
    time_of_unit = run.path.time_of_unit
    interval = float(time_of_unit(flags.interval[0])), float(time_of_unit(flags.interval[1]))
    return Guided(teacher, flags.scale, classes, interval)


def takes_guidance(config: TrainConfig) -> bool:
    """Whether the network takes guidance `(w, a, b)` as an input."""
    return config.net_flags.takes_guidance


def open_start(config: TrainConfig, spec: DataSpec | None = None) -> FlowMap | None:
    """The map that --init names, or None. Raises `UserError` where there is none or on a path or
    data of another kind."""
    if config.init is None:
        return None
    run = open_run(config.init)
    _check_path(run, config, spec or _spec_of(config), "--init")
    return run.flow_map


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


def _check_path(run: Run, config: TrainConfig, spec: DataSpec, what: str = "teacher") -> None:
    if run.config.path != config.path:
        raise UserError(
            f"{what} {run.folder} was trained on the {run.config.path} path; "
            f"train this one there too: --path {run.config.path}"
        )
    ends = (run.config.source, run.config.coupling), (config.source, config.coupling)
    if what == "teacher" and ends[0] != ends[1]:
        raise UserError(
            f"teacher {run.folder} was trained with --source {ends[0][0]} --coupling {ends[0][1]}, "
            "so that its trajectories start elsewhere than those of this run; name a teacher "
            "without these flags"
        )
    if run.shape != spec.shape:
        raise UserError(
            f"{what} {run.folder} was trained on {run.config.data}, whose examples have another "
            f"shape than those of {config.data}; name a run of the same data"
        )
