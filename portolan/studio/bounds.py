"""How much one request may ask."""

import numpy as np

from portolan.model import Model

NUMBERS = 2**22
"""Numbers that are drawn at once, at most: examples times their size."""
MOST = 4096
"""Examples that are drawn at once, at most."""
MOST_STEPS = 64


def most_of(model: Model) -> int:
    """How many samples one request may ask."""
    return int(max(1, min(MOST, NUMBERS // np.prod(model.spec.shape))))
