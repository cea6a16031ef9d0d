"""Spaces by name, as data sets and runs say them."""

from core.errors import pick
from core.flow.rotations import SO3
from core.flow.space import Euclidean, Space
from core.flow.sphere import Sphere
from core.flow.torus import Torus
from core.registry import Registry

SPACES: Registry[Space] = Registry("space", {"sphere": Sphere(), "torus": Torus(), "so3": SO3()})
"""Spaces that are not flat by the name in `Dataset.space`; packages add their own."""


def space_of(name: str) -> Space:
    """The space of that name; flat space for an empty one. Raises `UserError`."""
    return pick(SPACES, name, "space") if name else Euclidean()
