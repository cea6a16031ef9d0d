"""Training, shared by `train` and `apps.train`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from core.adapters.adapted import count
from core.data.record import recorded
from core.data.spec import DataSpec
from core.data.summary import summary
from core.report.gallery import sample_picture
from core.sampling import SAMPLERS, check_sampler
from core.train import processes
from core.train.build import Built
from core.train.checkpoint import Checkpoints
from core.train.claim import changed_data, claim, extended_from, go_on_changed
from core.train.config import TrainConfig
from core.train.memory import check_memory
from core.train.run import DATA_FILE, SOURCE
from core.train.sharding import describe_mesh
from core.train.trainer import Dispatch, Trainer
from portolan.loop import Loop

Training = Trainer[TrainConfig, Built]


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run that was trained to its end; `seconds` and `rate`, samples a second, of this call."""

    trainer: Training
    folder: Path
    seconds: float
    rate: float


def run_to_end(config: TrainConfig, built: Built, app: str | None) -> Trained:
    """Trains, or goes on with an interrupted run, in the folder that the configuration names.

    `app` is the command that trains, or None. Raises `UserError` for runs that could not be sampled
    in the end, before anything is trained, and for a folder that holds another run.
    """
    name = built.method.sampler
    check_sampler(name, SAMPLERS[name], built.method.flow_map)
    for nfe in config.evals:
        SAMPLERS[name].steps(nfe)
    check_memory(config, built.dataset.shape, *built.sizes())
    before = extended_from(config)
    base, trainer = built.base(), Trainer(config, built)
    spec, other = recorded(built.dataset), built.dataset.starts
    starts = None if other is None else recorded(other)
    folder = claim(config, spec, starts, base)
    say_change(folder, spec, config.changed)
    if starts is not None:
        say_change(folder, starts, config.changed, SOURCE)
    checkpoints = Checkpoints(folder, config.keep)
    try:
        seconds, rate = train(trainer, checkpoints, folder, app, before)
    finally:
        checkpoints.close()
    return Trained(trainer, folder, seconds, rate)


def say_change(folder: Path, spec: DataSpec, accepted: bool, file: str = DATA_FILE) -> None:
    """Says that the data (`file` has what they were) are others than those that a run began with,
    where they are. Raises `UserError` unless that is `accepted`."""
    found = changed_data(folder, spec, file)
    if found is not None:
        go_on_changed(folder, found, accepted)


def train(
    trainer: Training,
    checkpoints: Checkpoints,
    folder: Path,
    app: str | None,
    before: int | None = None,
    watch: Callable[[Dispatch], None] | None = None,
) -> tuple[float, float]:
    """Trains to the end, where `before` and `watch` are those of `Loop`. Returns the seconds and
    samples a second of this call."""
    loop = Loop(
        app, trainer, checkpoints, folder, lambda path: picture(trainer, path), before, watch
    )
    return loop.run(describe(trainer.config, trainer.built))


def picture(trainer: Training, path: Path) -> None:
    """Writes the picture of the averaged map's samples."""
    name = trainer.built.method.sampler
    nfe, flow_map = SAMPLERS[name].preview, trainer.flow_map()
    if processes.first():
        sample_picture(flow_map, trainer.built.dataset, path, sampler=name, nfe=nfe)


def describe(config: TrainConfig, built: Built) -> list[str]:
    """A few lines that describe the run."""
    device, mesh = jax.devices()[0], describe_mesh(config.mesh)
    memory = check_memory(config, built.dataset.shape, *built.sizes())
    return [
        *([f"{config.plugin} {built.start}"] if built.start else []),
        *built.notes,
        f"method {config.plugin}: {_fields(config.plugin_flags)}",
        *summary(built.dataset),
        *ends(config, built),
        f"network {config.net}: {parameters(config, built)}; "
        f"{config.steps:,} steps of {config.batch}; {device.platform}, {mesh}",
        *([] if memory is None else [memory]),
    ]


def parameters(config: TrainConfig, built: Built) -> str:
    """How many parameters there are, and how many of them an adapter trains."""
    trained, still = built.sizes()
    if not built.adapted:
        return f"{trained:,} parameters"
    share = 100 * trained / (trained + still)
    return (
        f"{trained + still:,} parameters, of which {trained:,} are trained ({share:.2g} %) in an "
        f"adapter of rank {config.adapter.rank}: {count(built.method.flow_map)} changed layers"
    )


def ends(config: TrainConfig, built: Built) -> list[str]:
    """What stands at t = 1, and how it is coupled, where that is not independent noise."""
    starts = built.dataset.starts
    if starts is None and built.couple is None:
        return []
    what = "noise" if starts is None else summary(starts)[0].removeprefix("data ")
    return [f"at t = 1 {what}; coupling {config.coupling}"]


def _fields(flags: Any) -> str:
    pairs = ((f.name, getattr(flags, f.name)) for f in dataclasses.fields(flags))
    return ", ".join(f"{name} {value}" for name, value in pairs)
