"""Default settings by data: those that `--data NAME` alone trains with.

Each recipe is a `TrainConfig`; a flag overrides any value of it.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from core.data import DATA
from core.errors import pick
from core.methods.plugin import Plugin
from core.nets import NETS, DiTConfig, MLPConfig
from core.nets.patches import grid_of
from core.train.config import NOISE, OptimConfig, TrainConfig
from core.train.ends import source_flags
from core.train.memory import least_bytes

POINTS = (
    *("checkerboard", "eight-gaussians", "two-moons", "spiral", "double-well"),
    *("mueller", "sphere-blobs", "torus-checkerboard", "so3-swiss-roll", "cells"),
)
TEXTS = ("text", "bigram")


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
    source: str = NOISE,
) -> TrainConfig:
    """The default configuration of a method on a data set, with another network where asked, and
    another `source` than noise at the other end.

    `kind`, `"points"`, `"series"`, `"small-image"`, `"image"` or `"tokens"`, is said by the name of
    the data and its `shape`, unless given. `shape`, where it is known, sets the patch of the
    transformer, and a smaller batch where a step would take more than `MOST_BYTES`.
    """
    kind = kind or kind_of(data, shape)
    base = _BASES[kind]()
    if kind in ("image", "series") and shape is not None and len(shape) > 1:
        # A place of a latent stands for a patch of the picture already.
        usual = 1 if data == "latents" else base["net_flags"].patch
        base |= _of_size(base, shape, usual)
    if plugin.tunes:
        base |= _tuning(base)
    if net is not None and net != base["net"]:
        base |= {"net": net, "net_flags": pick(NETS, net, "network")()}
    if plugin.most_nfe is not None:
        evals = base.get("evals", TrainConfig.evals)
        base["evals"] = tuple(n for n in evals if n <= plugin.most_nfe)
    config = TrainConfig(
        plugin=plugin.card.name,
        data=data,
        plugin_flags=plugin.preset("image" if kind in ("series", "tokens") else kind),
        data_flags=DATA[data](),
        source=source,
        source_flags=source_flags(source),
        **base,
    )
    own = plugin.recipe(kind)
    return config if own is None or not own.flags else _changed(config, own.flags)


def _changed(config: TrainConfig, flags: Mapping[str, Any]) -> TrainConfig:
    """The configuration with these settings, of `optim` and its own."""
    inner = {key[6:]: value for key, value in flags.items() if key.startswith("optim.")}
    outer = {key: value for key, value in flags.items() if not key.startswith("optim.")}
    return replace(config, optim=replace(config.optim, **inner), **outer)


def kind_of(data: str, shape: tuple[int, ...] | None = None) -> str:
    """What the recipes of a data set are made for; those of series and of points by the shape."""
    if data in TEXTS:
        return "tokens"
    if shape is not None and len(shape) < 3:
        return "points" if len(shape) == 1 else "series"
    return "points" if data in POINTS else "small-image" if data == "digits" else "image"


def usual_plugin(data: str) -> str:
    """The method where none is named."""
    return "cat-mf" if data in TEXTS else TrainConfig.plugin


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


def _of_size(base: dict[str, Any], shape: tuple[int, ...], usual: int) -> dict[str, Any]:
    """The patch for examples of this shape, `usual` or more, and a batch that fits into
    `MOST_BYTES`."""
    flags = replace(base["net_flags"], patch=patch_of(shape, usual))
    batch = base["batch"]
    while batch > FEWEST_BATCH and (least_bytes(flags, shape, batch) or 0) > MOST_BYTES:
        batch //= 2
    return {"net_flags": flags, "batch": batch}


def patch_of(shape: tuple[int, ...], usual: int) -> int:
    """The smallest patch, from the usual one on, that divides the sides and leaves no more than
    `MOST_TOKENS`; the usual one where there is none. Of series, whose length may be any number,
    also smaller ones, or single places."""
    common = math.gcd(*shape[:-1])
    smaller = range(usual - 1, 0, -1) if len(shape) == 2 else ()
    for patch in (*range(usual, common + 1), *smaller):
        tokens = math.prod(grid_of(shape, patch))
        if common % patch == 0 and FEWEST_TOKENS <= tokens <= MOST_TOKENS:
            return patch
    return 1 if len(shape) == 2 and common % usual else usual


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


def _series() -> dict[str, Any]:
    """Series of some hundred places, on a CPU: some minutes."""
    return {
        "net": "dit",
        "net_flags": DiTConfig(patch=4),
        "steps": 5000,
        "batch": 64,
        "optim": OptimConfig(rate=1e-3),
    }


def _tokens() -> dict[str, Any]:
    """Text of some dozen symbols in examples of some dozen places, on a CPU: minutes. Neighbours
    are found several times sooner with rotary positions than with fixed ones, with those sooner
    than with learned ones that start small, and best by a short convolution."""
    return {
        "net": "dit",
        "net_flags": DiTConfig(
            patch=1, depth=3, positions="rotary", neighbours=5, wide_readout=True
        ),
        "steps": 4000,
        "batch": 64,
        "ema": 0.998,
        "evals": (1, 4, 16),
        "optim": OptimConfig(rate=5e-3),
    }


_BASES = {
    "points": _points,
    "series": _series,
    "small-image": _digits,
    "image": _images,
    "tokens": _tokens,
}
