"""A check of an objective at the exact map, and how far an expected update is from zero."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Float

E0_BOUND = 4.0


@dataclass(frozen=True)
class Check:
    """One check: `value` must be at most `bound`, and that of the negative control above it.

    `biased`: the method is known not to hold there, so that the value is shown only.
    """

    name: str
    kind: str
    value: float
    bound: float
    control: float
    biased: bool = False

    @property
    def passed(self) -> bool:
        """Whether the check holds and its control fails, or the bias is a known one."""
        return self.biased or bool(self.value <= self.bound and self.control > self.bound)

    def to_json(self) -> dict[str, Any]:
        """All fields, and `passed`."""
        return {**asdict(self), "passed": self.passed}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Self:
        """What `to_json` gave, from a file, where null is infinity, or NaN in a check that did not
        pass. Raises `KeyError` where a field is missing."""
        null = math.inf if found["passed"] else math.nan
        values: dict[str, Any] = {}
        for item in fields(cls):
            value = found[item.name]
            values[item.name] = null if value is None else value
        return cls(**values)


def need_wide_floats() -> None:
    """Raises `ValueError` where floats are 32-bit."""
    if not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise ValueError("the oracle checks need 64-bit floats: use jax.enable_x64(True)")


def largest_score(gradients: Float[np.ndarray, "n count"]) -> float:
    """The largest `|mean| / standard error` over the columns; infinite where one is not finite."""
    if not np.isfinite(gradients).all():
        return float("inf")
    error = gradients.std(axis=0, ddof=1) / np.sqrt(len(gradients))
    mean = np.abs(gradients.mean(axis=0))
    rounding = 1e-12 * (1 + np.abs(gradients).max())
    return float(np.max(mean / np.maximum(error, rounding)))
