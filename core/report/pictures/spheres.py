"""Densities on the sphere: hemispheres seen from afar and a whole map; rotations by their axes."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from core.report.pictures._axes import shading
from core.report.pictures._page import (
    INK,
    MARGIN,
    SMALL,
    TEXT,
    TITLE,
    File,
    add_axes,
    new_page,
    save,
    text_height,
    wrap,
    write,
    write_title,
)

Panels = Mapping[str, Shaped[np.ndarray, "_ dim"]]

WIDTH = 4.0
"""Degrees: the standard deviation of the kernel by which points are smoothed."""
MOST = 5000
"""Points of a panel that are drawn, at most."""
_ROWS, _COLUMNS = 91, 181
_PIXELS = 260
_DISC, _SMALL_DISC, _MAP = 230, 150, 460
_GAP = 14
_COLOURS = "magma"


def globe_plot(panels: Panels, path: File, title: str | None = None) -> Path:
    """Draws each set of unit vectors `(n, 3)` in a row: the hemispheres around longitudes 0 and 180
    degrees in orthographic projection, and the whole sphere in Mollweide's, which keeps areas.

    Shading is the square root of the density, smoothed by a kernel of `WIDTH` degrees, on one scale
    for all panels, which ends at the 99.5th percentile of the first. Returns the path. **Raises:**
    `ValueError` if there are no panels or one is not `(n, 3)`.
    """
    _check(panels, 3)
    densities = [density_on_sphere(x) for x in panels.values()]
    top = _brightest(densities[0])
    wide = 2 * (_DISC + _GAP) + _MAP
    figure, rows = _rows(list(panels), wide, _DISC, title)
    for (left, y), density in zip(rows, densities):
        for k, longitude in enumerate((0, 180)):
            ax = add_axes(figure, left + k * (_DISC + _GAP), y, _DISC, _DISC)
            _hemisphere(ax, density, np.array([1.0 - 2 * k, 0, 0]), top)
            _below(
                figure, f"longitude {longitude}°", left + k * (_DISC + _GAP) + _DISC / 2, y + _DISC
            )
        _mollweide(figure, density, left + 2 * (_DISC + _GAP), y, top)
    return save(figure, path)


def rotations_plot(panels: Panels, path: File, title: str | None = None) -> Path:
    """Draws each set of rotations, unit quaternions w x y z `(n, 4)`, in a row: where they take the
    x, the y and the z axis, each on a sphere of its own, seen from both sides.

    The left disc of a pair is seen from the mean of the first panel's images, the right one from
    the other side. Shading as in `globe_plot`, on one scale for all. **Raises:** `ValueError` if
    there are no panels or one is not `(n, 4)`.
    """
    _check(panels, 4)
    centres = [_direction(y.mean(0)) for y in images_of_axes(next(iter(panels.values())))]
    found = [[density_on_sphere(y) for y in images_of_axes(q)] for q in panels.values()]
    top = _brightest(np.stack(found[0]))
    each = 2 * _SMALL_DISC + 4
    figure, rows = _rows(list(panels), 3 * each + 2 * 2 * _GAP, _SMALL_DISC, title)
    for (left, y), densities in zip(rows, found):
        for k, (axis, density, centre) in enumerate(zip("xyz", densities, centres)):
            start = left + k * (each + 2 * _GAP)
            for side in range(2):
                at = start + side * (_SMALL_DISC + 4)
                ax = add_axes(figure, at, y, _SMALL_DISC, _SMALL_DISC)
                _hemisphere(ax, density, (1 - 2 * side) * centre, top)
            _below(figure, f"image of the {axis} axis", start + each / 2, y + _SMALL_DISC)
    return save(figure, path)


def images_of_axes(q: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "3 n 3"]:
    """Where rotations take the three axes: the columns of their matrices."""
    w, x, y, z = (np.asarray(q, np.float64) / np.linalg.norm(q, axis=1, keepdims=True)).T
    return np.array([
        np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)], axis=1),
        np.stack([2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)], axis=1),
        np.stack([2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)], axis=1),
    ])  # fmt: skip


def density_on_sphere(
    x: Float[np.ndarray, "n 3"], width: float = WIDTH
) -> Float[np.ndarray, "rows columns"]:
    """Density of points on a grid of latitudes -90 to 90 and longitudes -180 to 180 degrees, in
    units of the uniform one, by the kernel `k / (1 - e^-2k) 2 e^(k (<x, y> - 1))`, `k` one over
    the square of the width in radians. The mean over the sphere is 1."""
    x = np.asarray(x, np.float64)
    x = x[np.isfinite(x).all(axis=1)][:MOST]
    kappa = 1 / np.radians(width) ** 2
    grid = _unit_vectors(np.linspace(-90, 90, _ROWS)[:, None], np.linspace(-180, 180, _COLUMNS))
    found = np.zeros(grid.shape[:2])
    for part in np.array_split(x, max(len(x) // 500, 1)):
        found += np.exp(kappa * (grid @ part.T - 1)).sum(-1)
    return found * 2 * kappa / (1 - np.exp(-2 * kappa)) / max(len(x), 1)


def _unit_vectors(
    latitude: Float[np.ndarray, "..."], longitude: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "... 3"]:
    a, b = np.broadcast_arrays(np.radians(latitude), np.radians(longitude))
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=-1)


def _check(panels: Panels, dim: int) -> None:
    if not panels or any(np.ndim(x) != 2 or np.shape(x)[1] != dim for x in panels.values()):
        raise ValueError(f"expected at least one panel, and points of shape (n, {dim}) in each")


def _brightest(density: np.ndarray) -> float:
    return float(np.percentile(density, 99.5))


def _rows(
    names: list[str], width: int, height: int, title: str | None
) -> tuple[Figure, list[tuple[int, int]]]:
    """A page with one row a panel, each under its name, and the left upper corners."""
    names = [wrap(name, TEXT, width) for name in names]
    top = MARGIN + (TITLE + 14 if title else 0)
    head = max(text_height(name, TEXT) for name in names) + 8
    step = head + height + SMALL + 18
    figure = new_page(width + 2 * MARGIN, top + len(names) * step)
    write_title(figure, title, MARGIN)
    corners = []
    for k, name in enumerate(names):
        y = top + k * step
        write(figure, name, MARGIN, y + head - 9, TEXT, "left", "baseline")
        corners.append((MARGIN, y + head))
    return figure, corners


def _below(figure: Figure, text: str, x: float, y: float) -> None:
    write(figure, text, x, y + 4, SMALL, "center", "top")


def _direction(x: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3"]:
    length = float(np.linalg.norm(x))
    return x / length if length > 1e-6 else np.array([1.0, 0, 0])


def _hemisphere(ax: Axes, density: np.ndarray, centre: np.ndarray, top: float) -> None:
    """The half of the sphere around a point, from infinitely far; north, or nearly, is up."""
    from scipy.ndimage import map_coordinates

    level = abs(centre[2]) < 0.999
    right = _direction(np.cross([0.0, 0, 1] if level else [-1.0, 0, 0], centre))
    up = np.cross(centre, right)
    y, z = np.meshgrid(np.linspace(-1, 1, _PIXELS), np.linspace(-1, 1, _PIXELS))
    inside = y**2 + z**2 <= 1
    x = np.sqrt(np.clip(1 - y**2 - z**2, 0, 1))
    seen = x[..., None] * centre + y[..., None] * right + z[..., None] * up
    latitude = np.degrees(np.arcsin(np.clip(seen[..., 2], -1, 1)))
    east = np.degrees(np.arctan2(seen[..., 1], seen[..., 0]))
    place = [(latitude + 90) / 180 * (_ROWS - 1), (east + 180) / 360 * (_COLUMNS - 1)]
    shown = np.where(inside, map_coordinates(density, place, order=1, mode="nearest"), np.nan)
    ax.imshow(
        shown, extent=(-1, 1, -1, 1), origin="lower", norm=shading(top), cmap=_COLOURS,
        interpolation="bilinear",
    )  # fmt: skip
    for line in _graticule():
        near = line @ centre > 0
        ax.plot(
            np.where(near, line @ right, np.nan), np.where(near, line @ up, np.nan),
            color="white", alpha=0.22, linewidth=0.6,
        )  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, 200)
    ax.plot(np.cos(turn), np.sin(turn), color=INK, linewidth=0.8)
    ax.set(xlim=(-1.02, 1.02), ylim=(-1.02, 1.02))
    ax.set_axis_off()


def _graticule() -> list[Float[np.ndarray, "n 3"]]:
    """Parallels and meridians, 30 degrees apart."""
    around, along = np.linspace(-180, 180, 181), np.linspace(-90, 90, 91)
    parallels = [_unit_vectors(np.array(float(a)), around) for a in range(-60, 61, 30)]
    return parallels + [_unit_vectors(along, np.array(float(b))) for b in range(-180, 180, 30)]


def _mollweide(figure: Figure, density: np.ndarray, left: int, top: int, most: float) -> None:
    wide, high = figure.bbox.size
    box = (left / wide, 1 - (top + _DISC) / high, _MAP / wide, _DISC / high)
    ax = figure.add_axes(box, projection="mollweide")
    longitude, latitude = (
        np.radians(np.linspace(-180, 180, _COLUMNS)),
        np.radians(np.linspace(-90, 90, _ROWS)),
    )
    ax.pcolormesh(
        longitude, latitude, density, norm=shading(most), cmap=_COLOURS, shading="gouraud",
        rasterized=True,
    )  # fmt: skip
    ax.grid(color="white", alpha=0.22, linewidth=0.6)
    ax.set(xticklabels=[], yticklabels=[])
    for spine in ax.spines.values():
        spine.set(color=INK, linewidth=0.8)
