"""What files of transformers say about their networks, and what is assumed where they do not."""

import math
from collections.abc import Iterable, Mapping

from core.errors import UserError
from core.layouts.found import MOST_DIGITS, shape_of
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
    """How many layers there are: one more than the largest number between `before` and `after`.

    Raises `UserError` for more layers than keys: each would be asked for by its name.
    """
    keys = list(keys)
    parts = (key.removeprefix(before).split(after)[0] for key in keys if key.startswith(before))
    numbers = [part for part in parts if part.isascii() and part.isdigit()]
    count = max((int(part) + 1 for part in numbers if len(part) < MOST_DIGITS), default=0)
    if count > len(keys) or any(len(part) >= MOST_DIGITS for part in numbers):
        raise UserError(
            f"the weights name more layers behind {before!r} than they have tensors: get the file "
            "again"
        )
    return count


def heads_of(width: int, heads: int | None) -> tuple[int, str]:
    """The number of heads, given or by the published width, and what was assumed. Raises
    `UserError` where neither tells it."""
    if heads is not None:
        if heads < 1 or width % heads:
            raise UserError(
                f"--heads {heads} does not divide the network's width, which is {width}"
            )
        return heads, ""
    if width not in HEADS:
        raise UserError(
            f"the file does not tell how many attention heads there are, and no published network "
            f"has width {width}: give the number of heads as --heads"
        )
    return HEADS[width], f"{HEADS[width]} heads by the width {width} (--heads)"


def side_of(patch: int, side: int | None, tokens: int | None = None) -> tuple[int, str]:
    """The side of images: by the tokens of a stored table, given, or that of published latents."""
    if tokens is not None:
        across = math.isqrt(tokens)
        if across * across != tokens:
            raise UserError(f"a table of {tokens} positions is of no square image")
        return across * patch, ""
    if side is not None:
        if side < 1 or side % patch:
            raise UserError(f"--side {side} is no multiple of the network's patches of {patch}")
        return side, ""
    return LATENT_SIDE, f"images of {LATENT_SIDE}x{LATENT_SIDE} (--side)"


def classes_of(rows: int, null_class: bool | None) -> tuple[int, bool, str]:
    """Classes, whether the label table has a row for none, and what was assumed."""
    if null_class is None:
        null_class = rows not in (10, 100, 1000)
        what = "the last of them for none" if null_class else "none of them for no label"
        said = f"{rows} rows of labels, {what} (--null-class)"
        return rows - null_class, null_class, said
    return rows - null_class, null_class, ""


def clock_of(clock: str | None, default: str) -> tuple[str, str]:
    """The clock, given or that of published networks, and what was assumed."""
    return (default, f"the clock '{default}' (--clock)") if clock is None else (clock, "")


def assumed(*parts: str) -> str:
    """One line of what the file does not tell."""
    said = [part for part in parts if part]
    return f"not in the file, assumed: {', '.join(said)}" if said else ""
