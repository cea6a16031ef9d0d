"""What a request asks, read within bounds: nothing that the browser says is believed."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from core.errors import require

Word = TypeVar("Word", bound=str)
SEED = 2**31 - 1
"""The largest seed."""


@dataclass(frozen=True)
class Fields:
    """The values of a request by name. Each method reads one, and raises `UserError` where it is
    of another type or out of bounds; a missing one is the default, where there is one."""

    values: Mapping[str, Any]

    def _of(self, name: str, default: Any) -> Any:
        found = self.values.get(name)
        found = default if found is None else found
        require(found is not None, f"{name} is missing")
        return found

    def whole(self, name: str, low: int, high: int, default: int | None = None) -> int:
        """A whole number from `low` to `high`."""
        found = self._of(name, default)
        good = isinstance(found, int) and not isinstance(found, bool) and low <= found <= high
        require(good, f"{name} must be a whole number from {low} to {high:,}")
        return found

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """A number from `low` to `high`."""
        found = self._of(name, default)
        good = isinstance(found, int | float) and not isinstance(found, bool)
        good = good and low <= found <= high  # whole numbers may be too large for a float
        require(good, f"{name} must be a number from {low:g} to {high:g}")
        return float(found)

    def numbers(self, name: str, most: int, low: float, high: float) -> list[float]:
        """One to `most` numbers from `low` to `high`."""
        found = self._of(name, None)
        good = isinstance(found, list) and 1 <= len(found) <= most
        require(good, f"{name} must be a list of 1 to {most:,} numbers")
        return [Fields({name: each}).number(name, low, high) for each in found]

    def word(self, name: str, known: Iterable[Word], default: Word | None = None) -> Word:
        """One of some words."""
        found, words = self._of(name, default), list(known)
        require(found in words, f"{name} must be one of {', '.join(words)}")
        return found

    def text(self, name: str, most: int, default: str | None = None) -> str:
        """A text of so many characters at most."""
        found = self._of(name, default)
        good = isinstance(found, str) and len(found) <= most
        require(good, f"{name} must be a text of {most} characters at most")
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        found = self._of(name, default)
        require(isinstance(found, bool), f"{name} must be true or false")
        return found

    def has(self, name: str) -> bool:
        """Whether there is such a value."""
        return self.values.get(name) is not None

    def inside(self, name: str) -> "Fields":
        """The values of an object within this one."""
        found = self._of(name, None)
        require(isinstance(found, dict), f"{name} must be an object")
        return Fields(found)
