"""The base of data-free methods: jumps start at noise, from a teacher."""

from dataclasses import dataclass

from core.methods.row_plugin import RowPlugin
from core.times.distributions import Point, Uniform
from core.times.pairs import OrderedPair, TimeSampler


@dataclass(frozen=True)
class NoisePlugin(RowPlugin):
    """A method whose jumps start at `s = 1`: its map serves one evaluation."""

    needs_teacher = True
    most_nfe = 1

    full: float = 0.0
    uniform: float = 0.0

    def jump_times(self) -> TimeSampler:
        return OrderedPair(Point(1.0), Uniform())
