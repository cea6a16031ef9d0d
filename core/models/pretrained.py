"""What a model folder holds once it is open."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data.spec import DataSpec
from core.flow.flow_map import FlowMap
from core.flow.network import Callee, Network
from core.flow.path import CosinePath, LinearPath, VPPath, gaussian
from core.flow.path import Path as Ray
from core.layouts.edm import edm_map
from core.nets.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from core.nets.config import NetworkConfig
from core.nets.native import STEPS, flow_map_of


@dataclass(frozen=True)
class Pretrained:
    """A network that was trained elsewhere, converted into our own names.

    **Fields:** `kind`, the layout that it came from, such as "sit"; `net`, the network, with its
    `net_name` in `core.nets.NETS` and its `net_flags`; `flow_map`, the network as a map on the
    `path` of its own, in our times; `prediction` of the network (None: our velocity; "edm": EDM's
    preconditioning stands around it) and its `clock` (`core.nets.native`); `spec`, what it was
    trained on; `trained_without_null` where labels were never left out in training, so that it has
    no guidance by itself; `scaling` of latents where known; `source`, the content of `source.json`.
    """

    folder: Path
    kind: str
    title: str
    net: Network
    net_name: str
    net_flags: NetworkConfig
    flow_map: FlowMap
    prediction: str | None
    clock: str
    spec: DataSpec
    trained_without_null: bool
    scaling: Mapping[str, Any]
    licence: str
    source: Mapping[str, Any]

    @property
    def path(self) -> Ray:
        """The path that the map is on, inside the times that the network was trained for."""
        return gaussian(self.flow_map.path)


@dataclass(frozen=True)
class PretrainedAutoencoder:
    """An autoencoder from elsewhere; `scaling` by the names of diffusers' configuration, and `file`
    with its weights."""

    folder: Path
    file: Path
    net: AutoencoderKL
    config: AutoencoderKLConfig
    depth: int
    scaling: Mapping[str, Any]
    licence: str
    source: Mapping[str, Any]


def map_of(net: Callee, clock: str, prediction: str | None, data_std: float = 0.5) -> FlowMap:
    """The flow map of a network: on the path that it was trained on, where that is one of ours.

    Discrete diffusion lies on the variance-preserving path (the cosine schedule on the cosine
    path), whose times are nearly in proportion to its steps; the network is given the step of the
    state's own noise level, so that the schedule need not be that of the path.
    """
    if prediction == "edm":
        return edm_map(net, data_std)
    return flow_map_of(net, path_of(clock), clock, prediction)


def path_of(clock: str) -> Ray:
    """The path of a network of that clock."""
    kind = clock.split()[0]
    if kind in ("reversed_cosine", "squaredcos_cap_v2"):
        return CosinePath()
    return VPPath() if kind in STEPS else LinearPath()
