"""The tables of a network of ours: by which names other programs know its layers."""

from typing import Any

from core.layouts import diffusers_dit, diffusers_unet, dit, edm, imf
from core.layouts.table import Table
from core.nets.diffusers_unet import DiffusersUNet
from core.nets.edm_unet import EDMUNet
from core.nets.imf_dit import IMFDiT
from core.nets.official_dit import OfficialDiT


def table_of(network: Any, shape: tuple[int, ...]) -> Table | None:
    """The table of this network for examples of `shape`; None of one that nobody published.

    Of a network of SiT's, DiT's and MeanFlow's form that of DiT. Only names of layers and how their
    rows lie are meant: channels of the readout may be others in a file.
    """
    channels = shape[-1]
    if isinstance(network, OfficialDiT):
        config = network.config
        make = diffusers_dit.table_for if config.own_embedders else dit.table_for
        return make(config.patch, channels, channels)
    if isinstance(network, IMFDiT):
        return imf.table_for(network.config.patch, network.config.velocity_head)
    if isinstance(network, EDMUNet):
        classes = 0 if network.label is None else network.label.weight.shape[-1]
        return edm.table_for(network.config, shape[0], classes, "")
    if isinstance(network, DiffusersUNet):
        classes = 0 if network.labels is None else network.labels.shape[0]
        return diffusers_unet.table_for(network.config, classes, {})
    return None
