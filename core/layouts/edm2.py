"""EDM2's checkpoints, as its pickles hold them.

Source: EDM2 (arXiv 2312.02696) and its code, `training/networks_edm2.py`.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import UserError
from core.layouts.edm import check_class, head_channels_of
from core.layouts.found import Found, numbers, prefix_of, shape_of
from core.layouts.table import Entry, Table, Tensor, take
from core.layouts.transforms import (
    Transform,
    chain,
    pointwise,
    regrouped,
    same,
    torch_convolution,
)
from core.nets.edm2_unet import EPSILON, EDM2UNetConfig
from core.nets.levels import Block

LEFT_OUT = ("*logvar_fourier.*", "*logvar_linear.*")
"""The uncertainty that weighs the loss in training."""


def options_of(
    tensors: Mapping[str, Tensor],
    options: Mapping[str, Any] | None = None,
    *,
    head_channels: int | None = None,
    folded: bool = False,
) -> Found[EDM2UNetConfig]:
    """The network of these tensors.

    **Arguments:** `options` those of `core.tensors.edm_pickle`, whose `class_name` must be
    `Precond`; `head_channels` of attention, by default those that `options` tell, else 64;
    `folded` normalises the weights once, for a frozen teacher. **Raises:** `UserError`
    for other tensors.
    """
    check_class(options, "Precond")
    prefix = prefix_of(tensors, "unet.", "enc.")
    names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    sides = numbers(r"enc\.(\d+)x\d+_", names)[::-1]
    if not sides or any(a != 2 * b for a, b in zip(sides, sides[1:])):
        shape_of(tensors, f"{prefix}enc.64x64_conv.weight")
        raise UserError("the weights' levels do not halve the resolution; choose another layout")
    size = sides[0]
    first = shape_of(tensors, f"{prefix}enc.{size}x{size}_conv.weight")
    widths = [shape_of(tensors, f"{prefix}enc.{r}x{r}_block0.conv_res1.weight")[0] for r in sides]
    channels = math.gcd(*widths)
    label = f"{prefix}emb_label.weight"
    classes = shape_of(tensors, label)[1] if label in tensors else 0
    config = EDM2UNetConfig(
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=len(numbers(rf"enc\.{size}x{size}_block(\d+)\.", names)),
        attention=tuple(r for r in sides if f"enc.{r}x{r}_block0.attn_qkv.weight" in names),
        head_channels=head_channels or head_channels_of(options, prefix, dict(zip(sides, widths))),
        trained_without_null=classes > 0,
        folded=folded,
    )
    table = _table(config, size, classes, prefix)
    return Found(config, (size, size, first[1] - 1), classes, table, "edm")


def _table(config: EDM2UNetConfig, side: int, classes: int, before: str) -> Table:
    """From our names to those of the file, with `before` in front."""
    encoder, decoder = config.plan(side)
    entries = {
        "frequencies": take(f"{before}emb_fourier.freqs"),
        "phases": take(f"{before}emb_fourier.phases"),
        "gain": take(f"{before}out_gain"),
    }
    weights = {
        "noise": ("emb_noise", same),
        "input": (f"enc.{side}x{side}_conv", torch_convolution),
        "output": ("out_conv", torch_convolution),
    }
    if classes:
        weights["label"] = "emb_label", same
    for ours, (theirs, how) in weights.items():
        entries |= _weight(config, f"{before}{theirs}", ours, how)
    for way, blocks in (("encoder", encoder), ("decoder", decoder)):
        for n, block in enumerate(blocks):
            name = f"{before}{way[:3]}.{block.name}"
            entries |= _block(config, block, name, f"{way}.{n}")
    return Table(entries, LEFT_OUT)


def _block(config: EDM2UNetConfig, block: Block, theirs: str, ours: str) -> dict[str, Entry]:
    heads = block.size_out // config.head_channels if block.attends else 0
    weights = {
        "conv_0": ("conv_res0", torch_convolution),
        "conv_1": ("conv_res1", torch_convolution),
        "embed": ("emb_linear", same),
    }
    if block.size_in != block.size_out:
        weights["skip"] = "conv_skip", pointwise
    if heads:
        weights["qkv"] = "attn_qkv", chain(pointwise, regrouped(heads, "hc3"))
        weights["proj"] = "attn_proj", pointwise
    entries = {f"{ours}.gain": take(f"{theirs}.emb_gain")}
    for name, (their_name, how) in weights.items():
        entries |= _weight(config, f"{theirs}.{their_name}", f"{ours}.{name}", how)
    return entries


def _weight(config: EDM2UNetConfig, theirs: str, ours: str, how: Transform) -> dict[str, Entry]:
    """A layer's weights, normalised where the network wants them so."""
    if config.folded:
        how = chain(Transform(_normalised, lambda w: (w,)), how)
    return {f"{ours}.weight": take(f"{theirs}.weight", how)}


def _normalised(weight: np.ndarray) -> np.ndarray:
    """`W / (|W_row| + 1e-4 sqrt(n))`, rows along the first axis, as torch keeps them."""
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    size = np.linalg.norm(rows, axis=1, keepdims=True) + EPSILON * math.sqrt(rows.shape[1])
    return (rows / size).reshape(weight.shape).astype(np.float32)
