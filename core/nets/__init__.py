"""Networks `N(x, s, t, cond)` of one example, and their configurations by name."""

from core.nets.attention import attention as attention
from core.nets.config import NetworkConfig as NetworkConfig
from core.nets.diffusers_unet import DiffusersUNet as DiffusersUNet
from core.nets.diffusers_unet import DiffusersUNetConfig as DiffusersUNetConfig
from core.nets.dit import DiT as DiT
from core.nets.dit import DiTConfig as DiTConfig
from core.nets.edm2_unet import EDM2UNet as EDM2UNet
from core.nets.edm2_unet import EDM2UNetConfig as EDM2UNetConfig
from core.nets.edm_unet import EDMUNet as EDMUNet
from core.nets.edm_unet import EDMUNetConfig as EDMUNetConfig
from core.nets.embeddings import Embedding as Embedding
from core.nets.embeddings import EmbeddingConfig as EmbeddingConfig
from core.nets.embeddings import sinusoid as sinusoid
from core.nets.imf_dit import IMFDiT as IMFDiT
from core.nets.imf_dit import IMFDiTConfig as IMFDiTConfig
from core.nets.mlp import MLP as MLP
from core.nets.mlp import MLPConfig as MLPConfig
from core.nets.official_dit import OfficialDiT as OfficialDiT
from core.nets.official_dit import OfficialDiTConfig as OfficialDiTConfig
from core.nets.unet import UNet as UNet
from core.nets.unet import UNetConfig as UNetConfig
from core.registry import Registry as Registry

NETS: Registry[type[NetworkConfig]] = Registry(
    "network",
    {
        "mlp": MLPConfig,
        "dit": DiTConfig,
        "unet": UNetConfig,
        "edm-unet": EDMUNetConfig,
        "edm2-unet": EDM2UNetConfig,
        "official-dit": OfficialDiTConfig,
        "imf-dit": IMFDiTConfig,
        "diffusers-unet": DiffusersUNetConfig,
    },
)
"""Configurations by the name that `--net` takes. Each has
`build(shape, num_classes, *, key) -> network`."""
