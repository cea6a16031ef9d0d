"""Published autoencoders as codecs: in their model folder, or in a file beside latents."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float

from core.data.codec import Codec
from core.data.scale import Scale
from core.errors import UserError
from core.layouts.found import shaped
from core.layouts.table import Table, filled, names, take
from core.models.folder import open_autoencoder
from core.models.pretrained import PretrainedAutoencoder
from core.nets.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from core.tensors import sha256

ABOUT = "portolan-autoencoder-kl"
"""The entry of a file's metadata that says which autoencoder it holds."""


class KLCodec(eqx.Module):
    """An autoencoder with the scale at which networks see its latents."""

    net: AutoencoderKL
    scale: Scale = eqx.field(static=True)

    def encode(
        self, x: Float[Array, "height width channels"]
    ) -> tuple[Float[Array, "h w latent"], Float[Array, "h w latent"]]:
        """Mean and standard deviation of one image's latent, before it is scaled."""
        return self.net.encode(x)

    def decode(self, z: Float[Array, "h w latent"]) -> Float[Array, "height width channels"]:
        """The image of one latent that is not scaled."""
        return self.net.decode(z)


def scale_of(scaling: Mapping[str, Any], channels: int) -> Scale:
    """From latents to what networks see, by the names of diffusers' configuration.

        network = (latent - shift) scaling_factor / latents_std

    where `shift` is `latents_mean` or `shift_factor`. None of them is no scale.
    """
    if not scaling:
        return Scale()

    def each(name: str, default: float) -> np.ndarray:
        given = scaling.get(name)
        return np.resize(np.asarray(default if given is None else given, float), channels)

    shift = each("latents_mean", 0.0) if "latents_mean" in scaling else each("shift_factor", 0.0)
    spread = each("latents_std", 1.0) / each("scaling_factor", 1.0)
    found = Scale(tuple(map(float, shift)), tuple(map(float, spread)))
    if not found.fits(channels):
        raise UserError(f"the scaling of latents is none: {dict(scaling)}"[:300])
    return found


def codec_in_place(folder: str, latent: tuple[int, ...], pixels: tuple[float, ...] = ()) -> Codec:
    """The codec of a model folder for latents of a shape; `pixels` as those of `Codec`. Raises
    `UserError` where it holds no autoencoder, or one of other latents."""
    opened = open_autoencoder(folder)
    config = opened.config
    if config.latent_channels != latent[-1]:
        raise UserError(
            f"--vae {folder} has latents of {config.latent_channels} channels, and this network "
            f"makes {latent[-1]}; name the autoencoder that it was trained with"
        )
    shape = (*(config.factor * side for side in latent[:-1]), opened.depth)
    return Codec(folder, sha256(opened.file), shape, pixels)


def codec_of_folder(folder: Path) -> tuple[KLCodec, str]:
    """The autoencoder of a model folder, and the SHA-256 of its weights."""
    opened = open_autoencoder(folder)
    return _codec(opened.net, opened.scaling), sha256(opened.file)


def codec_bytes(opened: PretrainedAutoencoder) -> bytes:
    """An autoencoder as a safetensors file of its own, for latents to lie beside."""
    from safetensors.numpy import save

    config = {"channels": list(opened.config.channels), "depth": opened.depth}
    about = {**dataclasses.asdict(opened.config), **config, "scaling": dict(opened.scaling)}
    arrays = {name: np.asarray(leaf, np.float32) for name, leaf in names(opened.net).items()}
    return save(arrays, {ABOUT: json.dumps(about, sort_keys=True)})


def read_codec(file: Path) -> tuple[Any, str]:
    """The autoencoder in a file of `codec_bytes` or of `core.nets.vae.vae_bytes`, and the file's
    SHA-256. Raises `UserError` for anything else."""
    from safetensors import safe_open

    from core.nets.vae import read_vae

    try:
        with safe_open(file, "numpy") as opened:
            said = (opened.metadata() or {}).get(ABOUT)
            arrays = {} if said is None else {n: opened.get_tensor(n) for n in opened.keys()}
        if said is not None:
            return _read(json.loads(said), arrays), hashlib.sha256(file.read_bytes()).hexdigest()
    except Exception as error:  # its readers raise nearly anything for damaged bytes
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file} holds no autoencoder, or a damaged one ({why}); copy it again")
    return read_vae(file), hashlib.sha256(file.read_bytes()).hexdigest()


def _read(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> KLCodec:
    depth, scaling = int(about.pop("depth")), about.pop("scaling")
    config = AutoencoderKLConfig(**{**about, "channels": tuple(about["channels"])})
    side = config.factor
    like = shaped(lambda key: config.build((side, side, depth), key=key))
    table = Table({name: take(name) for name in names(like)})
    return _codec(filled(like, table, arrays), scaling)


def _codec(net: AutoencoderKL, scaling: Mapping[str, Any]) -> KLCodec:
    return KLCodec(net, scale_of(scaling, net.config.latent_channels))
