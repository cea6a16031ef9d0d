"""What a converted network is called, for people."""

from typing import Any

from core.flow.path import Path
from core.layouts.autoencoder_kl import FoundAutoencoder
from core.layouts.found import Found
from core.models.kinds import Kind
from core.nets.edm2_unet import EDM2UNetConfig
from core.nets.edm_unet import EDMUNetConfig
from core.nets.imf_dit import IMFDiTConfig
from core.nets.official_dit import OfficialDiTConfig

SIZES = {
    (12, 384): "S", (12, 768): "B", (16, 1024): "M", (24, 1024): "L", (28, 1152): "XL",
}  # fmt: skip
IMF_SIZES = {(12, 768): "B", (24, 768): "M", (32, 1024): "L", (48, 1024): "XL"}
"""Letters of published transformers, by depth and width."""
EDM2_SIZES = {64: "XXS", 128: "XS", 192: "S", 256: "M", 320: "L", 384: "XL", 448: "XXL"}
FACTOR = 8
"""How many times smaller latents are, of the autoencoders that published networks are for."""
PREDICTED = {
    None: "velocity", "noise": "noise", "x_0": "clean example", "velocity": "v",
    "edm": "clean example behind EDM's preconditioning",
}  # fmt: skip


def title_of(kind: Kind, found: Found[Any] | FoundAutoencoder | None) -> str:
    """The network's name with its size, such as "SiT-XL/2"."""
    config = found.config if found is not None else None
    if isinstance(config, OfficialDiTConfig | IMFDiTConfig):
        sizes = IMF_SIZES if isinstance(config, IMFDiTConfig) else SIZES
        letter = sizes.get((config.depth, config.width))
        return f"{kind.title}-{letter}/{config.patch}" if letter else kind.title
    if isinstance(config, EDMUNetConfig):
        return f"{kind.title} {config.variant}"
    if isinstance(config, EDM2UNetConfig):
        letter = EDM2_SIZES.get(config.channels)
        return f"{kind.title}-{letter}" if letter else kind.title
    return kind.title


def place_of(kind: Kind, shape: tuple[int, ...]) -> str:
    """What the network draws: "256 px latents", "32 px images"."""
    high, wide, channels = shape
    if channels == 4 and kind.latents is not None and high == wide:
        return f"{FACTOR * high} px latents"
    if high == wide and channels in (1, 3):
        return f"{high} px images"
    return f"images of {high}x{wide}x{channels}"


def form_of(prediction: str | None, path: Path) -> str:
    """What the network gives, and on which path."""
    name = type(path).__name__.removesuffix("Path").lower()
    return f"teacher {PREDICTED[prediction]} on the {name} path"
