"""The U-Net of discrete diffusion as diffusers' `UNet2DModel` has it, with its weights."""

from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Asked, Network
from core.nets.conditioning import features
from core.nets.convolutional import Conv, GroupNorm, Image, resample
from core.nets.diffusers_blocks import Halving, Middle, PlaceAttention, Resnet, halving
from core.nets.initial import Normal, initialise
from core.nets.later_inputs import Later, LaterInputs, PublishedConfig, unchanged
from core.nets.layers import Dense, Dtype, Remat, cast, rematerialise
from core.nets.native import check_clock, native_time, unit_interval
from core.nets.noise_levels import one_hot
from core.nets.suited import suited

DOWN: dict[str, bool] = {
    "DownBlock2D": False, "AttnDownBlock2D": True, "ResnetDownsampleBlock2D": False,
}  # fmt: skip
UP: dict[str, bool] = {
    "UpBlock2D": False, "AttnUpBlock2D": True, "ResnetUpsampleBlock2D": False,
}  # fmt: skip
"""Types of levels, by diffusers' names, and whether their blocks have attention."""
Change = Literal["conv", "resnet"]


@dataclass(frozen=True)
class DiffusersUNetConfig(PublishedConfig):
    """Flags of diffusers' U-Net, by the names of its `config.json` where they are long."""

    channels: tuple[int, ...] = (128, 256, 256, 256)
    """Channels of each level; each but the first halves the resolution."""
    layers: int = 2
    """Residual blocks of a level on the way down; one more on the way up."""
    down: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D")
    """Types of the levels on the way down: DownBlock2D, AttnDownBlock2D (with attention),
    ResnetDownsampleBlock2D (halves by a residual block)."""
    up: tuple[str, ...] = ("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    """Types of the levels on the way up, the lowest resolution first."""
    downsample: Change = "conv"
    """How levels of type AttnDownBlock2D halve: by a convolution, or by a residual block."""
    upsample: Change = "conv"
    """The same for AttnUpBlock2D."""
    downsample_padding: int = 1
    """Zeros around an image that a convolution halves; 0 puts one row and column at the end."""
    head_channels: int = 8
    """Channels of an attention head; 0 for one head."""
    groups: int = 32
    """Groups of the norms."""
    middle_attention: bool = True
    """Whether the middle has attention."""
    middle_groups: int = 32
    """Groups of the norm before the middle's attention; 0 for no norm."""
    middle_divisor: float = 1.0
    """By what each sum of the middle is divided."""
    epsilon: float = 1e-5
    """What norms add to the variance."""
    scales: bool = False
    """Whether the embedding scales and shifts, or is added."""
    cosine_first: bool = True
    """Whether the noise's features are cosines, then sines, or the reverse."""
    end_point: bool = False
    """Whether the last frequency is 1e-4 itself (freq_shift 1)."""
    clock: str = "linear 0.0001 0.02 1000"
    """The times that it is given: the steps of discrete diffusion (core.nets.native)."""
    trained_without_null: bool = True
    """Whether labels were never left out in training: its table has no row for no label."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times, softmax, norms and output stay float32."""
    remat: Remat = "none"
    """The activations of each block that the backward pass recomputes: none, all but matrix
    products (dots; convolutions are computed again), or all (full)."""

    def __post_init__(self):
        self.check_sizes(channels=4, layers=1, groups=1, head_channels=0, middle_groups=0)
        check_clock(self.clock)
        if not len(self.channels) == len(self.down) == len(self.up) > 0:
            raise UserError("--net.channels, --net.down and --net.up need one value a level each")
        for option, types, known in (("down", self.down, DOWN), ("up", self.up, UP)):
            if set(types) - set(known):
                raise UserError(f"--net.{option} takes {', '.join(known)}, got {' '.join(types)}")
        uneven = [size for size in self.channels if size % self.groups]
        if uneven or self.channels[0] % 2:
            raise UserError(
                f"--net.groups {self.groups} must divide the channels {self.channels}, and the "
                "first must be even"
            )

    def build(
        self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]
    ) -> "DiffusersUNet":
        """The network for images of `shape` (H, W, C). Raises `UserError` for others."""
        step = 2 ** (len(self.channels) - 1)
        if len(shape) != 3 or shape[0] % step or shape[1] % step:
            raise UserError(
                f"this network of {len(self.channels)} levels is for images (H, W, C) whose sides "
                f"{step} divides, but the data have shape {shape}: use another --net"
            )
        return initialise(
            lambda normal: DiffusersUNet(shape, num_classes, self, normal=normal), key
        )

    def halves(self, level: int) -> Halving:
        """How a level ends on the way down."""
        kind = self.down[level]
        if level == len(self.channels) - 1:
            return "none"
        by_resnet = kind == "AttnDownBlock2D" and self.downsample == "resnet"
        if kind == "ResnetDownsampleBlock2D" or by_resnet:
            return "resnet"
        return "around" if self.downsample_padding else "at the end"

    def doubles(self, level: int) -> Change | None:
        """How a level ends on the way up, the lowest resolution first."""
        kind = self.up[level]
        if level == len(self.channels) - 1:
            return None
        by_resnet = kind == "AttnUpBlock2D" and self.upsample == "resnet"
        return "resnet" if kind == "ResnetUpsampleBlock2D" or by_resnet else "conv"

    def heads(self, channels: int) -> int:
        """Attention heads of so many channels."""
        return channels // self.head_channels if self.head_channels else 1

    def joined(self) -> list[list[tuple[int, int]]]:
        """Channels before and behind each residual block on the way up, level by level."""
        skips = [self.channels[0]]
        for i, size in enumerate(self.channels):
            skips += [size] * (self.layers + (i < len(self.channels) - 1))
        levels, size = [], self.channels[-1]
        for wanted in self.channels[::-1]:
            level = []
            for _ in range(self.layers + 1):
                level.append((size + skips.pop(), wanted))
                size = wanted
            levels.append(level)
        return levels


