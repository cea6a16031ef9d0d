"""Points of curved and closed spaces in a user's files: what their columns are."""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Shaped

from core.data.checks import all_finite, one_of
from core.errors import UserError

SPACES = ("sphere", "torus", "so3")
"""Spaces that files are read for."""
Angles = Literal["auto", "degrees", "radians"]
ANGLES = ("auto", "degrees", "radians")
TOLERANCE = 1e-3
"""Unit vectors, quaternions and rotation matrices may be so far from their constraint."""
_COLUMNS = {
    "sphere": "latitude and longitude in degrees (n, 2) or unit vectors (n, 3) and more",
    "torus": "angles (n, d)",
    "so3": "unit quaternions w x y z (n, 4) or rotation matrices (n, 3, 3)",
}
_NAMES = {"sphere": "the sphere", "torus": "the torus", "so3": "SO(3)"}

Points = Float32[np.ndarray, "n dim"]


def words(space: str) -> str:
    """The name of a space within a sentence."""
    return "flat space" if not space else _NAMES.get(space, f"the space {space}")


def shape_in(space: str, shape: tuple[int, ...], where: Path | str) -> tuple[int, ...]:
    """The shape of a point of a space that a row of this shape is. Raises `UserError`."""
    one_of(space, SPACES, "--data.space")
    fits = {
        "sphere": len(shape) == 1 and shape[0] >= 2,
        "torus": len(shape) == 1 and shape[0] >= 1,
        "so3": shape in ((4,), (3, 3)),
    }
    if not fits[space]:
        raise UserError(
            f"{where}: rows of shape {shape}, where --data.space {space} takes {_COLUMNS[space]}"
        )
    return {"sphere": (max(shape[0], 3),), "torus": shape, "so3": (4,)}[space]


def on_space(
    x: Shaped[np.ndarray, "n ..."], space: str, angles: str, where: Path | str
) -> tuple[Points, tuple[str, ...]]:
    """Rows of a file as points of a space, and notes for the user.

    Points of the sphere are unit vectors, of the torus angles in `[-pi, pi)`, of SO(3) unit
    quaternions `w x y z` with `w >= 0`. `angles` says what those of the torus are in; by default
    degrees where one is beyond a full turn in radians. Raises `UserError` for what is none.
    """
    one_of(angles, ANGLES, "--data.angles")
    shape_in(space, x.shape[1:], where)
    if len(x) == 0 or x.dtype.kind not in "fiu":
        raise UserError(f"{where}: {len(x)} rows of type {x.dtype}; give numbers, one row at least")
    values = all_finite(x.astype(np.float64), where)
    if angles != "auto" and space != "torus":
        raise UserError(
            f"--data.angles {angles} is for --data.space torus; leave it out: latitude and "
            "longitude are in degrees"
        )
    if space == "torus":
        return _on_torus(values, angles, where)
    if space == "sphere":
        found = _from_degrees(values, where) if values.shape[1] == 2 else _unit(values, where)
        return found.astype(np.float32), ()
    q = _unit(values, where) if values.ndim == 2 else _quaternions(values, where)
    return np.where(q[:, :1] < 0, -q, q).astype(np.float32), ()


def wrapped(angles: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """Angles in `[-pi, pi)`."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def _on_torus(
    values: Float[np.ndarray, "n d"], angles: str, where: Path | str
) -> tuple[Points, tuple[str, ...]]:
    largest = float(np.abs(values).max())
    notes: tuple[str, ...] = ()
    if angles == "auto":
        angles = "degrees" if largest > 2 * np.pi + TOLERANCE else "radians"
        notes = (f"angles taken as {angles}; --data.angles says otherwise",)
    turn = 360.0 if angles == "degrees" else 2 * np.pi
    if largest > turn + TOLERANCE:
        raise UserError(
            f"{where}: an angle of {largest:.6g} {angles} is beyond a full turn; give angles "
            f"from {-turn:.4g} to {turn:.4g}"
        )
    return wrapped(values * (2 * np.pi / turn)).astype(np.float32), notes


def _from_degrees(values: Float[np.ndarray, "n 2"], where: Path | str) -> np.ndarray:
    """Unit vectors of latitude and longitude: `(cos a cos b, cos a sin b, sin a)`."""
    bad = (np.abs(values[:, 0]) > 90 + TOLERANCE) | (np.abs(values[:, 1]) > 360 + TOLERANCE)
    if bad.any():
        k = int(bad.argmax())
        raise UserError(
            f"{where}: row {k} is latitude {values[k, 0]:.6g}, longitude {values[k, 1]:.6g}; give "
            "degrees, latitude (-90 to 90) first"
        )
    a, b = np.radians(values).T
    return np.stack([np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)], axis=1)


def _unit(values: Float[np.ndarray, "n d"], where: Path | str) -> np.ndarray:
    length = np.linalg.norm(values, axis=1)
    bad = np.abs(length - 1) > TOLERANCE
    if bad.any():
        k = int(bad.argmax())
        raise UserError(
            f"{where}: row {k} has length {length[k]:.6g}, not 1 ({int(bad.sum())} of "
            f"{len(values)} rows have another); divide each row by its length"
        )
    return values / length[:, None]


def _quaternions(values: Float[np.ndarray, "n 3 3"], where: Path | str) -> np.ndarray:
    """Unit quaternions `w x y z` of rotation matrices."""
    from scipy.spatial.transform import Rotation

    off = np.abs(values @ np.moveaxis(values, 1, 2) - np.eye(3)).max(axis=(1, 2))
    bad = (off > TOLERANCE) | (np.linalg.det(values) < 0)
    if bad.any():
        raise UserError(
            f"{where}: row {int(bad.argmax())} is no rotation matrix ({int(bad.sum())} of "
            f"{len(values)} are none); give orthogonal matrices of determinant 1"
        )
    return np.roll(Rotation.from_matrix(values).as_quat(), 1, axis=1)
