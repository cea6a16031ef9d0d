"""Data sets whose distribution has a closed form, so that the exact flow map is known."""

from collections.abc import Callable

from core.oracle.boxes import checkerboard
from core.oracle.mixture import eight_gaussians
from core.oracle.problem import Problem

KNOWN_DISTRIBUTIONS: dict[str, Callable[[], Problem]] = {
    "checkerboard": checkerboard,
    "eight-gaussians": eight_gaussians,
}
"""By the name of the data set."""
