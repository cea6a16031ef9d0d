"""The diffusion transformer as its authors and their successors publish it, with their weights.

One network for SiT, DiT, MeanFlow's DiT and diffusers' `DiTTransformer2DModel`; what differs among
them is an option. It differs from `core.nets.dit.DiT` in the embeddings of times and places, the
norms of queries and keys, and biases. `core.layouts` fills it from published files.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Asked, Network
from core.nets.attention import Implementation, attention
from core.nets.conditioning import Conditioning
from core.nets.initial import Normal, initialise, stack
from core.nets.later_inputs import Later, LaterInputs, PublishedConfig, unchanged
from core.nets.layers import Dense, Dtype, Remat, cast, layer_norm, run_layers
from core.nets.native import check_clock, in_native_times, unit_interval
from core.nets.patches import cut, grid_of, joined, patch_size
from core.nets.suited import suited

Times = Literal["s", "s,s-t"]
Positions = Literal["computed", "stored"]


@dataclass(frozen=True)
class OfficialDiTConfig(PublishedConfig):
    """Flags of the published transformer for images. The defaults suit 8x8 images on a CPU."""

    patch: int = 2
    """Side of a patch in pixels."""
    width: int = 64
    """Width of a token."""
    depth: int = 4
    """Number of blocks."""
    heads: int = 4
    """Number of attention heads."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP in a block over the width of a token."""
    times: Times = "s,s-t"
    """Which times the network sees, each through an embedder of its own: source and step, or the
    source alone (a velocity network: SiT, DiT)."""
    clock: str = "unit"
    """The times that it is given: unit, reversed, or the steps of discrete diffusion, such as
    'linear 0.0001 0.02 1000' (core.nets.native)."""
    frequencies: int = 128
    """Number of angular frequencies of each embedded time, from 1 down to about 1e-4."""
    end_point: bool = False
    """Whether the last frequency is 1e-4 itself, as in diffusers."""
    positions: Positions = "computed"
    """Fixed position embeddings of the papers: computed, or stored with the weights."""
    null_class: bool = True
    """Whether the label table has a row for no label."""
    own_embedders: bool = False
    """Each block embeds times and label by itself, as in diffusers; the readout takes the first."""
    mlp_eps: float = 1e-6
    """What the norm before the MLP adds to the variance."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times, softmax, norms and output stay float32."""
    remat: Remat = "dots"
    """The activations that the backward pass recomputes: none (none), all but matrix products
    (dots), or all (full)."""
    unroll: int = 1
    """How many blocks a step of the layer loop holds; depth means no loop."""
    attention: Implementation = "xla"
    """xla (the formula), blockwise (memory that grows with the tokens, not with their square),
    pallas (the same by kernels for GPU and TPU), auto (blockwise for long sequences)."""

    def __post_init__(self):
        self.check_sizes(patch=1, width=1, depth=1, heads=1, unroll=1, mlp_ratio=0.01)
        self.check_sizes(frequencies=2, mlp_eps=0)
        check_clock(self.clock)

    def as_student(self, predicts: str) -> Self:
        changes: dict[str, Any] = {"predicts": predicts, "second_time": self.times == "s"}
        return replace(self, **changes)

    def build(
        self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]
    ) -> "OfficialDiT":
        """The network for images of `shape` (H, W, C). Raises `UserError` where that fails."""
        check_image(shape, self.patch)
        check_heads(self.width, self.heads, 4)
        return initialise(lambda normal: OfficialDiT(shape, num_classes, self, normal=normal), key)


