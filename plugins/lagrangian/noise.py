"""Jumps that start at noise, and the base of data-free methods, which have no others."""

from dataclasses import dataclass

from core.methods.row_plugin import RowPlugin
from core.times.distributions import Point, Uniform
from core.times.pairs import OrderedPair, TimeSampler


def from_noise() -> TimeSampler:
    """From `s = 1` to any `t`: all the way of the whole jump. A rule that regresses the slope of
    `F` in `t` says nothing of `F` itself at one pair of times; it is the sum along the way."""
    return OrderedPair(Point(1.0), Uniform())


@dataclass(frozen=True)
class NoisePlugin(RowPlugin):
    """A method whose jumps start at `s = 1`: its map serves one evaluation."""

    needs_teacher = True
    most_nfe = 1

    full: float = 0.0
    uniform: float = 0.0

    def jump_times(self) -> TimeSampler:
        return from_noise()
