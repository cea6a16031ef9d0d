"""How much memory a training step takes at least, and how much there is."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any

import jax

from core.errors import UserError
from core.nets import DiTConfig
from core.nets.patches import grid_of
from core.train.config import LoopConfig

PER_BLOCK = {"none": 14, "dots": 9, "full": 1}
"""Numbers that a block of the transformer keeps of a token for the backward pass, in widths: the
outputs of its six products (3 + 1 + 4 + 1) with `dots`, its input with `full`."""
COPIES = 5
"""Arrays of the size of the parameters: themselves, two moments, the average, the gradient."""


def least_bytes(
    net: Any, shape: tuple[int, ...], batch: int, parameters: int = 0, still: int = 0
) -> int | None:
    """Bytes that a training step takes at the very least on one device; None where only the
    compiler knows (`--dry-run`).

    Of a transformer: what the blocks keep for the backward pass, and, with attention by the
    formula, the scores of one block, once. A derivative along the path takes up to twice as much.
    `still` is the number of parameters that are not trained.
    """
    if not isinstance(net, DiTConfig) or len(shape) < 2:
        return None
    size = 2 if net.dtype == "bfloat16" else 4
    tokens = math.prod(grid_of(shape, net.patch))
    kept = PER_BLOCK[net.remat] * net.width * net.depth * tokens
    formula = net.attention == "xla"
    scores = net.heads * tokens**2 if formula else 0
    return batch * size * (kept + scores) + 4 * (COPIES * parameters + still)


def available_bytes() -> int:
    """Memory of one device; on a CPU that of the machine, or of the container that this runs in."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        found = (device.memory_stats() or {}).get("bytes_limit")
        return int(found) if found else 2**62
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            total = min(total, int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    return total


def batch_on_device(config: LoopConfig) -> int:
    """Examples of a step that one device has at once."""
    devices = config.mesh.data or max(jax.device_count() // config.mesh.fsdp, 1)
    if jax.devices()[0].platform == "cpu":
        devices = 1  # they share their memory
    return max(math.ceil(config.batch / (devices * config.accumulate)), 1)


def check_memory(
    config: Any, shape: tuple[int, ...], parameters: int, still: int = 0
) -> str | None:
    """One line on the memory of a step, or None where only the compiler knows.

    Raises `UserError` for a step that surely does not fit, before anything is compiled.
    """
    batch, net = batch_on_device(config), config.net_flags
    least = least_bytes(net, shape, batch, parameters, still)
    if least is None:
        return None
    there = available_bytes()
    tokens = math.prod(grid_of(shape, net.patch))
    example = "picture" if len(shape) == 3 else "series"
    what = f"{tokens:,} tokens a {example} (patches of {net.patch})"
    if least <= there:
        return f"memory: {what}; a step takes {_in_words(least)} at least, of {_in_words(there)}"
    pieces = config.accumulate * math.ceil(least / (0.5 * there))
    patch = _patch_that_fits(net, shape, batch, there)
    ways = [f"--net.patch {patch}", f"a smaller --batch than {config.batch}"]
    if pieces <= config.batch:
        ways.append(f"--accumulate {_divisor(config.batch, pieces)}")
    if net.attention == "xla" and tokens >= 1024:
        ways.append("--net.attention auto")
    raise UserError(
        f"{what}: a step takes {_in_words(least)} at least, and there are {_in_words(there)}; give "
        f"{', '.join(ways[:-1])} or {ways[-1]}"
    )


def _patch_that_fits(net: DiTConfig, shape: tuple[int, ...], batch: int, there: int) -> int:
    """The first of 2, 4, 8 ... times the patch with which a step takes half of the memory."""
    patch = 2 * net.patch
    while patch < min(shape[:-1]):
        least = least_bytes(dataclasses.replace(net, patch=patch), shape, batch)
        if least is not None and least <= there / 2:
            break
        patch *= 2
    return patch


def _divisor(batch: int, least: int) -> int:
    """The smallest divisor of the batch that is not below `least`."""
    return next(n for n in range(least, batch + 1) if batch % n == 0)


def _in_words(size: float) -> str:
    """Bytes in a unit in which they are a number of few digits."""
    if size >= 2**30:
        return f"{size / 2**30:,.1f} GiB"
    return f"{size / 2**20:,.0f} MiB" if size >= 2**20 else f"{size / 2**10:,.0f} KiB"
