"""A run is a folder: opened by every command that uses a trained model.

run.json        marks the folder; the format, the version of Portolan, the teacher's fingerprint
config.toml     resolved; repeats the run
data.toml       what the data are, without them: shape, kind, classes
source.toml     the same of those at t = 1, where they stand in the place of noise
metrics.jsonl   one line every --log-every steps
samples/        pictures
checkpoints/    the last few; a packed run has weights.safetensors instead
summary.json    the closing table
"""

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from core.adapters import Adapter
from core.data import DATA
from core.data.codec import FILE as CODEC
from core.data.dataset import Dataset
from core.data.record import change, conflict, recorded
from core.data.spec import RANKS, DataSpec
from core.errors import UserError, pick
from core.files import check_links
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.methods.plugin import Method, Task
from core.methods.registry import find_plugin
from core.models import is_model, open_model
from core.objectives.objective import Players
from core.train import packed, toml
from core.train.absent import AbsentTeacher
from core.train.build import method_of
from core.train.checkpoint import Checkpoints
from core.train.config import NOISE, TrainConfig
from core.train.ends import load_starts
from core.train.folder import migrated
from core.train.on_base import opened_on_base
from core.train.recipe import recipe
from core.train.spaces import network_of, path_of

OWN = (
    *("run.json", "config.toml", "data.toml", "source.toml", "metrics.jsonl", "summary.json"),
    *("eval.json", "eval_guidance.png", "likelihood.json", "certificate.json", "certificate.png"),
    *("cell.json", "job.json", "data.npz", "source.npz"),
    *(packed.FILE, CODEC, "checkpoints", "samples", "eval", "edit", "tilt", "export"),
    *("adapter", "packed", "wandb/id.txt"),
)
"""What commands read and write in a run folder. Links among these lead nowhere outside."""
DATA_FILE, SOURCE = "data.toml", "source.toml"
"""Files of a run folder with the descriptions of its data, and of those at t = 1."""


def read_config(folder: Path) -> TrainConfig:
    """The configuration of a run folder. Raises `UserError` where it holds no run."""
    written = folder / "config.toml"
    if not written.exists():
        raise UserError(f"{folder} is not a run folder (no config.toml); train one with apps.train")
    check_links(folder, OWN)
    tree = migrated(toml.read(written), folder)
    config = toml.filled(_usual(tree), tree, str(written))
    flags = config.plugin_flags.net_flags(config.net_flags)
    return dataclasses.replace(config, net_flags=flags, run=str(folder))


def completed(tree: dict[str, Any]) -> dict[str, Any]:
    """A kept configuration, as nested plain values, with the defaults of settings that are younger
    than it. Raises `UserError` for names that are not known."""
    return _joined(toml.to_dict(_usual(tree)), tree)


def _usual(tree: dict[str, Any]) -> TrainConfig:
    """The settings of a configuration's method, data and network as their classes have them: what a
    younger setting adds to an older run is off, whatever recipes make of it now."""
    plugin, data, net, source = (toml.selected(tree, name) for name in toml.SELECTORS)
    data = data or TrainConfig.data
    pick(DATA, data, "data set")
    method = find_plugin(plugin or TrainConfig.plugin)
    config = recipe(method, data, net, source=source or TrainConfig.source)
    plain = {name: type(getattr(config, name))() for name in ("plugin_flags", "net_flags")}
    return dataclasses.replace(config, **plain)


def _joined(usual: dict[str, Any], tree: dict[str, Any]) -> dict[str, Any]:
    """`tree` over `usual`, key by key."""
    inner = {
        key: _joined(usual[key], value)
        for key, value in tree.items()
        if isinstance(value, dict) and isinstance(usual.get(key), dict)
    }
    return usual | tree | inner


def read_spec(folder: Path, data_flags: Any) -> DataSpec:
    """The description of a run's data. A run of an older version has not written it: its data are
    loaded."""
    kept = kept_spec(folder)
    return data_flags.load().spec if kept is None else kept


def kept_spec(folder: Path, file: str = DATA_FILE) -> DataSpec | None:
    """The description of its data, or of those at t = 1, that a run keeps; None where it has
    none."""
    written = folder / file
    if not written.exists():
        return None
    spec = toml.filled(DataSpec("", "points", ()), toml.read(written), str(written))
    if spec.codec and (folder / CODEC).is_file():  # the run's own copy
        spec = dataclasses.replace(
            spec, codec=dataclasses.replace(spec.codec, path=str(folder / CODEC))
        )
    sizes = (*spec.shape, spec.num_classes + 1, spec.count + 1, (spec.levels or 1))
    fits = len(spec.shape) == RANKS[spec.kind] and spec.scale.fits(spec.shape[-1])
    fits = fits and (spec.kind != "tokens" or len(spec.vocabulary) == spec.shape[-1])
    if not fits or min(sizes) < 1 or max(sizes) > 2**40:
        raise UserError(f"{written} describes no data; put it back from a copy")
    return spec


