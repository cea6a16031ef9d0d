"""Encoders of features: how one is trained, and how it is opened again.

A run of `apps.features` is a run folder like any other, with an encoder in place of a flow map.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import equinox as eqx
import jax.random as jr
import numpy as np
import tyro

from core.data import DATA
from core.data.codec import FILE, MARK, Codec, open_python
from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError, pick, require
from core.files import check_links, write_bytes
from core.models import is_model, open_autoencoder
from core.models.codec import codec_bytes
from core.nets.encoder import Autoencoder, Classifier, Encoder, EncoderConfig
from core.nets.perception import Identity, Perception
from core.nets.perceptions import Known, is_network, open_network
from core.nets.vae import VAE, make_vae, vae_bytes
from core.objectives.autoencoding import Autoencoding
from core.objectives.objective import Objective, Players
from core.objectives.pretext import Classification, MaskedReconstruction
from core.train import toml
from core.train.cli import parse_flags, select
from core.train.config import LoopConfig, OptimConfig, at_least, flags_first
from core.train.folder import migrated
from core.train.run import OWN, averaged, newest, read_spec
from core.train.state import TargetParameters
from core.train.tracking import check_tracking

Network = Autoencoder | Classifier | VAE
HELD_OUT = 10
"""Every tenth example is left out of training, to measure on."""


@flags_first(
    "task", "data", "run", "config", "hidden", "patch", "latent", "kl", "data_flags", "encoder"
)
@dataclass(frozen=True)
class FeaturesConfig(LoopConfig):
    """Trains an encoder of images, whose features methods and metrics can look at.

    --task mae fills in hidden patches and needs no labels; --task classifier learns the classes.
    Open it with --plugin.features DIR in drift, --features DIR in apps.eval. --task autoencoder
    learns latents of few numbers and the way back, for apps.latents --vae DIR.
    """

    task: Literal["mae", "classifier", "autoencoder"] = "mae"
    """The target of training: hidden patches of the images, their labels, or the images from
    latents."""
    data: Annotated[str, tyro.conf.arg(name="data", metavar="NAME")] = "digits"
    """Data set: digits, idx, cifar10, arrays, images."""
    run: str | None = None
    """Run folder; default runs/features-<data>. An interrupted run goes on from there."""
    hidden: float = 0.5
    """Share of the patches that are hidden (mae)."""
    patch: int = 2
    """Side of a hidden patch in pixels (mae)."""
    latent: int = 4
    """Channels of a latent (autoencoder)."""
    kl: float = 1e-3
    """Weight of the divergence of latents from N(0, 1) (autoencoder)."""
    steps: int = 1000
    """Training steps."""
    accumulate: Annotated[int, tyro.conf.Suppress] = field(default=1, metadata={"kept": False})
    """Each step takes its batch at once."""
    seed: int = 0
    """Seed of initialisation, data order and hidden patches."""
    ema: float = 0.99
    """Decay a step of the weight average that is kept."""
    sample_every: int = 500
    """Steps between two pictures in samples/ (mae, autoencoder)."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = None
    """Flags of the data set."""
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    optim: OptimConfig = field(default_factory=lambda: OptimConfig(rate=3e-3))

    def __post_init__(self):
        super().__post_init__()
        at_least("--patch", self.patch, 1)
        at_least("--latent", self.latent, 1)
        at_least("--kl", self.kl, 0)
        require(0 < self.hidden < 1, f"--hidden must be between 0 and 1, got {self.hidden}")

    @property
    def folder(self) -> str:
        """The run folder."""
        return self.run or f"runs/features-{self.data}"


@dataclass(frozen=True)
class FeaturesBuilt:
    """The data, the training part and the held-out part, and the networks."""

    dataset: Dataset
    training: Dataset
    held_out: Dataset
    model: Network
    objective: Objective

    @property
    def players(self) -> Players:
        """The one network."""
        return {"model": self.model}

    @property
    def rates(self) -> Mapping[str, float]:
        """All at the optimiser's rate."""
        return {}

    @property
    def target(self) -> TargetParameters:
        """No targets."""
        return TargetParameters()

    @property
    def couple(self) -> None:
        """No other end."""

    @property
    def trained(self) -> Any:
        """All numbers."""
        return eqx.is_inexact_array


def parse_features(argv: list[str]) -> FeaturesConfig:
    """The resolved configuration of these flags. Raises `UserError`."""
    chosen = select(argv)
    data = pick(DATA, chosen.data, "data set")
    default = FeaturesConfig(data=chosen.data, data_flags=data())
    return parse_flags(FeaturesConfig, chosen.flags, default)


def build_features(config: FeaturesConfig) -> FeaturesBuilt:
    """Loads the data and builds the networks. Raises `UserError` for settings that do not fit."""
    check_tracking(config.wandb)
    dataset = config.data_flags.load()
    objective: Objective = Classification()
    if config.task == "mae":
        objective = MaskedReconstruction(config.patch, config.hidden)
    elif config.task == "autoencoder":
        objective = Autoencoding(config.kl)
    else:
        require(dataset.num_classes > 0, "--task classifier needs data with labels; use --task mae")
    return FeaturesBuilt(dataset, *_split(dataset), _model(config, dataset.spec), objective)


