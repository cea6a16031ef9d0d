"""diffusers' `DiTTransformer2DModel`: DiT with an embedder of step and label in each block.

Positions are computed, not stored. The last frequency of its time features is 1e-4 itself, which
DiT's is not, and the norm before the MLP adds the configuration's `norm_eps`. Source: diffusers,
`models/transformers/dit_transformer_2d.py`.
"""

from collections.abc import Mapping

from core.layouts.dit import CLOCK, learned_variance, paired
from core.layouts.found import Found
from core.layouts.table import Table, Tensor, take
from core.layouts.transformers import (
    assumed,
    classes_of,
    clock_of,
    count_of,
    heads_of,
    side_of,
    sizes_of,
)
from core.layouts.transforms import first_channels, rows, torch_patches
from core.nets.official_dit import OfficialDiTConfig

BLOCK = "transformer_blocks.{}"
EMBED = f"{BLOCK}.norm1.emb"
NORM_EPS = 1e-5


def options_of(
    tensors: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    null_class: bool | None = True,
    side: int | None = None,
    norm_eps: float | None = None,
    clock: str | None = None,
    prediction: str | None = "noise",
) -> Found[OfficialDiTConfig]:
    """The network of these tensors: all that shapes tell is read from them. The others stand in
    `config.json` (`num_attention_heads`, `sample_size`, `norm_eps`) and in the configuration of the
    scheduler. Raises `UserError` where `heads` is needed or a key is missing."""
    width, channels, patch, _ = sizes_of(tensors, "pos_embed.proj.weight", 4)
    embed = EMBED.format(0)
    table_rows, _ = sizes_of(tensors, f"{embed}.class_embedder.embedding_table.weight", 2)
    _, features = sizes_of(tensors, f"{embed}.timestep_embedder.linear_1.weight", 2)
    hidden, _ = sizes_of(tensors, "transformer_blocks.0.ff.net.0.proj.weight", 2)
    heads, by_width = heads_of(width, heads)
    classes, null, by_rows = classes_of(table_rows, null_class)
    side, by_custom = side_of(patch, side)
    clock, by_clock = clock_of(clock, CLOCK)
    by_eps = f"norm_eps {NORM_EPS:g}" if norm_eps is None else ""
    config = OfficialDiTConfig(
        patch=patch,
        width=width,
        depth=count_of(tensors, "transformer_blocks."),
        heads=heads,
        mlp_ratio=hidden / width,
        times="s",
        clock=clock,
        frequencies=features // 2,
        end_point=True,
        null_class=null,
        own_embedders=True,
        mlp_eps=NORM_EPS if norm_eps is None else norm_eps,
    )
    out = sizes_of(tensors, "proj_out_2.weight", 2)[0] // patch**2
    table = table_for(patch, channels, learned_variance(out, channels))
    said = assumed(by_width, by_rows, by_custom, by_eps, by_clock)
    return Found(config, (side, side, channels), classes, table, prediction, said)


def table_for(patch: int, channels: int, out: int) -> Table:
    """The table of a network of this patch, for images of `channels`, `out` of the readout."""
    kept = first_channels(channels, out)
    entries = {
        "patches.weight": take("pos_embed.proj.weight", torch_patches(patch)),
        "patches.bias": take("pos_embed.proj.bias"),
        "conditioning.labels": take(f"{EMBED}.class_embedder.embedding_table.weight"),
        "readout.output.weight": take("proj_out_2.weight", kept),
        "readout.output.bias": take("proj_out_2.bias", kept),
    }
    for part in ("weight", "bias"):
        keys = tuple(f"{BLOCK}.attn1.to_{which}.{part}" for which in "qkv")
        entries[f"blocks.qkv.{part}"] = take(keys, rows(3))
    dense = {
        "conditioning.numbers.0.hidden": f"{EMBED}.timestep_embedder.linear_1",
        "conditioning.numbers.0.output": f"{EMBED}.timestep_embedder.linear_2",
        "blocks.modulation": f"{BLOCK}.norm1.linear",
        "blocks.merge": f"{BLOCK}.attn1.to_out.0",
        "blocks.up": f"{BLOCK}.ff.net.0.proj",
        "blocks.down": f"{BLOCK}.ff.net.2",
        "readout.modulation": "proj_out_1",
    }
    for ours, theirs in dense.items():
        entries |= paired(ours, theirs)
    return Table(entries)
