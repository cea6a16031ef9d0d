"""The autoencoder of latent diffusion: images to latents and back."""

from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.nets.convolutional import Conv, GroupNorm, Image, resample
from core.nets.diffusers_blocks import Middle, PlaceAttention, Resnet, halving
from core.nets.initial import Normal, initialise
from core.nets.layers import Dense

EPSILON = 1e-6
LEAST, MOST = -30.0, 20.0
"""Between which a log variance is clipped."""


@dataclass(frozen=True)
class AutoencoderKLConfig:
    """Sizes of the autoencoder, with those of Stable Diffusion."""

    channels: tuple[int, ...] = (128, 256, 512, 512)
    """Channels of each level; each but the first halves the resolution."""
    layers: int = 2
    """Residual blocks of a level of the encoder; one more in the decoder."""
    groups: int = 32
    """Groups of all norms."""
    latent_channels: int = 4
    """Channels of a latent."""
    attends: bool = True
    """Whether the middle of encoder and decoder has attention."""
    quant: bool = True
    """Whether a dense layer stands behind the encoder and before the decoder."""

    def build(self, shape: tuple[int, ...], *, key: Key[Array, ""]) -> "AutoencoderKL":
        """The autoencoder for images of `shape` (H, W, C). Raises `UserError` for others."""
        if len(shape) != 3 or shape[0] % self.factor or shape[1] % self.factor:
            raise UserError(
                f"the autoencoder is for images (H, W, C) whose sides {self.factor} divides, "
                f"got {shape}"
            )
        if any(size % self.groups for size in self.channels):
            raise UserError(f"{self.groups} groups do not divide the channels {self.channels}")
        return initialise(lambda normal: AutoencoderKL(shape[2], self, normal=normal), key)

    @property
    def factor(self) -> int:
        """How many times smaller a latent is."""
        return 2 ** (len(self.channels) - 1)


class Level(eqx.Module):
    """Residual blocks, and the convolution that changes the resolution: with stride 2 on the way
    down; on the way up over an image that is doubled before it."""

    resnets: tuple[Resnet, ...]
    change: Conv | None
    up: bool = eqx.field(static=True)

    def __call__(self, x: Image) -> Float[Array, "h w c"]:
        for resnet in self.resnets:
            x = resnet(x)
        if self.change is None:
            return x
        return self.change(resample(x, "up") if self.up else x)


class Half(eqx.Module):
    """Encoder or decoder: the middle stands behind the levels of the one, before those of the
    other."""

    input: Conv
    levels: tuple[Level, ...]
    middle: Middle
    norm: GroupNorm
    output: Conv
    up: bool = eqx.field(static=True)

    def __call__(self, x: Image) -> Float[Array, "h w c"]:
        h = self.input(x)
        for part in (self.middle, *self.levels) if self.up else (*self.levels, self.middle):
            h = part(h)
        return self.output(jax.nn.silu(self.norm(h)))


class AutoencoderKL(eqx.Module):
    """Images (H, W, C) in [-1, 1] to means and deviations of latents, and latents to images.

    Latents have the shape (H/f, W/f, latent channels), before any scaling for a diffusion model;
    log variances are clipped to [-30, 20]. Halving pads at the end.
    Source: latent diffusion (arXiv 2112.10752); the layers are those of diffusers' `AutoencoderKL`.
    """

    encoder: Half
    quant: Dense | None
    post_quant: Dense | None
    decoder: Half
    config: AutoencoderKLConfig = eqx.field(static=True)

    def __init__(self, depth: int, config: AutoencoderKLConfig, *, normal: Normal):
        latent, quant = config.latent_channels, config.quant
        self.encoder = _encoder(depth, config, normal)
        self.quant = Dense(2 * latent, 2 * latent, normal=normal) if quant else None
        self.post_quant = Dense(latent, latent, normal=normal) if quant else None
        self.decoder = _decoder(depth, config, normal)
        self.config = config

    def moments(
        self, x: Float[Array, "height width channels"]
    ) -> tuple[Float[Array, "h w latent"], Float[Array, "h w latent"]]:
        """Mean and log variance of the latent of one image."""
        h = self.encoder(x)
        mean, log_variance = jnp.split(h if self.quant is None else self.quant(h), 2, -1)
        return mean, jnp.clip(log_variance, LEAST, MOST)

    def encode(
        self, x: Float[Array, "height width channels"]
    ) -> tuple[Float[Array, "h w latent"], Float[Array, "h w latent"]]:
        """Mean and standard deviation of the latent of one image, as a codec has it."""
        mean, log_variance = self.moments(x)
        return mean, jnp.exp(log_variance / 2)

    def decode(self, z: Float[Array, "h w latent"]) -> Float[Array, "height width channels"]:
        """The image of one latent; not clipped."""
        return self.decoder(z if self.post_quant is None else self.post_quant(z))


def _encoder(depth: int, config: AutoencoderKLConfig, normal: Normal) -> Half:
    sizes = config.channels
    first = Conv(depth, sizes[0], normal=normal)
    levels, size = [], sizes[0]
    for i, wanted in enumerate(sizes):
        last = i == len(sizes) - 1
        resnets = _resnets(size, wanted, config.layers, config, normal)
        change = None if last else halving(wanted, "at the end", normal=normal)
        levels.append(Level(resnets, change, up=False))
        size = wanted
    norm = GroupNorm(size, groups=config.groups, epsilon=EPSILON)
    output = Conv(size, 2 * config.latent_channels, normal=normal)
    return Half(first, tuple(levels), _middle(size, config, normal), norm, output, up=False)


def _decoder(depth: int, config: AutoencoderKLConfig, normal: Normal) -> Half:
    sizes = config.channels[::-1]
    first = Conv(config.latent_channels, sizes[0], normal=normal)
    middle = _middle(sizes[0], config, normal)
    levels, size = [], sizes[0]
    for i, wanted in enumerate(sizes):
        last = i == len(sizes) - 1
        resnets = _resnets(size, wanted, config.layers + 1, config, normal)
        change = None if last else Conv(wanted, wanted, normal=normal)
        levels.append(Level(resnets, change, up=True))
        size = wanted
    norm = GroupNorm(size, groups=config.groups, epsilon=EPSILON)
    return Half(first, tuple(levels), middle, norm, Conv(size, depth, normal=normal), up=True)


def _resnets(
    size: int, wanted: int, count: int, config: AutoencoderKLConfig, normal: Normal
) -> tuple[Resnet, ...]:
    sizes = [size, *[wanted] * (count - 1)]
    how = {"groups": config.groups, "epsilon": EPSILON}
    return tuple(Resnet(one, wanted, 0, normal=normal, **how) for one in sizes)


def _middle(size: int, config: AutoencoderKLConfig, normal: Normal) -> Middle:
    how = {"groups": config.groups, "epsilon": EPSILON, "normal": normal}
    attend = PlaceAttention(size, 1, **how) if config.attends else None
    return Middle(Resnet(size, size, 0, **how), attend, Resnet(size, size, 0, **how))
