"""The path and the network of a run, by the space that its data lie in."""

from typing import Any

from jaxtyping import Array, Key

from core.data.spaces import words
from core.errors import require
from core.flow.interpolant import GeodesicPath, Interpolant
from core.flow.network import Network
from core.flow.path import PATHS
from core.nets.first_outputs import FirstOutputs
from core.spaces import space_of
from core.train.config import TrainConfig


def path_of(config: TrainConfig, space: str) -> Interpolant:
    """The path that the flags name in flat space, geodesics in a space of another name. Raises
    `UserError` where another path is named there."""
    if not space:
        return PATHS[config.path]()
    require(
        config.path == "linear",
        f"on {words(space)} the path is that of geodesics: leave out --path {config.path}",
    )
    require(
        config.coupling not in ("sinkhorn", "exact"),
        f"--coupling {config.coupling} takes distances in flat space: leave it out on "
        f"{words(space)}",
    )
    return GeodesicPath(manifold=space_of(space))


def network_of(
    flags: Any, path: Interpolant, shape: tuple[int, ...], classes: int, *, key: Key[Array, ""]
) -> Network:
    """A fresh network of these flags, for examples of a shape: in a space that is not flat it sees
    the features of a point, and returns what a tangent vector is made of."""
    seen, out = path.space.feature_shape(shape), path.space.output_shape(shape)
    net = flags.build(seen, classes, key=key)
    return net if seen == out else FirstOutputs(net, out[-1])
