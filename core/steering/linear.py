"""A tilt in the time and scale of the linear path, on which continuous-time steering is written."""

import dataclasses

from core.errors import require
from core.flow.change import MovedMap, restrict
from core.flow.path import LinearPath, gaussian
from core.steering.steering import Tilt


def on_linear(tilt: Tilt, method: str) -> Tilt:
    """The same tilt with its map on the linear path, for a method that moves by the velocity.

    Raises `UserError` for a map that knows only jumps to the data.
    """
    require(
        tilt.flow_map.two_times,
        f"{method} moves by the velocity, which this run has not learned; use smc, snis or slice",
    )
    path = tilt.flow_map.path
    if path == LinearPath():
        return tilt
    moved = MovedMap(flow_map=tilt.flow_map, path=restrict(LinearPath(), gaussian(path)))
    return dataclasses.replace(tilt, flow_map=moved)
