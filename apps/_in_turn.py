"""Work on one method after the other: a meter that names it, and its programs let go after it."""

from collections.abc import Iterator, Mapping
from typing import TypeVar

import jax

from portolan.progress import Meter

T = TypeVar("T")


def in_turn(what: str, cases: Mapping[str, T]) -> Iterator[tuple[str, T]]:
    """The label and the case of each, with a meter where there are several."""
    with Meter(what, len(cases), shown=len(cases) > 1) as meter:
        for done, (label, case) in enumerate(cases.items()):
            meter.to(done, label)
            yield label, case
            jax.clear_caches()  # programs of all methods exceed the memory maps of a process
        meter.to(len(cases))