class OfficialBlock(eqx.Module):
    """Attention and MLP, each modulated by the embedding and gated.

        h = h + gate_1 attend(scale_1 norm(h) + shift_1),   h = h + gate_2 mlp(scale_2 norm(h) + ..)

    Source: DiT (arXiv 2212.09748), adaLN-zero; its order is shift, scale, gate of the attention,
    then of the MLP.
    """

    modulation: Dense
    qkv: Dense
    merge: Dense
    up: Dense
    down: Dense
    heads: int = eqx.field(static=True)
    mlp_eps: float = eqx.field(static=True)
    implementation: Implementation = eqx.field(static=True)

    def __init__(self, config: OfficialDiTConfig, *, normal: Normal):
        width, hidden = config.width, round(config.mlp_ratio * config.width)
        self.modulation = Dense(width, 6 * width, scale=0.0, normal=normal)
        self.qkv = Dense(width, 3 * width, normal=normal)
        self.merge = Dense(width, width, normal=normal)
        self.up = Dense(width, hidden, normal=normal)
        self.down = Dense(hidden, width, normal=normal)
        self.heads, self.mlp_eps = config.heads, config.mlp_eps
        self.implementation = config.attention

    def __call__(
        self, h: Float[Array, "tokens width"], e: Float[Array, " width"]
    ) -> Float[Array, "tokens width"]:
        modulation = jnp.split(self.modulation(e)[None], 6, axis=-1)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        h = h + gate_1 * self._attend(layer_norm(h) * (1 + scale_1) + shift_1)
        hidden = self.up(layer_norm(h, self.mlp_eps) * (1 + scale_2) + shift_2)
        return h + gate_2 * self.down(jax.nn.gelu(hidden))

    def _attend(self, h: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        split = jnp.split(self.qkv(h), 3, axis=-1)
        q, k, v = (x.reshape(x.shape[0], self.heads, -1) for x in split)
        return self.merge(attention(q, k, v, self.implementation).reshape(h.shape))


class OfficialReadout(eqx.Module):
    """From tokens to pixels of patches: modulated norm and a dense layer; zero at the start."""

    modulation: Dense
    output: Dense

    def __init__(self, pixels: int, width: int, *, normal: Normal):
        self.modulation = Dense(width, 2 * width, scale=0.0, normal=normal)
        self.output = Dense(width, pixels, scale=0.0, normal=normal)

    def __call__(
        self, h: Float[Array, "tokens width"], e: Float[Array, " width"]
    ) -> Float[Array, "tokens pixels"]:
        shift, scale = jnp.split(self.modulation(e)[None], 2, axis=-1)
        return self.output(layer_norm(h) * (1 + scale) + shift)


class OfficialDiT(Network):
    """`N(x, s, t, cond)` of one image (H, W, C): a velocity, or what the weights predict.

    With `times = "s"` the target time is not looked at: a network of one time, whose diagonal is
    all that it has. `native` receives times by the network's own clock; the call converts ours. The
    position table is fixed: its gradient is stopped, also where it is stored. Weights that were not
    published start as normal numbers of variance one over the inputs, modulations and readout as
    zero. Sources: DiT (arXiv 2212.09748), SiT (arXiv 2401.08740), MeanFlow (arXiv 2505.13447).
    """

    conditioning: Conditioning
    patches: Dense
    positions: Float[Array, "tokens width"] | None
    blocks: OfficialBlock
    readout: OfficialReadout
    later: LaterInputs
    config: OfficialDiTConfig = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], num_classes: int, config: OfficialDiTConfig, *, normal: Normal
    ):
        width, pixels = config.width, patch_size(shape, config.patch)
        conditioning = partial(_conditioning, config, num_classes)
        self.conditioning = (
            stack(conditioning, config.depth, normal)
            if config.own_embedders
            else conditioning(normal)
        )
        self.patches = Dense(pixels, width, normal=normal)
        table = paper_positions(grid_of(shape, config.patch), width)
        self.positions = jnp.asarray(table, jnp.float32) if config.positions == "stored" else None
        self.blocks = stack(partial(_block, config), config.depth, normal)
        self.readout = OfficialReadout(pixels, width, normal=normal)
        self.later = LaterInputs(width, config, normal=normal)
        self.config = config

    @property
    def last_weight(self) -> Any:
        return self.readout.output.weight

    @property
    def takes_guidance(self) -> bool:
        return self.config.guidance

    def suited(self, asked: Asked) -> Network:
        return suited(self, self.config.predicts, unit_interval(self.config.clock), asked)

    def __call__(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*grid channels"]:
        native = partial(self.native, later=lambda e: self.later(e, s, t, cond))
        return in_native_times(native, self.config.clock)(x, s, t, cond)

    def native(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
        later: Later = unchanged,
    ) -> Float[Array, "*grid channels"]:
        """The network as published, given times by its own clock: without a change of sign.

        `later` puts what came later into the conditioning vector.
        """
        config = self.config
        numbers = (s,) if config.times == "s" else (s, s - t)
        label = None if cond is None else cond.label

        def embedded(conditioning: Conditioning) -> Float[Array, " width"]:
            return cast(jax.nn.silu(later(conditioning(numbers, label))), config.dtype)

        first, blocks = self.conditioning, cast(self.blocks, config.dtype)
        if config.own_embedders:
            first = jax.tree.map(lambda parameter: parameter[0], first)
        e = embedded(first)
        h = self._tokens(x, e)
        run = partial(run_layers, remat=config.remat, unroll=config.unroll)
        if config.own_embedders:
            layers = (self.conditioning, blocks)
            h = run(layers, h, lambda layer, h: layer[1](h, embedded(layer[0])))
        else:
            h = run(blocks, h, lambda block, h: block(h, e))
        pixels = cast(self.readout, config.dtype)(h, e).astype(x.dtype)
        return joined(pixels, x.shape, config.patch)

    def _tokens(
        self, x: Float[Array, "*grid channels"], e: Float[Array, " width"]
    ) -> Float[Array, "tokens width"]:
        config = self.config
        positions = self.positions
        if positions is None:
            table = paper_positions(grid_of(x.shape, config.patch), config.width)
            positions = jnp.asarray(table, e.dtype)
        tokens = cast(self.patches, config.dtype)(cut(x.astype(e.dtype), config.patch))
        return tokens + cast(jax.lax.stop_gradient(positions), config.dtype)


def paper_positions(grid: tuple[int, ...], width: int) -> np.ndarray:
    """The position table of DiT, (places, width): `[sin, cos]` of the column, then of the row, with
    frequencies `10000^(-4 j / width)`. Its order is not that of `core.nets.patches`."""
    count = width // 4
    omega = 1e4 ** -(np.arange(count) / count)
    row, column = (place.reshape(-1, 1) * omega for place in np.indices(grid))
    return np.concatenate([np.sin(column), np.cos(column), np.sin(row), np.cos(row)], axis=1)


def check_image(shape: tuple[int, ...], patch: int) -> None:
    """Raises `UserError` for what are no images, or whose sides `patch` does not divide."""
    if len(shape) != 3:
        raise UserError(
            f"this network is for images (H, W, C), but the data have shape {shape}: use --net mlp "
            "or --net dit"
        )
    if any(size % patch for size in shape[:2]):
        raise UserError(
            f"patches of {patch} do not divide images of {shape[0]}x{shape[1]}: choose another "
            "--net.patch"
        )


def check_heads(width: int, heads: int, part: int) -> None:
    """Raises `UserError` unless `heads` and `part` divide `width`."""
    if width % heads:
        raise UserError(f"{heads} heads do not divide width {width}: choose another --net.heads")
    if width % part:
        raise UserError(f"this network needs a --net.width divisible by {part}, not {width}")


def _conditioning(config: OfficialDiTConfig, num_classes: int, normal: Normal) -> Conditioning:
    return Conditioning(
        config.width,
        num_classes,
        numbers=len(config.times.split(",")),
        frequencies=config.frequencies,
        end_point=config.end_point,
        null_class=config.null_class,
        normal=normal,
    )


def _block(config: OfficialDiTConfig, normal: Normal) -> OfficialBlock:
    return OfficialBlock(config, normal=normal)
