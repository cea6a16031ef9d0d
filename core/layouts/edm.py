"""EDM's checkpoints: ddpm++, ncsn++ and ADM, as its pickles hold them.

Source: EDM (arXiv 2206.00364) and its code, `training/networks.py`.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from core.errors import UserError
from core.flow.flow_map import EndpointMap
from core.flow.network import Callee, DenoisedNetwork
from core.flow.path import EDMPath
from core.layouts.found import Found, numbers, prefix_of, shape_of
from core.layouts.table import Entry, Table, Tensor, take
from core.layouts.transforms import chain, pointwise, regrouped, torch_convolution
from core.nets.edm_unet import EDMUNetConfig
from core.nets.levels import Block

LEFT_OUT = ("*.resample_filter", "*map_augment.weight")
"""Filters, which are fixed, and the embedding of augmentation, which is zero in sampling."""
FILTERS = {"ncsn++": (1, 3, 3, 1), "ddpm++": (1, 1), "adm": (1, 1)}


def options_of(
    tensors: Mapping[str, Tensor],
    options: Mapping[str, Any] | None = None,
    *,
    head_channels: int | None = None,
) -> Found[EDMUNetConfig]:
    """The network of these tensors.

    **Arguments:** `options` those of `core.tensors.edm_pickle`, whose `class_name` must be
    `EDMPrecond`; `head_channels` of attention, by default those that `options` tell, else 64.
    **Raises:** `UserError` for another preconditioning, which has other formulas,
    and for other tensors.
    """
    check_class(options, "EDMPrecond")
    prefix = prefix_of(tensors, "model.", "enc.")
    names = [name.removeprefix(prefix) for name in tensors if name.startswith(prefix)]
    sides = numbers(r"enc\.(\d+)x\d+_", names)[::-1]
    if not sides or any(a != 2 * b for a, b in zip(sides, sides[1:])):
        shape_of(tensors, f"{prefix}enc.32x32_conv.weight")
        raise UserError("the weights' levels do not halve the resolution; choose another layout")
    size = sides[0]
    variant = "ddpm++"
    if "out_norm.weight" in names:
        variant = "adm"
    elif "map_noise.freqs" in names:
        variant = "ncsn++"
    first = shape_of(tensors, f"{prefix}enc.{size}x{size}_conv.weight")
    channels = shape_of(tensors, f"{prefix}map_layer0.weight")[1] // (1 + (variant == "ncsn++"))
    widths = [shape_of(tensors, f"{prefix}enc.{r}x{r}_block0.conv1.weight")[0] for r in sides]
    label = f"{prefix}map_label.weight"
    classes = shape_of(tensors, label)[1] if label in tensors else 0
    _check_filters(tensors, FILTERS[variant])
    config = EDMUNetConfig(
        variant=variant,
        channels=channels,
        multipliers=tuple(width // channels for width in widths),
        blocks=len(numbers(rf"enc\.{size}x{size}_block(\d+)\.", names)),
        attention=tuple(r for r in sides if f"enc.{r}x{r}_block0.qkv.weight" in names),
        head_channels=head_channels or head_channels_of(options, prefix, dict(zip(sides, widths))),
        trained_without_null=classes > 0,
    )
    table = table_for(config, size, classes, prefix)
    return Found(config, (size, size, first[1]), classes, table, "edm")


def table_for(config: EDMUNetConfig, size: int, classes: int, before: str) -> Table:
    """From our names to those of the file, with `before` in front."""
    song, side = config.variant != "adm", f"{size}x{size}"
    encoder, decoder = config.plan(size)
    entries = dense(f"{before}map_layer0", "layer_0") | dense(f"{before}map_layer1", "layer_1")
    if config.variant == "ncsn++":
        entries["frequencies"] = take(f"{before}map_noise.freqs")
    if classes:
        entries |= dense(f"{before}map_label", "label", bias=song)
    entries |= convolution(f"{before}enc.{side}_conv", "input")
    for n, block in enumerate(encoder):
        entries |= _block(config, block, f"{before}enc.{block.name}", f"encoder.{n}")
    if config.variant == "ncsn++":
        halving = [block.name.removesuffix("_down") for block in encoder if block.how == "down"]
        for n, side_below in enumerate(halving):
            entries |= convolution(f"{before}enc.{side_below}_aux_residual", f"residuals.{n}")
    for n, block in enumerate(decoder):
        entries |= _block(config, block, f"{before}dec.{block.name}", f"decoder.{n}")
    last = f"{before}dec.{side}_aux" if song else f"{before}out"
    entries |= norm(f"{last}_norm", "norm") | convolution(f"{last}_conv", "output")
    return Table(entries, LEFT_OUT)


def edm_map(net: Callee, data_std: float = 0.5) -> EndpointMap:
    """The network behind EDM's preconditioning, on EDM's path.

    `D(x, sigma) = c_skip x + c_out N(c_in x, ln(sigma)/4)`, and the velocity `(x - D) / sigma`.
    Source: EDM (arXiv 2206.00364), table 1.
    """
    path = EDMPath()
    return EndpointMap(net=DenoisedNetwork(net, path, data_std), path=path)


def check_class(options: Mapping[str, Any] | None, wanted: str) -> None:
    """Raises `UserError` where a pickle's network is of another class than `wanted`."""
    name = wanted if options is None else options.get("class_name", wanted)
    if name != wanted:
        raise UserError(f"{name} is not supported; {wanted} is")


