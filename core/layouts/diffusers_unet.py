"""diffusers' `UNet2DModel`: `config.json` and its weights.

Source: diffusers, `models/unets/unet_2d.py` and `unet_2d_blocks.py`.
"""

from collections.abc import Mapping
from typing import Any

from core.layouts.diffusers_blocks import attention, check_options, check_types, resnet
from core.layouts.edm import convolution, dense, norm
from core.layouts.found import Found, shape_of
from core.layouts.table import Entry, Table, Tensor, take
from core.nets.diffusers_unet import DOWN, UP, DiffusersUNetConfig

CLASS = "UNet2DModel"
CLOCK = "linear 0.0001 0.02 1000"
"""DDPM's scheduler."""
FIXED = {
    "time_embedding_type": "positional",
    "center_input_sample": False,
    "act_fn": "silu",
    "mid_block_type": "UNetMidBlock2D",
    "class_embed_type": None,
    "time_embedding_dim": None,
}
"""Options of which one value is known."""
CHANGES = {"downsample_type": ("conv", "resnet"), "upsample_type": ("conv", "resnet")}


def options_of(
    tensors: Mapping[str, Tensor],
    config: Mapping[str, Any],
    clock: str = CLOCK,
    prediction: str | None = "noise",
) -> Found[DiffusersUNetConfig]:
    """The network of these tensors.

    **Arguments:** `config` is the content of `config.json`; options that it leaves out have
    diffusers' defaults. `clock` and `prediction` are those of its scheduler (`core.nets.native`),
    DDPM's by default.
    **Raises:** `UserError` for options that are not known, each by its name.
    """
    check_options(config, CLASS, FIXED)
    down = tuple(config.get("down_block_types", ()))
    up = tuple(config.get("up_block_types", ()))
    check_types(down, DOWN, "down_block_types")
    check_types(up, UP, "up_block_types")
    for option, known in CHANGES.items():
        if config.get(option, "conv") not in known:
            check_options(config, CLASS, {option: "conv"})
    scales = config.get("resnet_time_scale_shift", "default") == "scale_shift"
    if not scales:
        check_options(config, CLASS, {"resnet_time_scale_shift": "default"})
    if config.get("freq_shift", 0) not in (0, 1):
        check_options(config, CLASS, {"freq_shift": 0})
    groups = config.get("norm_num_groups", 32)
    first = shape_of(tensors, "conv_in.weight")
    label = "class_embedding.weight"
    found = DiffusersUNetConfig(
        channels=tuple(config.get("block_out_channels", (224, 448, 672, 896))),
        layers=config.get("layers_per_block", 2),
        down=down or ("DownBlock2D", *["AttnDownBlock2D"] * 3),
        up=up or (*["AttnUpBlock2D"] * 3, "UpBlock2D"),
        downsample=config.get("downsample_type", "conv"),
        upsample=config.get("upsample_type", "conv"),
        downsample_padding=config.get("downsample_padding", 1),
        head_channels=config.get("attention_head_dim", 8) or 0,
        groups=groups,
        middle_attention=config.get("add_attention", True),
        middle_groups=config.get("attn_norm_num_groups") or (0 if scales else groups),
        middle_divisor=float(config.get("mid_block_scale_factor", 1)),
        epsilon=config.get("norm_eps", 1e-5),
        scales=scales,
        cosine_first=config.get("flip_sin_to_cos", True),
        end_point=bool(config.get("freq_shift", 0)),
        clock=clock,
    )
    side = config.get("sample_size") or 2 ** (len(found.channels) - 1)
    high, wide = side if isinstance(side, list | tuple) else (side, side)
    classes = shape_of(tensors, label)[0] if label in tensors else 0
    table = table_for(found, classes, tensors)
    return Found(found, (high, wide, first[1]), classes, table, prediction)


def table_for(config: DiffusersUNetConfig, classes: int, tensors: Mapping[str, Tensor]) -> Table:
    """From our names to those of the file, of which older ones name attention in another way."""
    entries = dense("time_embedding.linear_1", "hidden")
    entries |= dense("time_embedding.linear_2", "embedded")
    if classes:
        entries["labels"] = take("class_embedding.weight")
    entries |= convolution("conv_in", "input") | convolution("conv_out", "output")
    entries |= norm("conv_norm_out", "norm")
    for n, name in enumerate(("first", "second")):
        entries |= _resnet(f"mid_block.resnets.{n}", f"middle.{name}")
    if config.middle_attention:
        place = "mid_block.attentions.0", "middle.attend"
        entries |= attention(tensors, *place, normed=config.middle_groups > 0)
    before = (config.channels[0], *config.channels)
    for i, size in enumerate(config.channels):
        sizes = [(before[i] if n == 0 else size, size) for n in range(config.layers)]
        entries |= _level(
            tensors, ("down", i), sizes, DOWN[config.down[i]], ("downsamplers", config.halves(i))
        )
    for i, sizes in enumerate(config.joined()):
        entries |= _level(
            tensors, ("up", i), sizes, UP[config.up[i]], ("upsamplers", config.doubles(i))
        )
    return Table(entries)


def _resnet(theirs: str, ours: str, changes: bool = False) -> dict[str, Entry]:
    return resnet(theirs, ours, embeds=True, changes=changes)


def _level(
    tensors: Mapping[str, Tensor],
    place: tuple[str, int],
    sizes: list[tuple[int, int]],
    attends: bool,
    change: tuple[str, str | None],
) -> dict[str, Entry]:
    """The entries of one level; `change` is the name of what ends it, and how it does."""
    way, i = place
    theirs, ours = f"{way}_blocks.{i}", f"{way}.{i}"
    entries: dict[str, Entry] = {}
    for n, (size_in, size_out) in enumerate(sizes):
        entries |= _resnet(f"{theirs}.resnets.{n}", f"{ours}.resnets.{n}", size_in != size_out)
        if attends:
            name = f"{theirs}.attentions.{n}", f"{ours}.attends.{n}"
            entries |= attention(tensors, *name)
    name, how = change
    if how == "resnet":
        entries |= _resnet(f"{theirs}.{name}.0", f"{ours}.change")
    elif how not in (None, "none"):
        entries |= convolution(f"{theirs}.{name}.0.conv", f"{ours}.change")
    return entries
