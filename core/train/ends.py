"""The two ends of a path: what stands at t = 1, and how it goes with the data at t = 0."""

import dataclasses
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from core.data import DATA
from core.data.dataset import Dataset
from core.data.spaces import words
from core.errors import UserError, pick, require
from core.flow.path import PATHS
from core.methods.registry import find_plugin, plugins
from core.objectives.coupling import Coupling, ExactCoupling, SinkhornCoupling, coupled
from core.train.config import NOISE, TrainConfig
from core.train.gather import Couple

PATHS_OF_TWO_ENDS = ("linear", "trig", "cosine")
"""Paths on which nothing is left of the data at t = 1."""


@dataclass(frozen=True)
class NoiseSource:
    """Gaussian noise: it has no flags."""


def source_flags(name: str) -> Any:
    """The default flags of what stands at t = 1: noise, or a data set."""
    return pick({NOISE: NoiseSource, **DATA}, name, "source")()


def load_ends(config: TrainConfig, data: Dataset | None = None) -> Dataset:
    """The data of a configuration (or `data`) with those at the other end.

    Raises `UserError` for ends that do not fit together, and for a method, path or guidance that
    needs independent Gaussian noise.
    """
    check_ends(config)
    data = _loaded(config) if data is None else data
    if config.source == NOISE or data.starts is not None:
        return data
    starts, paired = load_starts(config), config.coupling == "rows"
    require(
        starts.space == data.space,
        f"both ends must lie in one space: those of --source {config.source} lie in "
        f"{words(starts.space)}, those of --data {config.data} in {words(data.space)}",
    )
    if (starts.kind, starts.shape) != (data.kind, data.shape):
        raise UserError(
            f"both ends need examples of one shape: those of --source {config.source} have "
            f"{starts.shape}, those of --data {config.data} {data.shape}"
        )
    if paired and len(starts) != len(data):
        raise UserError(
            f"--coupling rows needs as many examples at both ends: --source {config.source} has "
            f"{len(starts):,} and --data {config.data} {len(data):,}; leave it out to draw them "
            "independently"
        )
    require(
        not starts.flip and not (paired and data.flip),
        "pairs would be mirrored at one end alone: leave out --source.flip, and --data.flip with "
        "--coupling rows",
    )
    return dataclasses.replace(data, starts=starts, paired=paired)


def _loaded(config: TrainConfig) -> Dataset:
    return config.data_flags.load()


def load_starts(config: TrainConfig) -> Dataset:
    """The data set at t = 1. Raises `UserError` where it does not open."""
    try:
        return config.source_flags.load()
    except UserError as error:
        raise UserError(str(error).replace("--data", "--source")) from None


def check_ends(config: TrainConfig) -> None:
    """Raises `UserError` where source and coupling fit neither each other nor the method."""
    flags, plain = config.plugin_flags, config.source == NOISE
    require(
        config.coupling != "rows" or not plain,
        "--coupling rows pairs the examples of two data sets: name the second with --source",
    )
    if plain and config.coupling == "independent":
        return
    asked = "--coupling" if plain else "--source"
    if not find_plugin(config.plugin).couples:
        able = [name for name in plugins() if find_plugin(name).couples]
        raise UserError(
            f"{config.plugin} needs noise that is independent of the data: leave out {asked}, or "
            f"train one of {', '.join(able)}"
        )
    require(
        flags.guided is None,
        f"--plugin.guidance takes velocities for scores, which they are only with independent "
        f"noise: leave out {asked}",
    )
    require(
        config.coupling not in COUPLINGS or find_spec("ott") is not None,
        f"--coupling {config.coupling} needs OTT-JAX: pip install portolan[transport]",
    )
    if config.path not in PATHS_OF_TWO_ENDS:
        raise UserError(
            f"on the {config.path} path something of the data is left at t = 1: {asked} needs "
            f"--path {' or '.join(PATHS_OF_TWO_ENDS)}"
        )


COUPLINGS = ("sinkhorn", "exact")
"""Those by optimal transport."""


def couple_of(config: TrainConfig) -> Couple | None:
    """How the ends of a batch are coupled, or None where they stay as they are drawn."""
    kinds: dict[str, Coupling] = {
        "exact": ExactCoupling(),
        "sinkhorn": SinkhornCoupling(config.entropy),
    }
    chosen = kinds.get(config.coupling)
    return None if chosen is None else partial(coupled, chosen, PATHS[config.path]())
