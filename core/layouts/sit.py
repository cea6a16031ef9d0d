"""SiT's files (torch): a velocity from noise to data on the linear path, time 1 - u.

Source: SiT (arXiv 2401.08740). Its keys are those of DiT (`core.layouts.dit`).
"""

from collections.abc import Mapping

from core.layouts.dit import layout_of
from core.layouts.found import Found
from core.layouts.table import Tensor
from core.layouts.transformers import clock_of
from core.nets.official_dit import OfficialDiTConfig

LICENCE = "MIT"
CLOCK = "reversed"


def options_of(
    tensors: Mapping[str, Tensor],
    *,
    heads: int | None = None,
    null_class: bool | None = None,
    clock: str | None = None,
) -> Found[OfficialDiTConfig]:
    """The network of these tensors: all that shapes tell is read from them.

    `clock` is "reversed" for files of the linear path, as published, "reversed_cosine" for GVP, and
    the prediction a velocity. Raises `UserError` where `heads` is needed or a key is missing.
    """
    by = clock_of(clock, CLOCK)
    return layout_of(tensors, clock=by, prediction=None, heads=heads, null_class=null_class)