@dataclass(frozen=True, eq=False)
class Run:
    """A trained run, opened from its folder alone.

    **Fields:** `config` as it was trained; `spec` what its samples are; `step` of the checkpoint;
    `flow_map` with the averaged weights; `sampler` the name of the method's own sampler. Data, the
    whole method and further networks are opened when they are asked for. Where an adapter was
    trained, it is merged into the map, and `adapter` is what of the map was trained.
    """

    folder: Path
    config: TrainConfig
    spec: DataSpec
    step: int
    flow_map: FlowMap
    sampler: str
    adapter: Adapter | None = None

    @property
    def path(self) -> Interpolant:
        """The path of the map."""
        return self.flow_map.path

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return self.spec.shape

    @property
    def kind(self) -> str:
        """`"points"`, `"series"`, `"image"` or `"tokens"`."""
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
        network does not fit them any more. They are scaled as they were then."""
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
        return dataclasses.replace(found, scale=self.spec.scale)

    @cached_property
    def starts_spec(self) -> DataSpec | None:
        """The description of the data at t = 1; None where there is noise."""
        return kept_spec(self.folder, SOURCE)

    @cached_property
    def starts(self) -> Dataset | None:
        """The data at the other end, which samples start from; None where that is noise. Raises
        `UserError` where they do not open, or are of another shape."""
        if self.config.source == NOISE:
            return None
        try:
            found = load_starts(self.config)
        except UserError as error:
            reason = str(error).partition(";")[0]
            raise UserError(
                f"samples of {self.folder} start from examples of {self.config.source}, which do "
                f"not open: {reason}; give examples with apps.sample --from FILE, or "
                f"say where they are now in {self.folder}/config.toml under [source]"
            ) from None
        then = self.starts_spec
        other = None if then is None else conflict(then, found.spec)
        if other is not None or found.shape != self.shape:
            raise UserError(
                f"samples of {self.folder} start from other examples than those of "
                f"{self.config.source} are now ({other or found.shape}); put them back as they were"
            )
        return found

    def changed(self) -> str | None:
        """How the data are others than those that it was trained on, in one line; None where they
        are not. Opens them, as `data`."""
        self.data()
        return change(self.spec, recorded(self._dataset))

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
        like = dict(self.method.players)
        checkpoints = Checkpoints(self.folder, self.config.keep)
        players = averaged(like, checkpoints, self.step)
        checkpoints.close()
        return {**players, "model": self.flow_map}


def open_run(folder: str | Path, *, attention: str | None = None, dtype: str | None = None) -> Run:
    """Opens a run at its newest checkpoint. Neither its data nor its teacher need be there.

    `attention` names another implementation than the run's own, for networks that have a choice,
    and `dtype` another precision to compute in.
    Raises `UserError` where the folder holds no run, no checkpoint, or a damaged one.
    """
    folder = Path(folder)
    config = read_config(folder)
    other = {"attention": attention, "dtype": dtype}
    flags = dataclasses.replace(config.net_flags, **{k: v for k, v in other.items() if v})
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
    checkpoints, _ = opened
    try:
        if config.adapter.rank:
            found = opened_on_base(like, config, folder, checkpoints, _open_map)
        else:
            step, players = checkpoints.newest(lambda k: averaged({"model": like}, checkpoints, k))
            found = step, players["model"], None
    finally:
        checkpoints.close()
    step, flow_map, adapter = found
    return Run(folder, config, spec, step, flow_map, sampler, adapter)


def _open_map(folder: Path) -> FlowMap:
    """The map of a run or model folder."""
    return open_model(folder).flow_map if is_model(folder) else open_run(folder).flow_map


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
    flags, path = config.plugin_flags, path_of(config, spec.space)

    def make() -> Any:
        key = jr.key(config.seed)
        net = network_of(config.net_flags, path, spec.shape, spec.num_classes, key=key)
        return flags.flow_map(net, path)

    like = eqx.filter_eval_shape(make)
    if like is None:
        method = _method(config, spec)
        return method.flow_map, method.sampler
    arrays = filter(_is_array, jax.tree.leaves(like))
    return like if all(map(_is_trained, arrays)) else make(), flags.sampler


def _method(config: TrainConfig, spec: DataSpec) -> Method:
    """The method without data and teacher."""
    path = path_of(config, spec.space)
    teacher = AbsentTeacher(path) if config.plugin_flags.needs_teacher else None
    task = Task(spec.shape, spec.kind, spec.num_classes, config.steps)
    return method_of(config, path, teacher, task)
