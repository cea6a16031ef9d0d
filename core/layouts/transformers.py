"""What files of transformers say about their networks, and what is assumed where they do not."""

import math
from collections.abc import Iterable, Mapping

from core.errors import UserError
from core.layouts.found import shape_of
from core.layouts.table import Tensor

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}
"""Attention heads of the published transformers by their width."""
LATENT_SIDE = 32
"""Side of the latents of images of 256 pixels."""


def sizes_of(tensors: Mapping[str, Tensor], key: str, axes: int) -> tuple[int, ...]:
    """The shape of a tensor. Raises `UserError` where it is missing or has other axes."""
    shape = shape_of(tensors, key)
    if len(shape) != axes or 0 in shape:
        raise UserError(f"{key} is {shape}, which has not {axes} axes: try another layout")
    return shape


def count_of(keys: Iterable[str], before: str, after: str = ".") -> int:
    """How many layers there are: one more than the largest number between `before` and `after`."""
    numbers = (key.removeprefix(before).split(after)[0] for key in keys if key.startswith(before))
    return max((int(number) + 1 for number in numbers if number.isdecimal()), default=0)


def heads_of(width: int, heads: int | None) -> tuple[int, str]:
    """The number of heads, given or by the published width, and what was assumed. Raises
    `UserError` where neither tells it."""
    if heads is not None:
        return heads, ""
    if width not in HEADS:
        raise UserError(
            f"the file does not tell how many attention heads there are, and no published network "
            f"has width {width}: give the number of heads"
        )
    return HEADS[width], f"{HEADS[width]} heads by the width {width}"


def side_of(patch: int, side: int | None, tokens: int | None = None) -> tuple[int, str]:
    """The side of images: by the tokens of a stored table, given, or that of published latents."""
    if tokens is not None:
        across = math.isqrt(tokens)
        if across * across != tokens:
            raise UserError(f"a table of {tokens} positions is of no square image")
        return across * patch, ""
    if side is not None:
        return side, ""
    return LATENT_SIDE, f"images of {LATENT_SIDE}x{LATENT_SIDE}"


def classes_of(rows: int, null_class: bool | None) -> tuple[int, bool, str]:
    """Classes, whether the label table has a row for none, and what was assumed."""
    if null_class is None:
        null_class = rows not in (10, 100, 1000)
        what = "the last of them for none" if null_class else "none of them for no label"
        return rows - null_class, null_class, f"{rows} rows of labels, {what}"
    return rows - null_class, null_class, ""


def assumed(*parts: str) -> str:
    """One line of what the file does not tell."""
    said = [part for part in parts if part]
    return f"not in the file, assumed: {', '.join(said)}" if said else ""
