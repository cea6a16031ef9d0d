"""A run is a folder: claimed once, opened by every command that uses a trained model.

config.toml     resolved; repeats the run
data.toml       what the data are, without them: shape, kind, classes
metrics.jsonl   one line every --log-every steps
samples/        pictures
checkpoints/    the last few; a packed run has weights.safetensors instead
summary.json    the closing table
"""

import dataclasses
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from core.data import DATA
from core.data.dataset import Dataset
from core.data.record import change, conflict, recorded
from core.data.spec import DataSpec
from core.errors import UserError, pick
from core.files import check_links
from core.flow.flow_map import FlowMap
from core.flow.path import PATHS
from core.flow.path import Path as ProbabilityPath
from core.methods.plugin import Method, Task
from core.methods.registry import find_plugin
from core.objectives.objective import Players
from core.train import packed, processes, toml
from core.train.absent import AbsentTeacher
from core.train.build import method_of
from core.train.checkpoint import Checkpoints, delete_run
from core.train.config import LoopConfig, TrainConfig
from core.train.recipe import recipe

OWN = (
    *("run.json", "config.toml", "data.toml", "metrics.jsonl", "summary.json", "eval.json"),
    *("eval_guidance.png", "cell.json", "job.json", "data.npz", packed.FILE),
    *("checkpoints", "samples", "tilt", "export", "wandb/id.txt"),
)
"""What commands read and write in a run folder. Links among these lead nowhere outside."""
PLACES = ("path", "labels")
"""Flags of a data set that say where it lies."""


def claim(config: LoopConfig, spec: DataSpec | None = None) -> Path:
    """Makes the run folder, or finds the same run there, and writes `config.toml` and `data.toml`.

    `spec` says what the data are; without it, the run opens only where its data do.
    Flags that do not shape the parameters (`toml.NOT_SHAPING`) may differ from the run's, with
    --extend the number of steps, and the place of the data where their fingerprint is the same.
    The `data.toml` of a run stays as it was written first. Raises `UserError` as `extended_from`,
    where the folder cannot be written, and where it holds a run of another configuration or of data
    that its network does not fit; nothing is changed then. Of several processes the first writes,
    once all have looked.
    """
    extended_from(config)
    folder = Path(config.folder)
    check_links(folder, OWN)
    written = folder / "config.toml"
    there = written.exists() and not config.restart
    if there:
        then = kept_spec(folder)
        _check_same(config, written, then is not None and _is_same(then, spec))
        if then is not None and spec is not None:
            _check_data(then, spec, folder)
    processes.wait("looked at the run folder")
    if processes.first():
        _write(config, None if there else spec, folder)
    processes.wait("claimed the run folder")
    return folder


def _is_same(then: DataSpec, now: DataSpec | None) -> bool:
    """Whether two descriptions are certainly of the same data."""
    return now is not None and then.fingerprint != "" and then == now


def _check_data(then: DataSpec, now: DataSpec, folder: Path) -> None:
    """Raises `UserError` where the run in a folder cannot go on with the data as they are now."""
    found = conflict(then, now)
    if found is not None:
        raise UserError(
            f"the data are no longer those that {folder} was trained on: {found}; the run is "
            "whole: put the data back as they were, or start another run with --run"
        )


def changed_data(folder: Path, now: DataSpec) -> str | None:
    """One line on how the data differ from those that a run began with, where it can go on all the
    same; None where they do not, or where there is no run yet."""
    then = kept_spec(folder)
    found = None if then is None else change(then, now)
    return None if found is None else f"the data are others than {folder} began with: {found}"


def extended_from(config: LoopConfig) -> int | None:
    """The steps that a run has so far which --extend is to give more; None without that flag.

    Asked before `claim`, which writes the new number. Raises `UserError` where there is no run that
    can go on, or for fewer steps than it has.
    """
    if not config.extend:
        return None
    if config.restart:
        raise UserError("--extend goes on with a run and --restart deletes it; give one of them")
    folder = Path(config.folder)
    if not (folder / "config.toml").exists():
        raise UserError(
            f"no run in {folder} to extend; name its folder with --run, or start one there "
            "without --extend"
        )
    if (folder / packed.FILE).exists() and not (folder / "checkpoints").is_dir():
        raise UserError(
            f"{folder} holds weights alone, so training cannot go on; start another run from them "
            f"with --init {folder}"
        )
    before = int(toml.read(folder / "config.toml").get("steps", config.steps))
    if config.steps < before:
        raise UserError(
            f"{folder} has {before} steps already; --extend needs a larger --steps, got "
            f"{config.steps}"
        )
    return before


