"""A run is a folder: claimed once, opened by every command that uses a trained model.

config.toml     resolved; repeats the run
metrics.jsonl   one line every --log-every steps
samples/        pictures
checkpoints/    the last few
summary.json    the closing table
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from core.errors import UserError, require
from core.flow.flow_map import FlowMap
from core.flow.path import PATHS
from core.flow.teacher import AutoguidedTeacher, GuidedTeacher, MapTeacher, Teacher
from core.methods.plugin import Progress
from core.methods.registry import find_plugin
from core.objectives.objective import Players
from core.oracle import OracleMap
from core.report.evaluation import KNOWN_DISTRIBUTIONS
from core.train import processes, toml
from core.train.build import Built, build
from core.train.checkpoint import Checkpoints, delete_run
from core.train.cli import parse
from core.train.config import RunConfig, TeachingConfig, TrainConfig
from core.train.trainer import restored


def claim(config: RunConfig) -> Path:
    """Makes the run folder, or finds the same run there, and writes `config.toml`.

    Flags that do not shape the parameters (`toml.NOT_SHAPING`) may differ from the run's. Raises
    `UserError` where the folder cannot be written or holds a run of another configuration; nothing
    is changed then. Of several processes the first writes, once all have looked.
    """
    folder = Path(config.folder)
    written = folder / "config.toml"
    if written.exists() and not config.restart:
        there, asked = toml.shaping(toml.read(written)), toml.shaping(toml.to_dict(config))
        other = toml.difference(there, asked)
        if other:
            raise UserError(
                f"run folder {folder} holds another run ({other}); "
                "name another folder with --run, or replace it with --restart"
            )
    processes.wait("looked at the run folder")
    if processes.first():
        _write(config, folder)
    processes.wait("claimed the run folder")
    return folder


def _write(config: RunConfig, folder: Path) -> None:
    """Makes the folder, empties it with --restart, and writes `config.toml`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write {folder}")
        if config.restart:
            delete_run(folder)
        toml.write(config, folder / "config.toml")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write run folder {folder} ({reason}); name another with --run"
        ) from None


@dataclass(frozen=True)
class Run:
    """A trained run: its configuration, its data and method, and the averaged networks of a step,
    `players`, by name."""

    folder: Path
    config: TrainConfig
    built: Built
    step: int
    players: Players

    @property
    def flow_map(self) -> FlowMap:
        """The averaged map."""
        return self.players["model"]


def read_config(folder: Path) -> TrainConfig:
    """The configuration of a run folder. Raises `UserError` where it holds no run."""
    written = folder / "config.toml"
    if not written.exists():
        raise UserError(f"{folder} is not a run folder (no config.toml); train one with apps.train")
    return parse(["--config", str(written), "--run", str(folder)])


def open_teacher(config: TrainConfig) -> Teacher | None:
    """The teacher that --teacher and --teaching name, or None where none is named.

    Raises `UserError` where the method needs one, or the named one does not exist.
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
            raise UserError("--teaching guides a trained run; leave it out with --teacher exact")
        return MapTeacher(_exact_map(config))
    run = open_run(config.teacher)
    _check_path(run, config)
    if not run.flow_map.two_times:
        raise UserError(
            f"teacher {run.folder} is a consistency model ({run.config.plugin}) and has no "
            "velocity; name a run of fm or of a flow map"
        )
    return _guided(config, run, MapTeacher(run.flow_map))


def _guided(config: TrainConfig, run: "Run", teacher: Teacher) -> Teacher:
    """The teacher as --teaching and --plugin.guidance have it guided."""
    flags, drawn = config.teaching, takes_guidance(config)
    if flags.weak is not None:
        weak = open_run(flags.weak)
        _check_path(weak, config)
        scale = None if drawn else flags.weak_scale
        teacher = AutoguidedTeacher(teacher, MapTeacher(weak.flow_map), scale)
        drawn = False
    elif drawn and takes_guidance(run.config):
        return teacher  # it was trained with the same input
    if flags.scale == 1 and not drawn:
        return teacher
    classes = run.built.task.num_classes
    if not classes or config.data_flags.load().num_classes != classes:
        raise UserError(
            "guidance goes by labels: teacher and data need the same classes; leave out "
            "--teaching.scale and --plugin.guidance"
        )
    if drawn:
        require(flags.scale == 1, "--plugin.guidance.most draws the scale: no --teaching.scale")
        return GuidedTeacher(teacher, None, classes)
    time_of_unit = run.built.path.time_of_unit
    interval = float(time_of_unit(flags.interval[0])), float(time_of_unit(flags.interval[1]))
    return GuidedTeacher(teacher, flags.scale, classes, interval)


def takes_guidance(config: TrainConfig) -> bool:
    """Whether the network takes guidance `(w, a, b)` as an input."""
    return bool(getattr(config.net_flags, "guidance", False))


def build_run(config: TrainConfig, progress: Progress | None = None) -> Built:
    """The objects of a run that is to be trained, its teacher and its start opened; `progress`
    receives the number of examples that a teacher has made beforehand."""
    return build(config, open_teacher(config), start=open_start(config), progress=progress)


def open_start(config: TrainConfig) -> FlowMap | None:
    """The map that --init names, or None. Raises `UserError` where there is none or on a path or
    data of another kind."""
    if config.init is None:
        return None
    run = open_run(config.init)
    _check_path(run, config, "--init")
    return run.flow_map


def _exact_map(config: TrainConfig) -> FlowMap:
    distribution = KNOWN_DISTRIBUTIONS.get(config.data)
    if distribution is None:
        raise UserError(
            "--teacher exact needs data of known distribution "
            f"({', '.join(KNOWN_DISTRIBUTIONS)}), not {config.data}; name a run folder instead"
        )
    return OracleMap(problem=distribution(), path=PATHS[config.path]())


def _check_path(run: "Run", config: TrainConfig, what: str = "teacher") -> None:
    if run.config.path != config.path:
        raise UserError(
            f"{what} {run.folder} was trained on the {run.config.path} path; "
            f"train this one there too: --path {run.config.path}"
        )
    if run.built.task.shape != config.data_flags.load().shape:
        raise UserError(
            f"{what} {run.folder} was trained on {run.config.data}, whose examples have another "
            f"shape than those of {config.data}; name a run of the same data"
        )


def open_run(folder: str | Path, *, attention: str | None = None) -> Run:
    """Opens a run at its newest checkpoint, with the teacher that its configuration names.

    `attention` names another implementation than the run's own, for networks that have a choice.
    Raises `UserError` where the folder holds no run, no checkpoint, or a damaged one.
    """
    folder = Path(folder)
    config = read_config(folder)
    if attention is not None:
        flags = dataclasses.replace(config.net_flags, attention=attention)
        config = dataclasses.replace(config, net_flags=flags)
    checkpoints = Checkpoints(folder, config.keep) if (folder / "checkpoints").is_dir() else None
    step = None if checkpoints is None else checkpoints.latest()
    if checkpoints is None or step is None:
        raise UserError(
            f"run {folder} has no checkpoint yet; train it with "
            f"python -m apps.train --config {folder}/config.toml --run {folder}"
        )
    built = build(config, open_teacher(config), train=False)
    players = restored(config, built, checkpoints, step)
    checkpoints.close()
    return Run(folder, config, built, step, players)
