"""A small variational autoencoder of images, and the one file that holds a trained one."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.nets.convolutional import resample
from core.nets.encoder import Block, Encoder, EncoderConfig
from core.nets.initial import Normal, initialise
from core.nets.layers import Dense

LOG_VARIANCES = (-20.0, 10.0)
"""Log-variances of the posterior are clipped to these."""


class VAE(eqx.Module):
    """`q(z | x) = N(mean, std^2)` on a grid of the encoder's coarsest level, and the way back.

    Residual blocks at each level, as in `core.nets.encoder`; nothing but `z` reaches the decoder.
    """

    encoder: Encoder
    moments: Dense
    start: Dense
    splits: tuple[Dense, ...]
    blocks: tuple[tuple[Block, ...], ...]
    output: Dense

    def __init__(
        self, shape: tuple[int, ...], channels: int, config: EncoderConfig, *, normal: Normal
    ):
        self.encoder = Encoder(shape, config, normal=normal)
        patch, count = config.plan(shape)
        widths = [config.width * 2**i for i in range(count)]
        self.moments = Dense(widths[-1], 2 * channels, normal=normal)
        self.start = Dense(channels, widths[-1], normal=normal)
        self.splits = tuple(Dense(b, a, normal=normal) for a, b in zip(widths, widths[1:]))
        self.blocks = tuple(
            tuple(Block(width, normal=normal) for _ in range(config.blocks + 1)) for width in widths
        )
        self.output = Dense(config.width, shape[2] * patch**2, normal=normal)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an image."""
        return self.encoder.shape

    def encode(
        self, x: Float[Array, "height width colours"]
    ) -> tuple[Float[Array, "h w c"], Float[Array, "h w c"]]:
        """The mean and the standard deviation of the posterior of one image in [-1, 1]."""
        mean, log_variance = jnp.split(self.moments(self.encoder.images(x)[-1]), 2, axis=-1)
        return mean, jnp.exp(jnp.clip(log_variance, *LOG_VARIANCES) / 2)

    def decode(self, z: Float[Array, "h w c"]) -> Float[Array, "height width colours"]:
        """The image of one latent."""
        h = self.start(z)
        for i in reversed(range(len(self.blocks))):
            for block in self.blocks[i]:
                h = block(h)
            if i > 0:
                h = self.splits[i - 1](resample(h, "up"))
        p = self.encoder.patch
        return rearrange(self.output(h), "h w (p q c) -> (h p) (w q) c", p=p, q=p)


def make_vae(
    shape: tuple[int, ...], channels: int, config: EncoderConfig, *, key: Key[Array, ""]
) -> VAE:
    """A fresh autoencoder. Raises `UserError` for data that are no images."""
    if len(shape) != 3:
        raise UserError(f"an autoencoder is for images (H, W, C), and the data have shape {shape}")
    return initialise(lambda normal: VAE(shape, channels, config, normal=normal), key)


def vae_bytes(vae: VAE, channels: int, config: EncoderConfig) -> bytes:
    """An autoencoder as a safetensors file of its own. The same weights give the same bytes."""
    from safetensors.numpy import save

    about = {"shape": list(vae.shape), "channels": channels, **dataclasses.asdict(config)}
    arrays = {name: np.asarray(leaf, np.float32) for name, leaf in _by_name(vae).items()}
    return save(arrays, {"portolan-vae": json.dumps(about, sort_keys=True)})


def read_vae(file: Path) -> VAE:
    """The autoencoder in a file of `vae_bytes`. Raises `UserError` for anything else."""
    from safetensors import safe_open

    try:
        with safe_open(file, "numpy") as opened:
            about = json.loads((opened.metadata() or {})["portolan-vae"])
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}
        config = EncoderConfig(about["width"], about["levels"], about["blocks"])
        shape, channels = tuple(about["shape"]), int(about["channels"])
        like = eqx.filter_eval_shape(lambda: make_vae(shape, channels, config, key=jr.key(0)))
        wanted = _by_name(like)
        leaves = [_fitting(arrays[name], leaf) for name, leaf in wanted.items()]
    except Exception as error:  # its readers raise nearly anything for damaged bytes
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file} holds no autoencoder, or a damaged one ({why}); copy it again")
    kept, static = eqx.partition(like, _is_array)
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(kept), leaves), static)


def _fitting(array: np.ndarray, leaf: Any) -> Array:
    if array.shape != leaf.shape:
        raise ValueError(f"shape {array.shape}, not {leaf.shape}")
    return jnp.asarray(array, leaf.dtype)


def _by_name(tree: Any) -> dict[str, Any]:
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, _is_array))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _is_array(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
