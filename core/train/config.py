"""The configuration of a run: nested frozen dataclasses whose fields are the command-line flags."""

import abc
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeVar

import tyro

from core.errors import UserError


@dataclass(frozen=True)
class OptimConfig:
    """Optimiser and its schedule."""

    rate: float = 1e-3
    """Peak learning rate."""
    name: Literal["adam", "adamw", "radam"] = "adam"
    """Optimiser."""
    schedule: Literal["cosine", "constant", "inverse-root"] = "cosine"
    """Learning rate after the warm-up: cosine to zero, constant, or rate * sqrt(decay / step)."""
    warmup: int = 100
    """Steps of linear warm-up from zero."""
    decay: int = 1000
    """Step from which on the inverse-root schedule decays."""
    b1: float = 0.9
    """Adam's decay of the mean gradient."""
    b2: float = 0.99
    """Adam's decay of the mean squared gradient."""
    weight_decay: float = 0.0
    """Decoupled weight decay (adamw only)."""
    clip: float = 1.0
    """Largest global gradient norm; 0 switches clipping off."""

    def __post_init__(self):
        positive("--optim.rate", self.rate)
        at_least("--optim.warmup", self.warmup, 0)
        at_least("--optim.decay", self.decay, 1)
        at_least("--optim.clip", self.clip, 0)
        at_least("--optim.weight-decay", self.weight_decay, 0)
        fraction("--optim.b1", self.b1)
        fraction("--optim.b2", self.b2)


@dataclass(frozen=True)
class MeshConfig:
    """How many devices to use."""

    data: int = 0
    """Groups of devices that each hold the whole state and a part of the batch; 0: as many as there
    are devices for."""
    fsdp: int = 1
    """Devices in a group, over which the state is divided as well."""
    smallest: int = 2**14
    """Arrays with fewer numbers than this are not divided."""

    def __post_init__(self):
        at_least("--mesh.data", self.data, 0)
        at_least("--mesh.fsdp", self.fsdp, 1)
        at_least("--mesh.smallest", self.smallest, 0)


@dataclass(frozen=True)
class ClusterConfig:
    """The processes of a run on several machines."""

    distributed: bool = False
    """Join the other processes of this run: found by itself under Slurm, Kubernetes and on TPU
    pods; elsewhere by the next three flags."""
    coordinator: str | None = None
    """HOST:PORT of process 0."""
    processes: int | None = None
    """Number of processes."""
    process: int | None = None
    """Number of this one, from 0."""


@dataclass(frozen=True)
class TeachingConfig:
    """How a teacher's velocity is guided."""

    scale: float = 1.0
    """Classifier-free guidance scale; 1 is none. Two evaluations of the teacher."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times (0 data, 1 noise) between which it is guided."""
    weak: str | None = None
    """Run or model folder of a weaker model that autoguides the teacher."""
    weak_scale: float = 2.0
    """Autoguidance scale: how far from the weak to the strong model; 1 is none."""
    guidance_channels: int | None = None
    """Guide the first so many channels alone, as the samplers of DiT and SiT do with 3 of 4."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: keep the weights of teachers in 16 bits, and compute their velocities in them."""

    def __post_init__(self):
        if self.guidance_channels is not None:
            at_least("--teaching.guidance-channels", self.guidance_channels, 1)


@dataclass(frozen=True)
class AdapterConfig:
    """A small change of trained weights, trained in their place (LoRA)."""

    rank: int = 0
    """Rank of the change of each layer; 0 trains all weights. It needs weights to start from
    (--init, or a teacher that the method starts from), which stay as they are and in no
    checkpoint."""
    alpha: float | None = None
    """The change counts alpha / rank; default: the rank."""
    rs: bool = False
    """Alpha over the square root of the rank instead (rsLoRA), for large ranks."""
    layers: tuple[str, ...] = ()
    """Patterns of the layers that are changed, by their names in weights.safetensors without the
    last part, such as *.qkv; by default attention, MLPs, and convolutions of blocks."""

    def __post_init__(self):
        at_least("--adapter.rank", self.rank, 0)
        if self.alpha is not None:
            positive("--adapter.alpha", self.alpha)
        if not self.rank and (self.alpha is not None or self.rs or self.layers):
            raise UserError(
                "--adapter.alpha, --adapter.rs, --adapter.layers: they go with --adapter.rank"
            )


