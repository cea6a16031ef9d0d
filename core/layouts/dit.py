"""DiT's files (torch): the noise of discrete diffusion, given the step k.

| key | shape |
|---|---|
| `pos_embed` | (1, T, D) |
| `x_embedder.proj.*` | (D, C, p, p), (D) |
| `t_embedder.mlp.0.*`, `t_embedder.mlp.2.*` | (D, 256), (D); (D, D), (D) |
| `y_embedder.embedding_table.weight` | (K + 1, D); the last row is for no label |
| `blocks.i.attn.qkv.*`, `blocks.i.attn.proj.*` | (3D, D), (3D); (D, D), (D) |
| `blocks.i.mlp.fc1.*`, `blocks.i.mlp.fc2.*` | (4D, D), (4D); (D, 4D), (D) |
| `blocks.i.adaLN_modulation.1.*` | (6D, D), (6D) |
| `final_layer.adaLN_modulation.1.*`, `final_layer.linear.*` | (2D, D), (2D); (p p O, D), (p p O) |

`O` is C, or 2C with a learned variance, whose rows are left out. Source: DiT (arXiv 2212.09748).
"""

from collections.abc import Mapping

from core.errors import UserError
from core.layouts.found import Found
from core.layouts.table import Entry, Table, Tensor, take
from core.layouts.transformers import (
    assumed,
    classes_of,
    clock_of,
    count_of,
    heads_of,
    side_of,
    sizes_of,
)
from core.layouts.transforms import first_channels, torch_patches, without_batch
from core.nets.official_dit import OfficialDiTConfig

LICENCE = "CC BY-NC 4.0"
CLOCK = "linear 0.0001 0.02 1000"
BOTH = ("weight", "bias")


def options_of(
    tensors: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    null_class: bool | None = None,
    clock: str | None = None,
) -> Found[OfficialDiTConfig]:
    """The network of these tensors: all that shapes tell is read from them.

    Raises `UserError` where `heads` is needed or a key is missing.
    """
    by = clock_of(clock, CLOCK)
    return layout_of(tensors, clock=by, prediction="noise", heads=heads, null_class=null_class)


def layout_of(
    tensors: Mapping[str, Tensor],
    *,
    clock: tuple[str, str],
    prediction: str | None,
    heads: int | None,
    null_class: bool | None,
) -> Found[OfficialDiTConfig]:
    """The same for a clock, with what was assumed of it, and a prediction: SiT and DiT differ in
    these alone."""
    width, channels, patch, _ = sizes_of(tensors, "x_embedder.proj.weight", 4)
    _, places, _ = sizes_of(tensors, "pos_embed", 3)
    rows, _ = sizes_of(tensors, "y_embedder.embedding_table.weight", 2)
    hidden, _ = sizes_of(tensors, "blocks.0.mlp.fc1.weight", 2)
    _, features = sizes_of(tensors, "t_embedder.mlp.0.weight", 2)
    heads, by_width = heads_of(width, heads)
    classes, null, by_rows = classes_of(rows, null_class)
    side, _ = side_of(patch, None, places)
    config = OfficialDiTConfig(
        patch=patch,
        width=width,
        depth=count_of(tensors, "blocks."),
        heads=heads,
        mlp_ratio=hidden / width,
        times="s",
        clock=clock[0],
        frequencies=features // 2,
        positions="stored",
        null_class=null,
    )
    out = sizes_of(tensors, "final_layer.linear.weight", 2)[0] // patch**2
    return Found(
        config=config,
        shape=(side, side, channels),
        num_classes=classes,
        table=table_for(patch, channels, learned_variance(out, channels)),
        prediction=prediction,
        assumed=assumed(by_width, by_rows, clock[1]),
    )


def learned_variance(out: int, channels: int) -> int:
    """Channels of the readout: those of images, or twice as many. Raises `UserError` for others."""
    if out not in (channels, 2 * channels):
        raise UserError(
            f"the readout has {out} channels a pixel, images {channels}: neither these nor, with a "
            "learned variance, twice as many"
        )
    return out


def paired(ours: str, theirs: str) -> dict[str, Entry]:
    """A dense layer of torch."""
    return {f"{ours}.{part}": take(f"{theirs}.{part}") for part in BOTH}


def table_for(patch: int, channels: int, out: int) -> Table:
    """The table of a network of this patch, for images of `channels`, `out` of the readout."""
    kept = first_channels(channels, out)
    entries = {
        "positions": take("pos_embed", without_batch),
        "patches.weight": take("x_embedder.proj.weight", torch_patches(patch)),
        "patches.bias": take("x_embedder.proj.bias"),
        "conditioning.labels": take("y_embedder.embedding_table.weight"),
        "readout.output.weight": take("final_layer.linear.weight", kept),
        "readout.output.bias": take("final_layer.linear.bias", kept),
    }
    dense = {
        "conditioning.numbers.0.hidden": "t_embedder.mlp.0",
        "conditioning.numbers.0.output": "t_embedder.mlp.2",
        "blocks.modulation": "blocks.{}.adaLN_modulation.1",
        "blocks.qkv": "blocks.{}.attn.qkv",
        "blocks.merge": "blocks.{}.attn.proj",
        "blocks.up": "blocks.{}.mlp.fc1",
        "blocks.down": "blocks.{}.mlp.fc2",
        "readout.modulation": "final_layer.adaLN_modulation.1",
    }
    for ours, theirs in dense.items():
        entries |= paired(ours, theirs)
    return Table(entries)
