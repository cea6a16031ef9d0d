"""A page measured in pixels: text of known size, axes in boxes, and a PNG at the end."""

import os
from io import BytesIO
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from core.files import write_bytes

File = str | os.PathLike[str]

INK = "#222222"
MARGIN = 14
SMALL, TEXT, TITLE = 12, 14, 17

_DPI = 100
_FONT = "DejaVu Sans"
_LEADING = 1.35


def new_page(width: int, height: int) -> Figure:
    """An empty white page of `width` by `height` pixels."""
    # Half a pixel more: the canvas rounds down, and width / dpi * dpi may fall short of width.
    size = ((width + 0.5) / _DPI, (height + 0.5) / _DPI)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: int, top: int, width: int, height: int) -> Axes:
    """Axes in a box, in pixels from the left and the top of the page."""
    page_width, page_height = figure.bbox.size
    bottom = page_height - top - height
    box = (left / page_width, bottom / page_height, width / page_width, height / page_height)
    ax = figure.add_axes(box)
    ax.tick_params(which="both", labelsize=_points(SMALL), colors=INK, width=0.8, length=3)
    ax.set_axisbelow(True)
    for spine in ax.spines.values():
        spine.set(color=INK, linewidth=0.8)
    return ax


def write(
    figure: Figure,
    text: str,
    x: int | float,
    y: int | float,
    size: int,
    ha: str,
    va: str,
    bold: bool = False,
) -> None:
    """Writes at `x` pixels from the left and `y` from the top."""
    width, height = figure.bbox.size
    figure.text(
        x / width, 1 - y / height, text, ha=ha, va=va, color=INK, linespacing=_LEADING,
        fontproperties=font(size, bold), parse_math=False,
    )  # fmt: skip


def write_title(figure: Figure, title: str | None, left: int) -> None:
    """Writes a bold title of one line at the top of the page."""
    write(figure, title or "", left, MARGIN, TITLE, "left", "top", bold=True)


def font(pixels: int, bold: bool = False) -> FontProperties:
    """The one typeface, `pixels` high."""
    return FontProperties(family=_FONT, size=_points(pixels), weight="bold" if bold else "normal")


def text_width(text: str, pixels: int, bold: bool = False) -> int:
    """Width of the longest line in pixels."""
    face = FontProperties(family=_FONT, size=pixels, weight="bold" if bold else "normal")
    widths = [
        text_to_path.get_text_width_height_descent(line, face, ismath=False)[0]
        for line in text.split("\n")
    ]
    return int(max(widths)) + 1


def text_height(text: str, pixels: int) -> int:
    """Height of all lines in pixels."""
    return int(pixels * _LEADING * (text.count("\n") + 1))


def wrap(text: str, pixels: int, width: int, bold: bool = False) -> str:
    """Breaks `text` at spaces into lines of at most `width` pixels, where its words allow that."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, pixels, bold) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines)


def save(figure: Figure, path: File) -> Path:
    """Writes the page as a whole: nobody ever reads half a picture.

    Missing folders are made. Equal pages give equal bytes.
    """
    path = Path(path)
    buffer = BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    write_bytes(path, buffer.getvalue())
    return path


def _points(pixels: int) -> float:
    return pixels * 72 / _DPI