Config = TypeVar("Config")


def flags_first(*names: str) -> Callable[[type[Config]], type[Config]]:
    """Decorator of a dataclass: these fields, and so their flags in --help, come before those that
    it inherits, which would else be the first."""

    def reorder(kind: type[Config]) -> type[Config]:
        fields: dict[str, Any] = vars(kind)["__dataclass_fields__"]
        chosen = {name: fields[name] for name in names}
        kind.__dataclass_fields__ = chosen | fields  # pyright: ignore[reportAttributeAccessIssue]
        return kind

    return reorder


@dataclass(frozen=True)
class LoopConfig(abc.ABC):
    """The flags of every command that trains: what the loop and the run folder need of them."""

    run: str | None = None
    """Run folder; an interrupted run goes on from there."""
    config: str | None = None
    """TOML file of flags, such as a run's config.toml; flags given beside it override it."""
    steps: int = 2000
    """Training steps."""
    batch: int = 128
    """Examples in one step."""
    accumulate: int = 1
    """Pieces in which a step takes its batch, one after the other, to need less memory."""
    seed: int = 0
    """Seed of initialisation, data order, times and noise."""
    ema: float = 0.999
    """Decay a step of the weight average that is sampled from; it starts at the weights."""
    dispatch: int = 10
    """Steps in one call of the compiled program."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    sample_every: int = 500
    """Steps between two pictures in samples/; 0 for only the last."""
    save_every: int = 500
    """Steps between two checkpoints; 0 for only the last."""
    keep: int = 2
    """Checkpoints kept."""
    on_nan: Literal["stop", "rollback"] = "stop"
    """At a non-finite loss: stop, or go back to the last checkpoint and skip the batch."""
    wandb: Literal["off", "offline", "online"] = "off"
    """Log to Weights & Biases as well; offline needs no account."""
    restart: bool = False
    """Delete the run that the folder holds and start again."""
    changed: bool = False
    """Go on with a run although its data, its teacher or the version of Portolan changed."""
    extend: bool = False
    """Give the run that the folder holds more steps: go on until --steps."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    cluster: Annotated[ClusterConfig, tyro.conf.arg(name="")] = field(default_factory=ClusterConfig)

    @property
    @abc.abstractmethod
    def folder(self) -> str:
        """The run folder."""

    def __post_init__(self):
        for name in ("steps", "batch", "accumulate", "dispatch", "log_every", "keep"):
            at_least(f"--{name.replace('_', '-')}", getattr(self, name), 1)
        for name in ("seed", "sample_every", "save_every"):
            at_least(f"--{name.replace('_', '-')}", getattr(self, name), 0)
        fraction("--ema", self.ema)


NOISE = "noise"
"""The name of the source that is Gaussian noise."""


