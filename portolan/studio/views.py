"""Samples as a page draws them: tiles of bytes, points of a plane, a globe or a square, or text."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from core.data.spec import DataSpec
from core.errors import NotFinite, UserError
from core.report.planar import in_plane
from portolan.studio.session import BESIDE, Opened

View = Literal["tiles", "plane", "globe", "torus", "text"]


@dataclass(frozen=True)
class Shown:
    """What is drawn: arrays by name, and plain values. `tiles` are bytes `(n, high, wide, 1 or
    3)`, `points` `(n, 2)`, or `(n, 3)` on the globe; `texts` are strings."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    said: dict[str, Any] = field(default_factory=dict)

    def named(self, prefix: str) -> "Shown":
        """The same under names that begin with a prefix."""
        arrays = {f"{prefix}_{name}": x for name, x in self.arrays.items()}
        return replace(
            self, arrays=arrays, said={f"{prefix}_{name}": x for name, x in self.said.items()}
        )


def view_of(spec: DataSpec) -> View:
    """How examples of these data are drawn."""
    if spec.kind == "tokens":
        return "text"
    if spec.kind != "points":
        return "tiles"
    if spec.space == "torus" and spec.shape[0] >= 2:
        return "torus"
    sphere, rotations = ("sphere", 3), ("so3", 4)
    return "globe" if (spec.space, *spec.shape) in (sphere, rotations) else "plane"


def shown(run: Opened, x: Float[np.ndarray, " n *shape"]) -> Shown:
    """Network values as they are drawn. Raises `NotFinite` for such as are not finite."""
    spec = run.model.spec
    view = view_of(spec)
    if view == "text":
        return Shown(said={"texts": spec.texts(x)})
    drawn = spec.encode(x)
    if view == "tiles":
        return Shown({"tiles": drawn})
    if spec.space == "so3":
        from core.report.pictures.spheres import images_of_axes  # with Matplotlib

        return Shown({"points": images_of_axes(drawn)[0].astype(np.float32)})
    if view == "globe":
        return Shown({"points": drawn})
    if view == "torus":
        return Shown({"points": (drawn[:, :2] + np.pi) % (2 * np.pi) - np.pi})
    return Shown({"points": planar(run, drawn)})


def planar(run: Opened, points: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n 2"]:
    """Points in the units of the data as dots of the plane, as `core.report.planar` has them."""
    first = points
    if points.shape[1] > 2:
        try:
            first = run.model.spec.encode(run.examples(BESIDE))
        except UserError:
            pass
    *_, found = in_plane({"first": first, "shown": points}, run.model.spec).values()
    return np.asarray(found, np.float32)


def beside(run: Opened) -> Shown:
    """Points of the data, to lie behind those of samples; nothing where there are none, or where
    samples are no points."""
    if view_of(run.model.spec) not in ("plane", "globe", "torus"):
        return Shown()
    try:
        return shown(run, run.examples(BESIDE))
    except NotFinite:
        raise
    except UserError:  # the data are not at hand
        return Shown()


def limits(points: Float[np.ndarray, "n 2"]) -> list[float]:
    """`[left, right, bottom, top]` of a square of the plane around most of some points."""
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    centre, side = (low + high) / 2, max(float(np.max(high - low)), 1e-6) * 0.62
    return [float(v) for k in (0, 1) for v in (centre[k] - side, centre[k] + side)]
