"""Equal budgets by operations, and where the compiler's count of them falls short."""

import math
from collections.abc import Iterator
from typing import Any

from core.errors import UserError

_PRODUCTS = ("dot_general", "conv_general_dilated")


def steps_for(flops: float, reference_flops: float, reference_steps: int) -> int:
    """Steps whose operations equal those of the reference, to the nearest whole step, at least 1.

    `flops` and `reference_flops` are operations of one step. Raises `UserError` where the compiler
    counted none.
    """
    if not all(math.isfinite(value) and value > 0 for value in (flops, reference_flops)):
        raise UserError(
            "the compiler for this device counts no operations; compare with --budget samples"
        )
    return max(1, round(reference_steps * reference_flops / flops))


def has_loop(jaxpr: Any) -> bool:
    """Whether a program (a `Jaxpr`) holds a loop with matrix products that runs more than once.

    A compiler's count of operations takes the body of a loop once, so for such a program it is too
    small. A scan that is unrolled as a whole is no loop.
    """
    return any(
        _repeats(equation) and any(_has_product(inner) for inner in _inner(equation))
        for equation in _equations(jaxpr)
    )


def _repeats(equation: Any) -> bool:
    if equation.primitive.name == "scan":
        return equation.params["length"] > equation.params["unroll"]
    return equation.primitive.name == "while"


def _has_product(jaxpr: Any) -> bool:
    return any(equation.primitive.name in _PRODUCTS for equation in _equations(jaxpr))


def _equations(jaxpr: Any) -> Iterator[Any]:
    """The equations of a program and of all programs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _inner(equation):
            yield from _equations(inner)


def _inner(equation: Any) -> Iterator[Any]:
    for value in equation.params.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                yield item
