"""A grid of small images, enlarged without blur."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from core.report.pictures._page import (
    MARGIN,
    TEXT,
    TITLE,
    File,
    new_page,
    save,
    text_height,
    text_width,
    wrap,
    write,
)

_SHORTEST = 80
_ROW_TITLE_WIDTH = 200
_TITLED_PAGE_WIDTH = 320


def image_grid(
    images: UInt8[np.ndarray, "n height width channels"],
    rows: int,
    cols: int,
    path: File,
    column_titles: Sequence[str] | None = None,
    row_titles: Sequence[str] | None = None,
    title: str | None = None,
    scale: int | None = None,
) -> Path:
    """Draws `rows * cols` images, row by row, every pixel a sharp square of `scale` pixels.

    `images` are uint8, `(rows * cols, H, W, C)` with 1 (grey) or 3 (RGB) channels. By default
    `scale` makes the longer side at least 80 pixels. Titles keep their size: they are wrapped at
    spaces, and columns move apart where one word is wider than an image. Returns the path.

    **Raises:** `ValueError` for another dtype or shape, a wrong number of titles or `scale < 1`.
    """
    heads, sides = list(column_titles or [""] * cols), list(row_titles or [""] * rows)
    _check(images, rows, cols, heads, sides)
    factor: int = math.ceil(_SHORTEST / max(images.shape[1:3])) if scale is None else scale
    if factor < 1:
        raise ValueError(f"expected a scale of at least 1, got {factor}")
    tiles = images.repeat(factor, axis=1).repeat(factor, axis=2)
    layout = _layout(tiles.shape[1], tiles.shape[2], heads, sides, title or "")

    figure = new_page(layout.width, layout.height)
    figure.figimage(_mosaic(tiles, layout), 0, 0, origin="upper")
    write(figure, layout.title, MARGIN, MARGIN, TITLE, "left", "top", bold=True)
    for column, text in enumerate(layout.heads):
        write(figure, text, layout.x.middle(column), layout.y.start - 9, TEXT, "center", "baseline")
    for row, text in enumerate(layout.sides):
        write(figure, text, layout.x.start - 10, layout.y.middle(row), TEXT, "right", "center")
    return save(figure, path)


@dataclass(frozen=True)
class _Cells:
    """Equal cells in a row, in pixels: the image of `size` sits in the middle of its cell."""

    start: int
    count: int
    size: int
    cell: int
    gap: int

    def middle(self, index: int) -> float:
        return self.start + index * (self.cell + self.gap) + self.cell / 2

    def image(self, index: int) -> slice:
        first = int(self.middle(index) - self.size / 2)
        return slice(first, first + self.size)

    @property
    def end(self) -> int:
        return self.start + self.count * (self.cell + self.gap) - self.gap


@dataclass(frozen=True)
class _Layout:
    x: _Cells
    y: _Cells
    heads: list[str]
    sides: list[str]
    title: str
    width: int

    @property
    def height(self) -> int:
        return self.y.end + MARGIN


def _layout(high: int, wide: int, heads: list[str], sides: list[str], title: str) -> _Layout:
    gap = max(2, min(high, wide) // 24)
    words = " ".join(heads).split()
    cell_width = max([wide] + [text_width(word, TEXT) + 10 - gap for word in words])
    heads = [wrap(text, TEXT, cell_width) for text in heads]
    sides = [wrap(text, TEXT, _ROW_TITLE_WIDTH) for text in sides]
    cell_height = max([high] + [text_height(text, TEXT) + 6 - gap for text in sides])

    left = MARGIN + (max(text_width(text, TEXT) for text in sides) + 12 if any(sides) else 0)
    x = _Cells(left, len(heads), wide, cell_width, gap)
    width = max(x.end + MARGIN, _TITLED_PAGE_WIDTH if title else 0)
    title = wrap(title, TITLE, width - 2 * MARGIN, bold=True)
    top = MARGIN + (text_height(title, TITLE) + 10 if title else 0)
    top += max(text_height(text, TEXT) for text in heads) + 6 if any(heads) else 0
    y = _Cells(top, len(sides), high, cell_height, gap)
    return _Layout(x, y, heads, sides, title, width)


def _mosaic(
    tiles: UInt8[np.ndarray, "n high wide channels"], layout: _Layout
) -> UInt8[np.ndarray, "height width 3"]:
    page = np.full((layout.height, layout.width, 3), 255, np.uint8)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, layout.x.count)
        page[layout.y.image(row), layout.x.image(column)] = tile
    return page


def _check(
    images: np.ndarray, rows: int, cols: int, heads: Sequence[str], sides: Sequence[str]
) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"expected uint8 images (n, H, W, 1 or 3), got {images.dtype} {images.shape}"
        )
    if rows < 1 or cols < 1 or len(images) != rows * cols:
        raise ValueError(f"a grid of {rows} by {cols} cannot hold {len(images)} images")
    for titles, count, what in ((heads, cols, "columns"), (sides, rows, "rows")):
        if len(titles) != count:
            raise ValueError(f"got {len(titles)} titles for {count} {what}")