def _model(config: FeaturesConfig, spec: DataSpec) -> Network:
    """The encoder and its head, freshly initialised."""
    key = jr.fold_in(jr.key(config.seed), 0)
    if config.task == "autoencoder":
        return make_vae(spec.shape, config.latent, config.encoder, key=key)
    if config.task == "mae":
        return config.encoder.autoencoder(spec.shape, key=key)
    return config.encoder.classifier(spec.shape, spec.num_classes, key=key)


def _split(dataset: Dataset) -> tuple[Dataset, Dataset]:
    """The examples that are trained on and those that are measured on; data on disk serve both."""
    if not dataset.resident or len(dataset) < HELD_OUT:
        return dataset, dataset
    out = np.arange(len(dataset)) % HELD_OUT == HELD_OUT - 1

    def part(keep: np.ndarray) -> Dataset:
        labels = None if dataset.labels is None else dataset.labels[keep]
        return replace(dataset, examples=dataset.examples[keep], labels=labels)

    return part(~out), part(out)


def open_encoder(folder: str | Path) -> Encoder:
    """The trained encoder of a run of `apps.features`, with averaged weights.

    Raises `UserError` where the folder holds none.
    """
    return _open(folder)[1].encoder


def open_vae(folder: str | Path) -> tuple[FeaturesConfig, VAE]:
    """The trained autoencoder of a run of `apps.features`. Raises `UserError` where there is
    none."""
    config, model = _open(folder)
    if not isinstance(model, VAE):
        raise UserError(
            f"{folder} holds features but no autoencoder (--task {config.task}); train one with "
            "python -m apps.features --task autoencoder"
        )
    return config, model


def codec_of(vae: str, out: Path) -> Codec:
    """The codec that `--vae` names: the autoencoder of a run or of a model folder, written into the
    folder `out`, or a function. Raises `UserError` where there is none."""
    if vae.startswith(MARK):
        return Codec(vae, open_python(vae)[1])
    file, shape = out / FILE, ()
    if is_model(vae):
        content = codec_bytes(open_autoencoder(vae))  # for pictures of any size
    else:
        config, model = open_vae(vae)
        content, shape = vae_bytes(model, config.latent, config.encoder), model.shape
    if not file.exists():
        write_bytes(file, content)
    elif file.read_bytes() != content:
        raise UserError(f"{out} holds latents of another autoencoder; choose another --out")
    return Codec(str(file), hashlib.sha256(content).hexdigest(), shape)


def open_classifier(folder: str | Path, spec: DataSpec) -> Classifier:
    """The classifier in a run folder, for examples of these data.

    Raises `UserError` where there is none, or one of other data.
    """
    config, model = _open(folder)
    train = "train one with python -m apps.features --task classifier"
    if not isinstance(model, Classifier):
        raise UserError(f"{folder} holds features but no classifier (--task mae); {train}")
    shape, classes = model.encoder.shape, model.num_classes
    if (config.data, shape, classes) != (spec.name, spec.shape, spec.num_classes):
        raise UserError(
            f"the classifier in {folder} is for {config.data} ({classes} classes, shape {shape}), "
            f"not for {spec.name} ({spec.num_classes} classes, shape {spec.shape}); "
            f"{train} --data {spec.name}"
        )
    return model


def _open(folder: str | Path) -> tuple[FeaturesConfig, Network]:
    folder = Path(folder)
    written = folder / "config.toml"
    make = "make one with python -m apps.features --data NAME"
    if not written.exists():
        raise UserError(f"no features in {folder} (no config.toml); {make}")
    check_links(folder, OWN)
    tree = migrated(toml.read(written), folder)
    if "task" not in tree:
        raise UserError(f"{folder} is a run of apps.train and holds no features; {make}")
    data = toml.selected(tree, "data") or FeaturesConfig.data
    default = FeaturesConfig(data=data, data_flags=pick(DATA, data, "data set")())
    config = toml.filled(default, tree, str(written))
    found = newest(folder, config.keep)
    if found is None:
        raise UserError(f"the features in {folder} have no checkpoint yet; train them to the end")
    checkpoints, _ = found
    spec = read_spec(folder, config.data_flags)
    like = eqx.filter_eval_shape(lambda: _model(config, spec))
    try:
        _, players = checkpoints.newest(lambda k: averaged({"model": like}, checkpoints, k))
    finally:
        checkpoints.close()
    return config, players["model"]


def open_perception(name: str, shape: tuple[int, ...]) -> Perception:
    """`identity`, a trained network (`NAME` or `NAME=FILE` of `core.nets.perceptions.NETWORKS`), or
    the encoder in the run folder `name`, for examples of this shape.

    Raises `UserError` where there is none, or one for other shapes.
    """
    if name == "identity":
        return Identity()
    if is_network(name):
        return network_of(name, shape).network
    encoder = open_encoder(name)
    if encoder.shape != shape:
        raise UserError(
            f"the features in {name} are for examples of shape {encoder.shape}, not {shape}; "
            "train features on the same data"
        )
    return encoder


def network_of(name: str, shape: tuple[int, ...]) -> Known:
    """A trained network, for pictures. Raises `UserError` for other data."""
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise UserError(
            f"{name.partition('=')[0]} looks at pictures of 1 or 3 channels, and the data have "
            f"shape {shape}: train features on them with apps.features, or compare pixels"
        )
    return open_network(name)
