"""Names beside points: no name on another, none on a point, all inside the page."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_CLOSE = 8.0
_REACHES = (_CLOSE, 13.0, 20.0, 28.0, 38.0, 50.0, 64.0, 80.0, 98.0, 118.0, 140.0)
_DIRECTIONS = 24
_DOT = 6.0


@dataclass(frozen=True)
class Rectangle:
    """A rectangle in pixels, `y` upward."""

    left: float
    bottom: float
    width: float
    height: float

    def overlap(self, other: "Rectangle") -> float:
        """Area in common."""
        wide = min(self.left + self.width, other.left + other.width) - max(self.left, other.left)
        high = min(self.bottom + self.height, other.bottom + other.height)
        high -= max(self.bottom, other.bottom)
        return max(wide, 0.0) * max(high, 0.0)

    def nearest(self, x: float, y: float) -> tuple[float, float]:
        """The point of the rectangle that is nearest to `(x, y)`."""
        return (
            min(max(x, self.left), self.left + self.width),
            min(max(y, self.bottom), self.bottom + self.height),
        )


def place(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    page: Rectangle,
) -> list[Rectangle]:
    """Where the names of `points` go, given their `(width, height)`: near, and on nothing.

    One after another from the left, each takes the nearest free place, or the one that covers
    least where none is free. The same input gives the same places.
    """
    dots = [Rectangle(x - _DOT, y - _DOT, 2 * _DOT, 2 * _DOT) for x, y in points]
    taken: list[Rectangle] = []
    found: dict[int, Rectangle] = {}
    for index in sorted(range(len(points)), key=lambda i: (points[i], i)):
        options = _around(points[index], sizes[index])
        best = min(options, key=lambda option: _cost(option, [*dots, *taken], page))
        found[index] = best
        taken.append(best)
    return [found[index] for index in range(len(points))]


def is_close(point: tuple[float, float], name: Rectangle) -> bool:
    """Whether a name is so near its point that nobody needs a line between the two."""
    return math.dist(point, name.nearest(*point)) < 1.5 * _CLOSE


def _around(point: tuple[float, float], size: tuple[float, float]) -> list[Rectangle]:
    """Places around a point, the nearest first, and of those to the right first."""
    (x, y), (width, height) = point, size
    options = []
    for reach in _REACHES:
        for turn in sorted(range(_DIRECTIONS), key=lambda k: min(k, _DIRECTIONS - k)):
            angle = 2 * math.pi * turn / _DIRECTIONS
            along, up = math.cos(angle), math.sin(angle)
            left = x + reach * along - width * (1 - along) / 2
            bottom = y + reach * up - height * (1 - up) / 2
            options.append(Rectangle(left, bottom, width, height))
    return options


def _cost(option: Rectangle, taken: Sequence[Rectangle], page: Rectangle) -> float:
    outside = option.width * option.height - option.overlap(page)
    covered = sum(option.overlap(other) for other in taken)
    return round(10 * outside + covered, 3)  # so that places without rounding errors tie
