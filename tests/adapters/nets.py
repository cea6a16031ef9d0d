"""Small networks of each kind with random weights, and random adapters around them."""

import equinox as eqx
import jax
import numpy as np

from core.adapters import adapted_shapes
from core.adapters.adapted import parts
from core.adapters.places import DEFAULT
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.nets import (
    DiffusersUNetConfig,
    DiTConfig,
    EDMUNetConfig,
    IMFDiTConfig,
    MLPConfig,
    OfficialDiTConfig,
    UNetConfig,
)
from tests.nets.randomised import noise, skeleton

SHAPE, POINT, CLASSES = (8, 8, 2), (2,), 3
DIT = OfficialDiTConfig(patch=4, width=16, depth=2, heads=2, frequencies=4)
CONFIGS = {
    "dit": DiTConfig(patch=4, width=16, depth=2, heads=2, frequencies=2),
    "unet": UNetConfig(channels=8, multipliers=(1, 2), attention=(4,), heads=1, frequencies=2),
    "mlp": MLPConfig(width=16, depth=3, frequencies=2),
    "sit": DIT,
    "diffusers-dit": OfficialDiTConfig(
        patch=4, width=16, depth=2, heads=2, frequencies=4, own_embedders=True, times="s"
    ),
    "imf": IMFDiTConfig(patch=4, width=16, depth=2, heads=2, frequencies=4, head_depth=1),
    "edm": EDMUNetConfig(channels=8, multipliers=(1,), blocks=1, attention=(8,), head_channels=4),
    "diffusers-unet": DiffusersUNetConfig(
        channels=(8,), layers=1, down=("AttnDownBlock2D",), up=("AttnUpBlock2D",), groups=4,
        middle_groups=4, head_channels=4, clock="linear 0.0001 0.02 1000",
    ),
}  # fmt: skip


def shape_of(name):
    return POINT if name == "mlp" else SHAPE


def base_of(name, key):
    """A map around a network with random weights."""
    net = noise(skeleton(CONFIGS[name], shape_of(name), CLASSES), key, 0.2)
    return AverageVelocityMap(net=net, path=LinearPath())


def changed(flow_map, key, *, rank=2, alpha=3.0, patterns=DEFAULT, scale=0.2):
    """The map with random adapters."""
    like = adapted_shapes(flow_map, patterns, rank=rank, alpha=alpha, rs=False)
    own = noise(parts(like), key, scale)
    leaves = {_name(path): leaf for path, leaf in _leaves(flow_map)}

    def fill(path, leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return leaves[_name(path).replace(".base.", ".")]

    return eqx.combine(own, jax.tree_util.tree_map_with_path(fill, eqx.filter(
        like, jax.tree.map(lambda part: part is None, own, is_leaf=lambda part: part is None)
    )))  # fmt: skip


def dense(A, B, scale):
    """The change of one layer, by NumPy."""
    return scale * np.einsum("or,ri->oi", np.asarray(B, np.float64), np.asarray(A, np.float64))


def _leaves(tree):
    return jax.tree_util.tree_leaves_with_path(tree)


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator=".")