class Level(eqx.Module):
    """The blocks of one resolution, each with its attention or None, and what ends it."""

    resnets: tuple[Resnet, ...]
    attends: tuple[PlaceAttention | None, ...]
    change: Conv | Resnet | None


class DiffusersUNet(Network):
    """`N(x, s, t, cond)` of one image; `t` is looked at with `second_time` alone.

    Trained networks predict the noise or the like on variance-preserving states:
    `core.nets.native.Predicted`. No label and the null class add nothing. Source: DDPM (arXiv
    2006.11239), ADM (arXiv 2105.05233), as diffusers builds them.
    """

    hidden: Dense
    embedded: Dense
    labels: Float[Array, "classes embed"] | None
    input: Conv
    down: tuple[Level, ...]
    middle: Middle
    up: tuple[Level, ...]
    norm: GroupNorm
    output: Conv
    later: LaterInputs
    config: DiffusersUNetConfig = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        config: DiffusersUNetConfig,
        *,
        normal: Normal,
    ):
        first = config.channels[0]
        self.hidden = Dense(first, 4 * first, normal=normal)
        self.embedded = Dense(4 * first, 4 * first, normal=normal)
        self.labels = 0.02 * normal(num_classes, 4 * first) if num_classes else None
        self.input = Conv(shape[2], first, normal=normal)
        self.down = _down(config, normal)
        self.middle = _middle(config, normal)
        self.up = _up(config, normal)
        self.norm = GroupNorm(first, groups=config.groups, epsilon=config.epsilon)
        self.output = Conv(first, shape[2], scale=0.0, normal=normal)
        self.later = LaterInputs(4 * first, config, normal=normal)
        self.config = config

    @property
    def last_weight(self) -> Any:
        return self.output.weight

    @property
    def takes_guidance(self) -> bool:
        return self.config.guidance

    def suited(self, asked: Asked) -> Network:
        return suited(self, self.config.predicts, unit_interval(self.config.clock), asked)

    def __call__(
        self, x: Image, s: Float[Array, ""], t: Float[Array, ""], cond: Condition | None = None
    ) -> Image:
        later = lambda e: self.later(e, s, t, cond)  # noqa: E731
        return self.body(x, self.embed(native_time(self.config.clock, s), cond, later))

    def embed(
        self, step: Float[Array, ""], cond: Condition | None = None, later: Later = unchanged
    ) -> Float[Array, " embed"]:
        """The embedding of the native time, such as a step from 0, and of the label; float32.
        `later` puts what came later into it."""
        half = self.config.channels[0] // 2
        given = features(step, half, end_point=self.config.end_point)
        if not self.config.cosine_first:
            given = jnp.roll(given, half)
        e = self.embedded(jax.nn.silu(self.hidden(given)))
        if self.labels is None:
            return later(e)
        return later(e + one_hot(cond, self.labels.shape[0]) @ self.labels)

    def body(self, x: Image, e: Float[Array, " embed"]) -> Image:
        """The network for an embedding."""
        dtype, remat = self.config.dtype, self.config.remat
        parts = self.input, self.down, self.middle, self.up, self.norm, self.output
        first, down, middle, up, norm, output = cast(parts, dtype)
        run = rematerialise(lambda block, h, e: block(h, e), remat, in_scan=False)
        e = e.astype(jnp.bfloat16) if dtype == "bfloat16" else e
        h = first(x.astype(e.dtype))
        skips = [h]
        for level in down:
            for resnet, attend in zip(level.resnets, level.attends, strict=True):
                h = _attended(attend, run(resnet, h, e))
                skips.append(h)
            if level.change is not None:
                h = level.change(h, e) if isinstance(level.change, Resnet) else level.change(h)
                skips.append(h)
        h = run(middle, h, e)
        for level in up:
            for resnet, attend in zip(level.resnets, level.attends, strict=True):
                h = _attended(attend, run(resnet, jnp.concatenate([h, skips.pop()], -1), e))
            if isinstance(level.change, Resnet):
                h = level.change(h, e)
            elif level.change is not None:
                h = level.change(resample(h, "up"))
        return output(jax.nn.silu(norm(h))).astype(x.dtype)


