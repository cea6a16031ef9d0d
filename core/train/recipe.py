"""Default settings by data: those that `--data NAME` alone trains with.

Each recipe is a `TrainConfig`; a flag overrides any value of it.
"""

import math
from dataclasses import replace
from typing import Any

from core.data import DATA
from core.errors import pick
from core.methods.plugin import Plugin
from core.nets import NETS, DiTConfig, MLPConfig
from core.train.config import OptimConfig, TrainConfig
from core.train.memory import least_bytes

POINTS = ("checkerboard", "eight-gaussians", "two-moons", "spiral")


MOST_TOKENS = 256
"""Patches of an image are so large that there are no more of them: the memory of attention by the
formula grows with the square."""
FEWEST_TOKENS = 16
FEWEST_BATCH = 8
MOST_BYTES = 2**32
"""The memory of a step, at the least, for which recipes are made: the same on every machine."""


def recipe(
    plugin: type[Plugin],
    data: str,
    net: str | None,
    kind: str | None = None,
    shape: tuple[int, ...] | None = None,
) -> TrainConfig:
    """The default configuration of a method on a data set, with another network where asked.

    `kind`, `"points"`, `"small-image"` or `"image"`, is said by the name of the data, unless given.
    `shape`, where it is known, sets the patch of the transformer, and a smaller batch where a step
    would take more than `MOST_BYTES`.
    """
    kind = kind or kind_of(data)
    base = {"points": _points, "small-image": _digits, "image": _images}[kind]()
    if kind == "image" and shape is not None and len(shape) == 3:
        base |= _of_size(base, shape)
    if plugin.tunes:
        base |= _tuning(base)
    if net is not None and net != base["net"]:
        base |= {"net": net, "net_flags": pick(NETS, net, "network")()}
    if plugin.most_nfe is not None:
        base["evals"] = tuple(n for n in TrainConfig.evals if n <= plugin.most_nfe)
    return TrainConfig(
        plugin=plugin.card.name,
        data=data,
        plugin_flags=plugin.preset(kind),
        data_flags=DATA[data](),
        **base,
    )


def kind_of(data: str) -> str:
    """What the recipes of a data set are made for."""
    return "points" if data in POINTS else "small-image" if data == "digits" else "image"


def _tuning(base: dict[str, Any]) -> dict[str, Any]:
    """The settings that differ where a trained map is tuned: an eighth of the steps at a 75th of
    the rate.

    The average forgets the start, and the warm-up fits the fewer steps. The rate stays, so that a
    second player keeps its pace.
    """
    optim = base["optim"]
    return {
        "steps": base["steps"] // 8,
        "ema": 0.98,
        "optim": replace(optim, rate=optim.rate / 75, schedule="constant", warmup=20),
    }


def _of_size(base: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    """The patch for images of this shape, and a batch that fits into `MOST_BYTES`."""
    flags = replace(base["net_flags"], patch=patch_of(shape, base["net_flags"].patch))
    batch = base["batch"]
    while batch > FEWEST_BATCH and (least_bytes(flags, shape, batch) or 0) > MOST_BYTES:
        batch //= 2
    return {"net_flags": flags, "batch": batch}


def patch_of(shape: tuple[int, ...], usual: int) -> int:
    """The smallest patch, from the usual one on, that divides both sides and leaves no more than
    `MOST_TOKENS`; the usual one where there is none."""
    common = math.gcd(shape[0], shape[1])
    for patch in range(usual, common + 1):
        tokens = shape[0] * shape[1] // patch**2
        if common % patch == 0 and FEWEST_TOKENS <= tokens <= MOST_TOKENS:
            return patch
    return usual


def _points() -> dict[str, Any]:
    """Two-dimensional sets, on CPU: about three minutes."""
    return {
        "net": "mlp",
        "net_flags": MLPConfig(),
        "steps": 20_000,
        "batch": 512,
        "dispatch": 100,
        "log_every": 500,
        "sample_every": 5000,
        "save_every": 2000,
        "optim": OptimConfig(rate=1e-3, b2=0.999),
    }


def _digits() -> dict[str, Any]:
    """The main job: 8x8 digits, on two CPU cores under three minutes."""
    return {
        "net": "dit",
        "net_flags": DiTConfig(),
        "steps": 2300,
        "batch": 128,
        "ema": 0.998,
        "optim": OptimConfig(rate=3e-3),
    }


def _images() -> dict[str, Any]:
    """Images of 28 pixels and more; on a CPU a transformer is several times faster than a U-Net."""
    return {
        "net": "dit",
        "net_flags": DiTConfig(patch=4, width=128, depth=6),
        "steps": 10_000,
        "batch": 64,
        "optim": OptimConfig(rate=5e-4),
    }
