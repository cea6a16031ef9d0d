"""Tables of the blocks of diffusers' convolutional networks."""

from collections.abc import Iterable, Mapping
from typing import Any

from core.errors import UserError
from core.layouts.edm import convolution, dense, norm, small
from core.layouts.table import Entry, Tensor, take
from core.layouts.transforms import pointwise, same

NAMES = {"q": "to_q", "k": "to_k", "v": "to_v", "merge": "to_out.0"}
OLD_NAMES = {"q": "query", "k": "key", "v": "value", "merge": "proj_attn"}
"""Names in files that are written before 2023."""


def resnet(theirs: str, ours: str, *, embeds: bool, changes: bool) -> dict[str, Entry]:
    """A residual block, maybe with an embedding, and with a short cut where channels change."""
    entries: dict[str, Entry] = {}
    for n in (1, 2):
        entries |= norm(f"{theirs}.norm{n}", f"{ours}.norm_{n}")
        entries |= convolution(f"{theirs}.conv{n}", f"{ours}.conv_{n}")
    if embeds:
        entries |= dense(f"{theirs}.time_emb_proj", f"{ours}.embed")
    if changes:
        entries |= small(f"{theirs}.conv_shortcut", f"{ours}.short")
    return entries


def attention(
    tensors: Mapping[str, Tensor], theirs: str, ours: str, *, normed: bool = True
) -> dict[str, Entry]:
    """Attention over places, by its names of today or by the older ones."""
    old = f"{theirs}.query.weight" in tensors
    entries = norm(f"{theirs}.group_norm", f"{ours}.norm") if normed else {}
    for name, their_name in (OLD_NAMES if old else NAMES).items():
        key = f"{theirs}.{their_name}"
        weight = tensors.get(f"{key}.weight")
        how = pointwise if weight is not None and len(weight.shape) == 4 else same
        entries[f"{ours}.{name}.weight"] = take(f"{key}.weight", how)
        entries[f"{ours}.{name}.bias"] = take(f"{key}.bias")
    return entries


def check_options(config: Mapping[str, Any], what: str, fixed: Mapping[str, Any]) -> None:
    """Raises `UserError` where an option of `config.json` has another value than the only one that
    is known; `fixed` by option, absent ones have it."""
    name = config.get("_class_name", what)
    if name != what:
        raise UserError(f"config.json is of {name}, not of {what}; choose another layout")
    for option, value in fixed.items():
        given = config.get(option, value)
        if given != value:
            raise UserError(f"{what} with {option} = {given!r} is not supported; {value!r} is")


def check_types(types: Iterable[str], known: Mapping[str, Any], option: str) -> None:
    """Raises `UserError` for a type of block that is not known."""
    for one in types:
        if one not in known:
            raise UserError(
                f"UNet2DModel with {option} {one!r} is not supported; {', '.join(known)} are"
            )