@flags_first(
    *("plugin", "data", "net", "source", "coupling", "entropy", "run", "config", "teacher", "init"),
    *("path", "plugin_flags", "data_flags", "net_flags", "source_flags", "teaching", "adapter"),
)
@dataclass(frozen=True)
class TrainConfig(LoopConfig):
    """Trains one method on one data set and leaves a run folder.

    The flags --plugin, --data and --net select method, data and network; each has flags of its own
    below.
    """

    plugin: Annotated[str, tyro.conf.arg(name="plugin", metavar="NAME")] = "imf"
    """Training method; `python -m apps.plugins` lists them. That of text is cat-mf by default."""
    data: Annotated[str, tyro.conf.arg(name="data", metavar="NAME")] = "digits"
    """Data set: checkerboard, eight-gaussians, two-moons, spiral, double-well, mueller,
    sphere-blobs, torus-checkerboard, so3-swiss-roll, cells, digits, idx, cifar10, arrays, images,
    latents, text, bigram, or python:MODULE:FUNCTION."""
    net: Annotated[str, tyro.conf.arg(name="net", metavar="NAME")] = "dit"
    """Network: mlp (points), dit (images, series), unet (images). The default depends on the
    data."""
    run: str | None = None
    """Run folder; default runs/<plugin>-<data>. A run that was interrupted goes on from there."""
    teacher: str | None = None
    """Run or model folder of a trained model that teaches, python:MODULE:NAME of your own velocity
    or denoiser, or `exact` where the distribution is known."""
    init: str | None = None
    """Run or model folder whose weights training starts from: the same network, another method.
    Without --net the network is that of the model folder, with a second time."""
    path: Literal["linear", "trig", "cosine", "vp", "edm"] = "linear"
    """Probability path from data to noise."""
    source: Annotated[str, tyro.conf.arg(name="source", metavar="NAME")] = NOISE
    """The other end of the path, at t = 1: noise, or in its place a data set of the same shape, by
    its name or its file or folder, with flags as --data has them."""
    coupling: Literal["independent", "rows", "sinkhorn", "exact"] = "independent"
    """Which example at t = 1 goes with which of the data: any; the one of the same row (--source);
    or by optimal transport inside of the batch, with entropy or exact (extra transport)."""
    entropy: float = 0.05
    """Entropy of --coupling sinkhorn, in units of the mean cost."""
    evals: Annotated[tuple[int, ...], tyro.conf.arg(name="nfe", aliases=["--evals"])] = (1, 2, 4, 8)
    """Numbers of network evaluations in the closing table."""
    dry_run: bool = False
    """Print the resolved config, parameters, operations a step and memory; run nothing."""
    plugin_flags: Annotated[Any, tyro.conf.arg(name="plugin")] = None
    """Flags of the method."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = None
    """Flags of the data set."""
    net_flags: Annotated[Any, tyro.conf.arg(name="net")] = None
    """Flags of the network."""
    source_flags: Annotated[Any, tyro.conf.arg(name="source")] = None
    """Flags of the data set at the other end."""
    teaching: TeachingConfig = field(default_factory=TeachingConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)

    def __post_init__(self):
        super().__post_init__()
        for nfe in self.evals:
            at_least("--nfe", nfe, 1)
        positive("--entropy", self.entropy)

    @property
    def folder(self) -> str:
        """The run folder."""
        return self.run or f"runs/{self.plugin}-{self.data}"


MOST = 2**31 - 1
"""The largest whole number of a flag, but for seeds: steps are counted in 32 bits."""


def check_numbers(config: Any, prefix: str = "--") -> None:
    """Raises `UserError` for a number among nested flags that is not finite, where its default is,
    or that is too large to count with."""
    for item in dataclasses.fields(config):
        value: Any = getattr(config, item.name)
        flag = f"{prefix}{item.name}".removesuffix("_flags").replace("_", "-")
        if dataclasses.is_dataclass(value):
            check_numbers(value, f"{flag}.")
            continue
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, float) and not math.isfinite(one) and one != item.default:
                raise UserError(f"{flag} must be a finite number, got {one}")
            if isinstance(one, int) and abs(one) > (2**63 - 1 if item.name == "seed" else MOST):
                raise UserError(f"{flag} {one} is too large; give a smaller number")


def positive(flag: str, value: float) -> None:
    """Raises `UserError` unless the value is a positive number."""
    if not (math.isfinite(value) and value > 0):
        raise UserError(f"{flag} must be a positive number, got {value}")


def at_least(flag: str, value: float, least: int) -> None:
    """Raises `UserError` for a value below `least`."""
    if not (math.isfinite(value) and value >= least):
        raise UserError(f"{flag} must be at least {least}, got {value}")


def fraction(flag: str, value: float) -> None:
    """Raises `UserError` for a value outside [0, 1)."""
    if not 0 <= value < 1:
        raise UserError(f"{flag} must be in [0, 1), got {value}")