def _check_same(config: LoopConfig, written: Path, same_data: bool) -> None:
    """Raises `UserError` where this file of a run is of another configuration.

    Where the data are certainly the same, it does not matter where they lie.
    """
    there, asked = toml.shaping(_as_now(written)), toml.shaping(toml.to_dict(config))
    if same_data:
        there["data"] = there["data"] | {
            place: asked["data"][place] for place in PLACES if place in asked["data"]
        }
    same_steps = there | {"steps": asked["steps"]}
    other = toml.difference(same_steps if config.extend else there, asked)
    if other is None:
        return
    longer = same_steps == asked and asked["steps"] > there.get("steps", 0)
    raise UserError(
        f"run folder {written.parent} holds another run ({other}); name another folder with --run"
        f"{', or make this one longer with --extend' if longer else ''} (--restart would delete it)"
    )


def _as_now(written: Path) -> dict[str, Any]:
    """The configuration in this file, with the defaults of settings that are younger than it."""
    tree = toml.read(written)
    try:
        return toml.to_dict(read_config(written.parent)) if "plugin" in tree else tree
    except UserError:
        return tree


def _write(config: LoopConfig, spec: DataSpec | None, folder: Path) -> None:
    """Makes the folder, empties it with --restart, and writes what it holds from the start."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"no permission to write {folder}")
        if config.restart:
            delete_run(folder)
        toml.write(config, folder / "config.toml")
        if spec is not None:
            toml.write_record(spec, folder / "data.toml")
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write run folder {folder} ({reason}); name another with --run"
        ) from None


def read_config(folder: Path) -> TrainConfig:
    """The configuration of a run folder. Raises `UserError` where it holds no run."""
    written = folder / "config.toml"
    if not written.exists():
        raise UserError(f"{folder} is not a run folder (no config.toml); train one with apps.train")
    check_links(folder, OWN)
    tree = toml.read(written)
    plugin, data, net = (toml.selected(tree, name) for name in toml.SELECTORS)
    data = data or TrainConfig.data
    pick(DATA, data, "data set")
    default = recipe(find_plugin(plugin or TrainConfig.plugin), data, net)
    config = toml.filled(default, tree, str(written))
    flags = config.plugin_flags.net_flags(config.net_flags)
    return dataclasses.replace(config, net_flags=flags, run=str(folder))


def read_spec(folder: Path, data_flags: Any) -> DataSpec:
    """The description of a run's data. A run of an older version has not written it: its data are
    loaded."""
    kept = kept_spec(folder)
    return data_flags.load().spec if kept is None else kept


def kept_spec(folder: Path) -> DataSpec | None:
    """The description of its data that a run keeps; None where it has none."""
    written = folder / "data.toml"
    if not written.exists():
        return None
    return toml.filled(DataSpec("", "points", ()), toml.read(written), str(written))


@dataclass(frozen=True, eq=False)
class Run:
    """A trained run, opened from its folder alone.

    **Fields:** `config` as it was trained; `spec` what its samples are; `step` of the checkpoint;
    `flow_map` with the averaged weights; `sampler` the name of the method's own sampler. Data, the
    whole method and further networks are opened when they are asked for.
    """

    folder: Path
    config: TrainConfig
    spec: DataSpec
    step: int
    flow_map: FlowMap
    sampler: str

    @property
    def path(self) -> ProbabilityPath:
        """The probability path of the map."""
        return self.flow_map.path

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.spec.shape

    @property
    def kind(self) -> str:
        """`"points"` or `"image"`."""
        return self.spec.kind

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 if there are none."""
        return self.spec.num_classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class."""
        return self.spec.class_names

    @cached_property
    def _dataset(self) -> Dataset:
        return self.config.data_flags.load()

    def data(self) -> Dataset:
        """The data that it was trained on. Raises `UserError` where they do not open, or where the
        network does not fit them any more."""
        try:
            found = self._dataset
        except UserError as error:
            reason = str(error).partition(";")[0]  # what follows names flags of training
            raise UserError(
                f"this needs the data that {self.folder} was trained on ({self.config.data}), "
                f"which do not open: {reason}; put them back, or say where they are now in "
                f"{self.folder}/config.toml under [data]"
            ) from None
        other = conflict(self.spec, found.spec)
        if other is not None:
            raise UserError(
                f"the data are no longer those that {self.folder} was trained on: {other}; "
                "the run is whole and samples without them; put the data back as they were"
            )
        return found

    def changed(self) -> str | None:
        """How the data are others than those that it was trained on, in one line; None where they
        are not. Opens them, as `data`."""
        return change(self.spec, recorded(self.data()))

    @cached_property
    def method(self) -> Method:
        """The method before training, built without data; its teacher cannot be asked."""
        return _method(self.config, self.spec)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names of the trained networks."""
        opened = newest(self.folder, self.config.keep)
        if opened is None:
            return frozenset(["model"])
        checkpoints, _ = opened
        names = checkpoints.names(self.step)
        checkpoints.close()
        return frozenset(name.split(".")[1] for name in names if name.startswith("ema."))

    @cached_property
    def players(self) -> Players:
        """All trained networks by name, with averaged weights; the map is "model"."""
        if self.names == {"model"}:
            return {"model": self.flow_map}
        like = {"model": self.method.flow_map, **self.method.players}
        checkpoints = Checkpoints(self.folder, self.config.keep)
        players = averaged(like, checkpoints, self.step)
        checkpoints.close()
        return {**players, "model": self.flow_map}


