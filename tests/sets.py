"""Which cases of a test are quick."""

from collections.abc import Iterable

import pytest


def some(cases: Iterable[str], *quick: str) -> list:
    """Parameters of a test: those named are in the quick set, all others in the slow one."""
    cases = list(cases)
    assert set(quick) <= set(cases), set(quick) - set(cases)
    slow = pytest.mark.slow
    return [name if name in quick else pytest.param(name, marks=slow) for name in cases]
