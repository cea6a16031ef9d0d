"""diffusers' `AutoencoderKL`: `config.json` and its weights.

Source: diffusers, `models/autoencoders/autoencoder_kl.py` and `vae.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import UserError
from core.layouts.diffusers_blocks import attention, check_options, resnet
from core.layouts.edm import convolution, norm, small
from core.layouts.found import numbers, shape_of, shaped
from core.layouts.table import Entry, Table, Tensor, filled
from core.nets.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig

PARTS = {"encoder": "down_blocks", "decoder": "up_blocks"}
SCALING = ("scaling_factor", "shift_factor", "latents_mean", "latents_std")
"""Options that say how latents are scaled for a diffusion model."""


@dataclass(frozen=True)
class FoundAutoencoder:
    """The autoencoder of a file, for images of `depth` channels; `scaling` those of `SCALING` that
    `config.json` has; `table` fills it."""

    config: AutoencoderKLConfig
    depth: int
    scaling: Mapping[str, Any]
    table: Table

    def network(self, tensors: Mapping[str, Tensor]) -> AutoencoderKL:
        """The autoencoder with these numbers. Raises `UserError` where they are not of it."""
        side = self.config.factor
        shape = side, side, self.depth
        return filled(shaped(lambda key: self.config.build(shape, key=key)), self.table, tensors)


def options_of(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None = None
) -> FoundAutoencoder:
    """The autoencoder of these tensors.

    **Arguments:** `config` is the content of `config.json`; without it the sizes follow from
    shapes, and norms have 32 groups. **Raises:** `UserError` for blocks that are not known.
    """
    config = config or {}
    check_options(config, "AutoencoderKL", {"act_fn": "silu"})
    for option, known in (("down", "DownEncoderBlock2D"), ("up", "UpDecoderBlock2D")):
        for one in config.get(f"{option}_block_types", ()):
            if one != known:
                raise UserError(f"AutoencoderKL with {one!r} is not supported; {known!r} is")
    found = numbers(r"encoder\.down_blocks\.(\d+)\.", tensors)
    block = "encoder.down_blocks.{}.resnets.0.conv1.weight"
    sizes = tuple(shape_of(tensors, block.format(n))[0] for n in found)
    first = shape_of(tensors, "encoder.conv_in.weight")
    layers = len(numbers(r"encoder\.down_blocks\.0\.resnets\.(\d+)\.", tensors))
    middle = "encoder.mid_block.attentions.0.group_norm.weight"
    sizes_of = AutoencoderKLConfig(
        channels=sizes,
        layers=layers,
        groups=config.get("norm_num_groups", 32),
        latent_channels=shape_of(tensors, "decoder.conv_in.weight")[1],
        attends=middle in tensors,
        quant="quant_conv.weight" in tensors,
    )
    scaling = {name: config[name] for name in SCALING if config.get(name) is not None}
    return FoundAutoencoder(sizes_of, first[1], scaling, _table(sizes_of, tensors))


def _table(config: AutoencoderKLConfig, tensors: Mapping[str, Tensor]) -> Table:
    """From our names to those of the file, of which older ones name attention in another way."""
    entries: dict[str, Entry] = {}
    if config.quant:
        entries |= small("quant_conv", "quant") | small("post_quant_conv", "post_quant")
    for part in PARTS:
        entries |= convolution(f"{part}.conv_in", f"{part}.input")
        entries |= convolution(f"{part}.conv_out", f"{part}.output")
        entries |= norm(f"{part}.conv_norm_out", f"{part}.norm")
        entries |= _levels(config, part) | _middle(config, part, tensors)
    return Table(entries)


def _levels(config: AutoencoderKLConfig, part: str) -> dict[str, Entry]:
    up = part == "decoder"
    sizes = config.channels[::-1] if up else config.channels
    entries: dict[str, Entry] = {}
    for i, (before, size) in enumerate(zip((sizes[0], *sizes), sizes)):
        theirs, ours = f"{part}.{PARTS[part]}.{i}", f"{part}.levels.{i}"
        for n in range(config.layers + up):
            changes = n == 0 and before != size
            name = f"{theirs}.resnets.{n}", f"{ours}.resnets.{n}"
            entries |= resnet(*name, embeds=False, changes=changes)
        if i < len(sizes) - 1:
            change = "upsamplers" if up else "downsamplers"
            entries |= convolution(f"{theirs}.{change}.0.conv", f"{ours}.change")
    return entries


def _middle(
    config: AutoencoderKLConfig, part: str, tensors: Mapping[str, Tensor]
) -> dict[str, Entry]:
    theirs, ours = f"{part}.mid_block", f"{part}.middle"
    entries: dict[str, Entry] = {}
    for n, name in enumerate(("first", "second")):
        entries |= resnet(f"{theirs}.resnets.{n}", f"{ours}.{name}", embeds=False, changes=False)
    if config.attends:
        entries |= attention(tensors, f"{theirs}.attentions.0", f"{ours}.attend")
    return entries
