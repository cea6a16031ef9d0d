"""Defaults of a method's flags: one line a flag, for all kinds of data."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, TypeVar, get_args

Kind = Literal["points", "small-image", "image"]
KINDS: tuple[Kind, ...] = get_args(Kind)

T = TypeVar("T")


def by_kind(image: T, *, points: T | None = None, small_image: T | None = None) -> T:
    """The default of a plugin's field where it depends on the kind of data.

        power: float = by_kind(1.0, points=0.0, small_image=0.0)

    `image` is the field's default, and holds for every kind that is not given. A class that
    declares the field again decides it for all kinds.
    """
    given = {"points": points, "small-image": small_image}
    kinds = {kind: value for kind, value in given.items() if value is not None}
    field: Any = dataclasses.field(default=image, metadata={by_kind: kinds})
    return field


def defaults(cls: type[Any], kind: str) -> dict[str, Any]:
    """The fields of a dataclass whose default for this kind of data is not the field's default."""
    kinds: dict[str, Mapping[str, Any]] = {
        field.name: field.metadata.get(by_kind, {}) for field in dataclasses.fields(cls)
    }
    return {name: values[kind] for name, values in kinds.items() if kind in values}