def head_channels_of(
    options: Mapping[str, Any] | None, prefix: str, widths: Mapping[int, int]
) -> int:
    """Channels of an attention head, by the heads that a block's record tells; 64 without it.

    **Arguments:** `widths` the channels of a level by its resolution.
    """
    for side, width in widths.items():
        heads = (options or {}).get(f"{prefix}enc.{side}x{side}_block0.num_heads")
        if isinstance(heads, int) and heads > 0:
            return width // heads
    return 64


def dense(theirs: str, ours: str, *, bias: bool = True) -> dict[str, Entry]:
    """A dense layer."""
    entries = {f"{ours}.weight": take(f"{theirs}.weight")}
    return entries | ({f"{ours}.bias": take(f"{theirs}.bias")} if bias else {})


def convolution(theirs: str, ours: str) -> dict[str, Entry]:
    """A convolution with a bias."""
    weight = take(f"{theirs}.weight", torch_convolution)
    return {f"{ours}.weight": weight, f"{ours}.bias": take(f"{theirs}.bias")}


def small(theirs: str, ours: str) -> dict[str, Entry]:
    """A 1x1 convolution, a dense layer of ours."""
    weight = take(f"{theirs}.weight", pointwise)
    return {f"{ours}.weight": weight, f"{ours}.bias": take(f"{theirs}.bias")}


def norm(theirs: str, ours: str) -> dict[str, Entry]:
    """A norm with scale and shift."""
    return {f"{ours}.scale": take(f"{theirs}.weight"), f"{ours}.shift": take(f"{theirs}.bias")}


def _block(config: EDMUNetConfig, block: Block, theirs: str, ours: str) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for n in (0, 1):
        entries |= norm(f"{theirs}.norm{n}", f"{ours}.norm_{n}")
        entries |= convolution(f"{theirs}.conv{n}", f"{ours}.conv_{n}")
    entries |= dense(f"{theirs}.affine", f"{ours}.affine")
    if block.size_in != block.size_out or (block.how != "keep" and config.style.projects):
        entries |= small(f"{theirs}.skip", f"{ours}.skip")
    heads = config.heads(block.size_out)
    if not block.attends or not heads:
        return entries
    split = regrouped(heads, "hc3")
    entries |= norm(f"{theirs}.norm2", f"{ours}.norm_2") | small(f"{theirs}.proj", f"{ours}.proj")
    entries[f"{ours}.qkv.weight"] = take(f"{theirs}.qkv.weight", chain(pointwise, split))
    entries[f"{ours}.qkv.bias"] = take(f"{theirs}.qkv.bias", split)
    return entries


def _check_filters(tensors: Mapping[str, Tensor], taps: tuple[int, ...]) -> None:
    """Raises `UserError` where a filter for resampling is another than the variant's."""
    row = np.asarray(taps, np.float64) / sum(taps)
    for name in tensors:
        if name.endswith(".resample_filter"):
            shape = tuple(tensors[name].shape)
            if shape != (1, 1, len(taps), len(taps)) or not np.allclose(
                np.asarray(tensors[name])[0, 0], np.outer(row, row), atol=1e-3
            ):
                raise UserError(
                    f"{name} is another filter than {list(taps)}; networks with it are not known"
                )