def _attended(attend: PlaceAttention | None, h: Image) -> Image:
    return h if attend is None else attend(h)


def _resnet(config: DiffusersUNetConfig, size_in: int, size_out: int, normal: Normal, **how: Any):
    return Resnet(
        size_in,
        size_out,
        4 * config.channels[0],
        groups=config.groups,
        epsilon=config.epsilon,
        scales=config.scales,
        normal=normal,
        **how,
    )


def _attention(config: DiffusersUNetConfig, size: int, normal: Normal) -> PlaceAttention:
    how = {"groups": config.groups, "epsilon": config.epsilon}
    return PlaceAttention(size, config.heads(size), normal=normal, **how)


def _down(config: DiffusersUNetConfig, normal: Normal) -> tuple[Level, ...]:
    levels, size = [], config.channels[0]
    for i, wanted in enumerate(config.channels):
        sizes = [size, *[wanted] * (config.layers - 1)]
        resnets = tuple(_resnet(config, one, wanted, normal) for one in sizes)
        has = DOWN[config.down[i]]
        attends = tuple(_attention(config, wanted, normal) if has else None for _ in sizes)
        change, how = None, config.halves(i)
        if how == "resnet":
            change = _resnet(config, wanted, wanted, normal, how="down")
        elif how != "none":
            change = halving(wanted, how, normal=normal)
        levels.append(Level(resnets, attends, change))
        size = wanted
    return tuple(levels)


def _middle(config: DiffusersUNetConfig, normal: Normal) -> Middle:
    size, how = config.channels[-1], {"divisor": config.middle_divisor}
    attend = None
    if config.middle_attention:
        attend = PlaceAttention(
            size,
            config.heads(size),
            groups=config.middle_groups or None,
            epsilon=config.epsilon,
            normal=normal,
            **how,
        )
    first, second = (_resnet(config, size, size, normal, **how) for _ in range(2))
    return Middle(first, attend, second)


def _up(config: DiffusersUNetConfig, normal: Normal) -> tuple[Level, ...]:
    levels = []
    for i, sizes in enumerate(config.joined()):
        wanted, has = sizes[0][1], UP[config.up[i]]
        resnets = tuple(_resnet(config, *one, normal) for one in sizes)
        attends = tuple(_attention(config, wanted, normal) if has else None for _ in sizes)
        change, how = None, config.doubles(i)
        if how == "resnet":
            change = _resnet(config, wanted, wanted, normal, how="up")
        elif how == "conv":
            change = Conv(wanted, wanted, normal=normal)
        levels.append(Level(resnets, attends, change))
    return tuple(levels)
