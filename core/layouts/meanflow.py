"""MeanFlow's files (flax): an average velocity of two times, guidance baked into the weights.

As DiT with `O = C`, without a position table, and with a second embedder for the step. Names are
those of the nested parameters joined by dots, without the level `net` in which all of them lie.
Time runs as ours. Source: MeanFlow (arXiv 2505.13447).
"""

from collections.abc import Mapping

from core.layouts.found import Found
from core.layouts.table import Entry, Table, Tensor, take
from core.layouts.transformers import assumed, classes_of, count_of, heads_of, side_of, sizes_of
from core.layouts.transforms import flax_patches, transposed
from core.nets.official_dit import OfficialDiTConfig

LICENCE = "MIT"
LABELS = "y_embedder.embedding_table._flax_embedding.embedding"


def options_of(
    tensors: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    null_class: bool | None = True,
    side: int | None = None,
) -> Found[OfficialDiTConfig]:
    """The network of these tensors: all that shapes tell is read from them, which the `side` of
    the images is not. Raises `UserError` where `heads` is needed or a key is missing."""
    patch, _, channels, width = sizes_of(tensors, "x_embedder.proj.kernel", 4)
    rows, _ = sizes_of(tensors, LABELS, 2)
    features, _ = sizes_of(tensors, "t_embedder.mlp.layers_0._flax_linear.kernel", 2)
    _, hidden = sizes_of(tensors, "blocks.layers_0.mlp.fc1._flax_linear.kernel", 2)
    heads, by_width = heads_of(width, heads)
    classes, null, by_rows = classes_of(rows, null_class)
    side, by_custom = side_of(patch, side)
    config = OfficialDiTConfig(
        patch=patch,
        width=width,
        depth=count_of(tensors, "blocks.layers_"),
        heads=heads,
        mlp_ratio=hidden / width,
        frequencies=features // 2,
        null_class=null,
    )
    said = assumed(by_width, by_rows, by_custom)
    return Found(config, (side, side, channels), classes, _table(patch), None, said)


def linear(ours: str, theirs: str, *, bias: bool = True) -> dict[str, Entry]:
    """A dense layer of flax."""
    found = {f"{ours}.weight": take(f"{theirs}._flax_linear.kernel", transposed)}
    return found | ({f"{ours}.bias": take(f"{theirs}._flax_linear.bias")} if bias else {})


def embedder(ours: str, theirs: str) -> dict[str, Entry]:
    """The embedder of a number."""
    first, second = (f"{theirs}.mlp.layers_{layer}" for layer in (0, 2))
    return linear(f"{ours}.hidden", first) | linear(f"{ours}.output", second)


def patches(patch: int) -> dict[str, Entry]:
    """The embedding of patches."""
    return {
        "patches.weight": take("x_embedder.proj.kernel", flax_patches(patch)),
        "patches.bias": take("x_embedder.proj.bias"),
    }


def _table(patch: int) -> Table:
    entries = patches(patch) | {"conditioning.labels": take(LABELS)}
    entries |= embedder("conditioning.numbers.0", "t_embedder")
    entries |= embedder("conditioning.numbers.1", "h_embedder")
    dense = {
        "blocks.modulation": "blocks.layers_{}.adaLN_modulation.layers_1",
        "blocks.qkv": "blocks.layers_{}.attn.qkv",
        "blocks.merge": "blocks.layers_{}.attn.proj",
        "blocks.up": "blocks.layers_{}.mlp.fc1",
        "blocks.down": "blocks.layers_{}.mlp.fc2",
        "readout.modulation": "final_layer.adaLN_modulation.layers_1",
        "readout.output": "final_layer.linear",
    }
    for ours, theirs in dense.items():
        entries |= linear(ours, theirs)
    return Table(entries)
