"""How much one request may ask."""

import math

import numpy as np

from portolan.model import Model

NUMBERS = 2**22
"""Numbers that are drawn at once, at most: examples times their size."""
MOST = 4096
"""Examples that are drawn at once, at most."""
MOST_STEPS = 64
PARTICLES, ISLANDS = 256, 8
"""Particles of an island, at most, and islands of a steered draw."""


def most_of(model: Model) -> int:
    """How many samples one request may ask."""
    return int(max(1, min(MOST, NUMBERS // np.prod(model.spec.shape))))


def most_particles(model: Model) -> int:
    """How many particles an island of one request may have."""
    return int(max(2, min(PARTICLES, NUMBERS // (2 * ISLANDS * np.prod(model.spec.shape)))))


def most_nodes(model: Model, most: int) -> int:
    """How many times, `most` at most, a table may have, whose pairs are samples."""
    return max(2, min(most, (math.isqrt(8 * most_of(model) + 1) - 1) // 2))
