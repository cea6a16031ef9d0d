"""Whether the precision of a network is enough for a method's differences of evaluations.

A difference of two evaluations over a small gap multiplies their rounding, as a term says by its
`amplification`. A network in bfloat16 rounds by about `2^-8`; the product of the two is the error
of the residual over its size, as `apps.check --dtype` measures it.
"""

from core.errors import require
from core.objectives.objective import Objective
from core.objectives.rows import RowObjective

ROUNDING = {"bfloat16": 2.0**-8, "float32": 2.0**-23}
"""The rounding of a network's output, over its size, by the dtype in which it computes."""
WORST = 0.25
"""The error over the signal beyond which a residual is noise."""


def amplification(objective: Objective) -> float:
    """The largest amplification of the kinds of rows; 1 where there are none."""
    if not isinstance(objective, RowObjective):
        return 1.0
    kinds = [kind for kind in objective.kinds if kind.share > 0]
    return max(kind.term.amplification(kind.step) for kind in kinds)


def check_precision(name: str, objective: Objective, dtype: str, *, exact: bool) -> None:
    """Raises `UserError` where a network of this dtype leaves nothing of the method's differences.

    `exact`: the method has an exact derivative to offer, `--plugin.derivative exact`.
    """
    if ROUNDING.get(dtype, 0.0) < 1e-6:
        return
    times = amplification(objective)
    error = ROUNDING[dtype] * times
    way = "--plugin.derivative exact, or --net.dtype float32" if exact else "--net.dtype float32"
    require(
        error <= WORST,
        f"{name} takes differences of two evaluations, which multiply rounding by {times:.0f}: "
        f"in {dtype} their error is {error:.1g} of the signal; use {way}",
    )