def open_run(folder: str | Path, *, attention: str | None = None) -> Run:
    """Opens a run at its newest checkpoint. Neither its data nor its teacher need be there.

    `attention` names another implementation than the run's own, for networks that have a choice.
    Raises `UserError` where the folder holds no run, no checkpoint, or a damaged one.
    """
    folder = Path(folder)
    config = read_config(folder)
    if attention is not None:
        flags = dataclasses.replace(config.net_flags, attention=attention)
        config = dataclasses.replace(config, net_flags=flags)
    opened, spec = newest(folder, config.keep), read_spec(folder, config.data_flags)
    like, sampler = _map_like(config, spec)
    if opened is None and (folder / packed.FILE).exists():
        flow_map, step = packed.unpack(like, folder)
        return Run(folder, config, spec, step, flow_map, sampler)
    if opened is None:
        raise UserError(
            f"run {folder} has no checkpoint yet; train it with "
            f"python -m apps.train --config {folder}/config.toml --run {folder}"
        )
    checkpoints, step = opened
    players = averaged({"model": like}, checkpoints, step)
    checkpoints.close()
    return Run(folder, config, spec, step, players["model"], sampler)


def newest(folder: Path, keep: int) -> tuple[Checkpoints, int] | None:
    """The checkpoints of a run folder and the step of the newest, or None where there is none."""
    if not (folder / "checkpoints").is_dir():
        return None
    checkpoints = Checkpoints(folder, keep)
    step = checkpoints.latest()
    if step is None:
        checkpoints.close()
        return None
    return checkpoints, step


def averaged(like: Players, checkpoints: Checkpoints, step: int) -> Players:
    """These networks with the averaged weights of a checkpoint; `like` may have shapes alone."""
    arrays, static = eqx.partition(like, _is_trained)
    return eqx.combine(checkpoints.restore_part(step, {"ema": arrays})["ema"], static)


def _is_trained(leaf: Any) -> bool:
    """Whether a leaf is among the parameters, as an array or as the shape of one."""
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.inexact)


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)


def _map_like(config: TrainConfig, spec: DataSpec) -> tuple[FlowMap, str]:
    """The run's map before its weights are read, and the name of its sampler.

    Nothing is computed for a plugin that gives its map: the weights are shapes, unless there are
    arrays that are not trained and so are in no checkpoint.
    """
    flags, path = config.plugin_flags, PATHS[config.path]()

    def make() -> Any:
        net = config.net_flags.build(spec.shape, spec.num_classes, key=jr.key(config.seed))
        return flags.flow_map(net, path)

    like = eqx.filter_eval_shape(make)
    if like is None:
        method = _method(config, spec)
        return method.flow_map, method.sampler
    arrays = filter(_is_array, jax.tree.leaves(like))
    return like if all(map(_is_trained, arrays)) else make(), flags.sampler


def _method(config: TrainConfig, spec: DataSpec) -> Method:
    """The method without data and teacher."""
    path = PATHS[config.path]()
    teacher = AbsentTeacher(path) if config.plugin_flags.needs_teacher else None
    task = Task(spec.shape, spec.kind, spec.num_classes, config.steps)
    return method_of(config, path, teacher, task)
