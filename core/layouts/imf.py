"""Improved MeanFlow's files (flax): an average velocity with guidance as an input.

Names as in `core.layouts.meanflow`. A file for sampling has no velocity head; where only the head's
readout is left, it is left out. Source: iMF (arXiv 2512.02012).
"""

from collections.abc import Mapping

from core.layouts.found import Found
from core.layouts.meanflow import LABELS, embedder, linear, patches
from core.layouts.table import Entry, Table, Tensor, take
from core.layouts.transformers import assumed, count_of, heads_of, side_of, sizes_of
from core.layouts.transforms import columns, transposed
from core.nets.imf_dit import IMFDiTConfig

LICENCE = "MIT"
TOKENS = {
    "labels": "class_tokens", "scale": "omega_tokens", "start": "t_min_tokens",
    "end": "t_max_tokens", "step": "time_tokens",
}  # fmt: skip
EMBEDDERS = {
    "scale": "omega_embedder", "start": "cfg_t_start_embedder", "end": "cfg_t_end_embedder",
    "step": "h_embedder",
}  # fmt: skip


def options_of(
    tensors: Mapping[str, Tensor], *, heads: int | None = None, side: int | None = None
) -> Found[IMFDiTConfig]:
    """The network of these tensors: all that shapes tell is read from them, the number of heads
    too; the `side` of the images is not. Raises `UserError` where a key is missing."""
    patch, _, channels, width = sizes_of(tensors, "x_embedder.proj.kernel", 4)
    label_rows, _ = sizes_of(tensors, LABELS, 2)
    features, _ = sizes_of(tensors, "h_embedder.mlp.layers_0._flax_linear.kernel", 2)
    (dim,) = sizes_of(tensors, "shared_blocks_0.attn.q_norm.kernel", 1)
    own, head = count_of(tensors, "u_heads_"), count_of(tensors, "v_heads_")
    heads, _ = heads_of(width, width // dim if heads is None else heads)
    side, by_custom = side_of(patch, side)
    config = IMFDiTConfig(
        patch=patch,
        width=width,
        depth=count_of(tensors, "shared_blocks_") + own,
        head_depth=own,
        velocity_head=head > 0,
        heads=heads,
        frequencies=features // 2,
    )
    table = table_for(patch, head > 0)
    shape = (side, side, channels)
    return Found(config, shape, label_rows - 1, table, None, assumed(by_custom))


def table_for(patch: int, headed: bool) -> Table:
    """The table of a network of this patch, with or without a velocity head."""
    entries = patches(patch) | {"labels": take(LABELS)}
    entries |= {f"tokens.{ours}": take(theirs) for ours, theirs in TOKENS.items()}
    for ours, theirs in EMBEDDERS.items():
        entries |= embedder(f"numbers.{ours}", theirs)
    entries |= _blocks("blocks", "shared_blocks_{}") | _blocks("own_blocks", "u_heads_{}")
    entries |= _readout("readout", "u_final_layer")
    if not headed:
        return Table(entries, left_out=("v_final_layer.*",))
    entries |= _blocks("head_blocks", "v_heads_{}") | _readout("head_readout", "v_final_layer")
    return Table(entries)


def _readout(ours: str, theirs: str) -> dict[str, Entry]:
    norm = {f"{ours}.norm": take(f"{theirs}.norm.kernel")}
    return norm | linear(f"{ours}.output", f"{theirs}.linear")


def _blocks(ours: str, theirs: str) -> dict[str, Entry]:
    qkv = tuple(f"{theirs}.attn.{part}_proj._flax_linear.kernel" for part in "qkv")
    up = tuple(f"{theirs}.mlp.{part}._flax_linear.kernel" for part in ("w1", "w3"))
    entries = {
        "norm": take(f"{theirs}.norm1.kernel"),
        "mlp_norm": take(f"{theirs}.norm2.kernel"),
        "qkv.weight": take(qkv, columns(3)),
        "q_scale": take(f"{theirs}.attn.q_norm.kernel"),
        "k_scale": take(f"{theirs}.attn.k_norm.kernel"),
        "merge.weight": take(f"{theirs}.attn.out_proj._flax_linear.kernel", transposed),
        "scale": take(f"{theirs}.attn_scale"),
        "up.weight": take(up, columns(2)),
        "down.weight": take(f"{theirs}.mlp.w2._flax_linear.kernel", transposed),
        "mlp_scale": take(f"{theirs}.mlp_scale"),
    }
    return {f"{ours}.{name}": entry for name, entry in entries.items()}
