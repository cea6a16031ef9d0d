"""Runs: trained, opened, saved; and the small one that comes with the package."""

import shutil
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

import plugins as plugins  # registers the methods of this project
from core import trust
from core.data.arrays import from_arrays
from core.data.codec import Codec
from core.data.dataset import Dataset
from core.data.npy import read_arrays
from core.data.spec import DataSpec
from core.errors import UserError, pick, require
from core.files import UNFINISHED, check_links, write_arrays
from core.flow.divergence import DIVERGENCE, DivergenceHead
from core.flow.flow_map import FlowMap
from core.methods.registry import find_plugin
from core.models import is_model, open_model
from core.models.codec import codec_in_place
from core.sampling import Grid
from core.sampling.usual import usual_grid
from core.steering.adapter import AdaptedObjective, Proposal
from core.train import run as runs
from core.train import toml
from core.train.claim import extended_from
from core.train.config import NOISE, TrainConfig
from core.train.folder import LOCK, check_free, one_writer
from core.train.packed import pack
from core.train.source import check_run
from core.train.teachers import build_run, takes_guidance
from portolan.model import Abilities, Noise
from portolan.pretrained import Pretrained
from portolan.progress import if_long
from portolan.settings import Chosen, config_of
from portolan.stored import Stored, check_data
from portolan.tables import console, quiet
from portolan.training import run_to_end

SHIPPED = Path(__file__).parent / "samplers"
"""The runs that come with the package, a folder each."""
ARRAYS = "data.npz"
"""The file in a run folder with the arrays that it was trained on."""
SOURCE_ARRAYS = "source.npz"
"""The file in a run folder with the arrays that stand at t = 1, in the place of noise."""

Folder = str | Path


@dataclass(frozen=True, eq=False, repr=False)
class Run(Stored):
    """A trained run: a flow map in a run folder.

    **Fields:** `opened`, the run as core knows it, with its `config`, `folder` and `step`; `given`,
    data to compare with in the place of its own.
    """

    opened: runs.Run
    _keep: Any = None
    """The temporary folder of a run that is not saved; it is deleted with this object."""
    given: Dataset | None = None
    _changed: bool = False
    """Whether the map is another than that of the folder."""

    @property
    def flow_map(self) -> FlowMap:
        return self.opened.flow_map

    @property
    def spec(self) -> DataSpec:
        return self.opened.spec

    @property
    def sampler(self) -> str:
        return self.opened.sampler

    @property
    def name(self) -> str:
        return self.config.plugin

    @property
    def title(self) -> str:
        return f"{self.config.plugin} on {self.config.data}, step {self.step}"

    @property
    def grid(self) -> Grid:
        return usual_grid(self.spec)

    @property
    def config(self) -> TrainConfig:
        """The configuration that it was trained with."""
        return self.opened.config

    @property
    def folder(self) -> Path:
        """The run folder; a temporary one before `save`, where `train` was given none."""
        return self.opened.folder

    @property
    def step(self) -> int:
        """Training steps behind the weights."""
        return self.opened.step

    @property
    def net_flags(self) -> Any:
        return self.config.net_flags

    def with_attention(self, implementation: str) -> "Run":
        return replace(self, opened=runs.open_run(self.folder, attention=implementation))

    def about(self) -> dict[str, Any]:
        return {"config": toml.to_dict(self.config)}

    @cached_property
    def abilities(self) -> Abilities:
        flags = self.config.plugin_flags
        return Abilities(
            most_nfe=find_plugin(self.config.plugin).most_nfe,
            all_classes=knows_all(flags),
            null=not self.spec.num_classes or knows_all(flags),
            guidance=takes_guidance(self.config),
            observes=getattr(flags, "reward", "another problem"),
            noise=noise_of(self.config),
        )

    def source_spec(self) -> DataSpec | None:
        return self.opened.starts_spec

    def source(self) -> Dataset | None:
        return self.opened.starts

    def dataset(self) -> Dataset:
        return self._data if self.given is None else check_data(self, self.given)

    def held_out(self) -> Dataset | None:
        flags = self.config.data_flags
        if self.given is not None or not hasattr(flags, "held_out"):
            return None
        kept = flags.held_out()
        return None if kept is None else kept.load()

    @cached_property
    def _data(self) -> Dataset:
        found, other = self.opened.data(), self.opened.changed()
        if other is not None:
            console.print(f"warning: the data are others than {self.folder} began with: {other}")
        return found

    def proposal(self) -> Proposal | None:
        if "adapter" not in self.opened.names:
            return None
        objective = self.opened.method.objective
        if not isinstance(objective, AdaptedObjective):
            return None
        return Proposal(self.opened.players["adapter"], objective.observed)

    @cached_property
    def divergence(self) -> DivergenceHead | None:
        if self._changed or DIVERGENCE not in self.opened.names:
            return None
        return self.opened.players[DIVERGENCE]

    def with_map(self, flow_map: FlowMap) -> "Run":
        opened = replace(self.opened, flow_map=flow_map, adapter=None)
        return replace(self, opened=opened, _changed=True)

    def save(self, folder: Folder, *, weights: str | None = None) -> "Run":
        """Copies the run into a new folder, and returns it opened there.

        `weights`, "float32", "float16" or "bfloat16", leaves out the files that only training
        needs: the folder then has the averaged weights of the map alone, in this precision. It
        opens, samples and steers, and training cannot go on from its step. Raises `UserError` for a
        folder that holds a run or cannot be written.
        """
        folder = Path(folder)
        require(
            weights is not None or not self._changed,
            "adapters have changed the weights, which training did not make: save(folder, "
            "weights='float32') keeps these",
        )
        require(
            not (folder / "config.toml").exists(),
            f"{folder} holds a run already; name another folder",
        )
        try:
            if weights is None:
                leave = shutil.ignore_patterns(LOCK, f"{UNFINISHED}*")
                shutil.copytree(self.folder, folder, dirs_exist_ok=True, ignore=leave)
            else:
                pack(self.opened, folder, weights)
            _move_arrays(runs.read_config(folder), self.folder, folder)
        except OSError as error:
            raise UserError(f"cannot write {folder} ({error}); name another") from None
        return Run(runs.open_run(folder))

    def __repr__(self) -> str:
        return f"Run({self.title}, {self.folder})"


def knows_all(flags: Any) -> bool:
    """Whether the null class was trained, which stands for all classes together."""
    guidance = getattr(flags, "guidance", None)
    return getattr(flags, "label_drop", 0) > 0 or bool(getattr(guidance, "on", False))


def noise_of(config: TrainConfig) -> Noise:
    """What a run was trained with at t = 1."""
    if config.source != NOISE:
        return "none"
    return "independent" if config.coupling == "independent" else "coupled"


def train(
    method: Chosen = "imf",
    data: str | dict[str, Any] | Shaped[np.ndarray, " n *shape"] = "digits",
    *,
    labels: Shaped[np.ndarray, " m"] | None = None,
    source: str | dict[str, Any] | Shaped[np.ndarray, " k *shape"] = NOISE,
    run: Folder | None = None,
    teacher: "Folder | Stored | None" = None,
    init: "Folder | Stored | None" = None,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Trains a method on data to the end, and returns the run.

    **Arguments:**

    - `method`: a name (`python -m apps.plugins` lists them), or a plugin of your own: its class,
      with the preset that suits the data, or an object with its settings, `IMF(diagonal=0.25)`.
    - `data`: a name, a group such as `{"name": "images", "path": "DIR", "size": 32}`, or an array:
      uint8 images or floats in [-1, 1], `(n, height, width[, channels])`, or points `(n, 2)`;
      `labels`, one whole number an example.
    - `source`: what stands at t = 1 in the place of noise, given as `data` is; `coupling` says
      which of it goes with which example.
    - `run`: the run folder. The same call then goes on with an interrupted run, and with more
      `steps` and `extend=True` it makes a run longer. Without one the run lies in a temporary
      folder, until `save`.
    - `teacher`, `init`: runs or converted networks, or their folders; `teacher` may be "exact"
      where the distribution of the data is known, or `python:MODULE:NAME` of your own velocity.
    - `progress`: whether to print how far it is.
    - `settings`: the flags of `apps.train`, grouped as in `config.toml`: `steps=2000`,
      `optim={"rate": 1e-3}`, `plugin={"diagonal": 0.5}`, `net={"width": 64}`, `net="unet"`,
      `net={"name": "unet", "width": 64}`.

    Raises `UserError`, one line, for runs that do not exist or settings that do not fit together.
    """
    keep = tempfile.TemporaryDirectory(prefix="portolan-") if run is None else None
    folder = Path(keep.name if keep is not None else str(run))
    settings |= {"teacher": _folder_of(teacher), "init": _folder_of(init)}
    if keep is not None:  # nobody looks into it on the way
        settings = {"sample_every": 0, "save_every": 0, **settings}
    given: dict[str, Dataset] = {}  # by the files in the run folder that they go to
    if isinstance(source, str | dict):
        settings["source"] = source
    else:
        given[SOURCE_ARRAYS] = from_arrays(source)
        settings["source"] = {"name": "arrays", "path": str(folder / SOURCE_ARRAYS)}
    if isinstance(data, str | dict):
        require(labels is None, "labels go with an array of data")
        config = config_of(method, data, settings)
    else:
        given[ARRAYS] = from_arrays(data, labels)
        stored = {"name": "arrays", "path": str(folder / ARRAYS)}
        config = config_of(method, stored, settings, given[ARRAYS])
    config = replace(config, run=str(folder))
    extended_from(config)  # where there is no run to extend, no arrays are written either
    with one_writer(folder):
        _store(given, folder, config.restart)
        with quiet(not progress):
            with if_long("pairs of the teacher") as meter:
                built = build_run(config, meter)
            run_to_end(config, built, None)
    return Run(runs.open_run(folder), keep)


def open(
    folder: Folder,
    *,
    data: Dataset | Shaped[np.ndarray, " n *shape"] | None = None,
    labels: Shaped[np.ndarray, " m"] | None = None,
    vae: Folder | None = None,
) -> "Run | Pretrained":
    """Opens a run folder at its newest checkpoint, or the model folder of a converted network.

    **Arguments:** `data`, and `labels` of an array, to compare with in the place of a run's own: a
    model folder has none. `vae`, the folder of the autoencoder whose latents a converted network
    makes, for pictures. Raises `UserError` where the folder holds neither.
    """
    if not is_model(folder):
        check_run(folder)
        require(
            vae is None,
            f"{folder} is a run, which knows its autoencoder where it has one: leave out --vae",
        )
        run = runs.open_run(folder)
        return Run(run, given=_dataset(data, labels, run.num_classes))
    check_links(folder, runs.OWN)
    model = open_model(folder)
    codec = (
        Codec()
        if vae is None
        else codec_in_place(str(vae), model.spec.shape, tuple(model.scaling.get("pixels", ())))
    )
    return Pretrained(model, _dataset(data, labels, model.spec.num_classes), codec)


def _dataset(
    data: Dataset | np.ndarray | None, labels: np.ndarray | None, classes: int
) -> Dataset | None:
    """Data to compare with, of an array too."""
    if data is None or isinstance(data, Dataset):
        return data
    return from_arrays(data, labels, classes if labels is not None else 0)


def load(name: str = "digits") -> Run:
    """Opens a small trained run that comes with the package: "digits"."""
    known = {path.name: path for path in sorted(SHIPPED.iterdir()) if path.is_dir()}
    return Run(runs.open_run(pick(known, name, "sampler of the package")))


def _folder_of(model: "Folder | Stored | None") -> str | None:
    if model is None:
        return None
    named = str(model.folder if isinstance(model, Stored) else model)
    trust.typed([named])
    return named


def _store(given: dict[str, Dataset], folder: Path, restart: bool) -> None:
    """Writes arrays into files of the run folder. Raises `UserError` where a run of other arrays
    lies there."""
    new = not (folder / "config.toml").exists() or restart
    if new and given:
        check_free(folder, restart)
    for name, dataset in given.items():
        arrays, file = {"x": dataset.examples}, folder / name
        if dataset.labels is not None:
            arrays["labels"] = dataset.labels
        if new:
            write_arrays(file, arrays, compress=False)
            continue
        there = read_arrays(file) if file.exists() else {}
        same = there.keys() == arrays.keys() and all(
            np.array_equal(there[key], arrays[key]) for key in arrays
        )
        require(same, f"run folder {folder} holds a run of other data; name another with run=")


def _move_arrays(config: TrainConfig, old: Path, new: Path) -> None:
    """Takes the arrays along that lie in the run folder, and writes where they are now."""
    moved = config
    for end, name in (("data", ARRAYS), ("source", SOURCE_ARRAYS)):
        flags = getattr(config, f"{end}_flags")
        path = Path(getattr(flags, "path", "") or ".")
        if getattr(config, end) != "arrays" or path.resolve() != (old / name).resolve():
            continue
        if not (new / name).exists():
            shutil.copy(old / name, new / name)
        there = {f"{end}_flags": replace(flags, path=str(new / name))}
        moved = replace(moved, **there)
    if moved is not config:
        toml.write(moved, new / "config.toml")
