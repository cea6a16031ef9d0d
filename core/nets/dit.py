"""A diffusion transformer with two times: patches, adaLN-zero blocks, a scan over the layers.

For images in square patches and for series in pieces of their length (`core.nets.patches`).
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError, require
from core.flow.condition import Condition
from core.flow.network import Network
from core.nets.attention import Implementation
from core.nets.dropout import Dropout, dropout
from core.nets.embeddings import Embedding, EmbeddingConfig, Encoding
from core.nets.initial import Normal, initialise, stack
from core.nets.layers import Dense, Dtype, Remat, cast, rematerialise
from core.nets.patches import (
    check_patches,
    cut,
    grid_of,
    joined,
    patch_size,
    sincos_positions,
)
from core.nets.transformer import Block, Readout

Positions = Literal["learned", "sincos", "rotary"]


@dataclass(frozen=True)
class DiTConfig(EmbeddingConfig):
    """Flags of the transformer for images and series. The defaults suit 8x8 images on a CPU."""

    patch: int = 2
    """Side of a patch in pixels; of series its length."""
    width: int = 64
    """Width of a token."""
    depth: int = 4
    """Number of blocks."""
    encoder_depth: int = 0
    """Blocks that see only the source time s and form an encoding that serves every target time;
    0: all blocks see both times."""
    heads: int = 4
    """Number of attention heads."""
    mlp_ratio: float = 4.0
    """Hidden width of the MLP in a block over the width of a token."""
    positions: Positions = "learned"
    """Position embeddings: learned, or fixed sines and cosines; rotary, of series and text: queries
    and keys are turned, so that a head sees distances."""
    neighbours: int = 0
    """Of series and text: places that a short convolution before each attention and MLP spans, an
    odd number; 0: none."""
    qk_norm: bool = True
    """Normalise queries and keys, which keeps derivatives of the attention bounded."""
    modulation_norm: bool = False
    """Normalise scales, shifts and gates too, and tokens by their root mean square alone, so that
    the output changes no faster than its inputs (TVM; sCM's double normalisation)."""
    head_depth: int = 0
    """Extra blocks of an auxiliary velocity head on the trunk, used in training only; 0: none."""
    context: int = 0
    """Tokens that tell the blocks times, label and guidance, in place of modulations; 0: none."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times, softmax, norms and output stay float32."""
    remat: Remat = "dots"
    """The activations that the backward pass recomputes: none (none), all but matrix products
    (dots), or all (full). On a CPU memory is slower than arithmetic: dots is faster than none."""
    dropout: float = 0.0
    """Share of the hidden numbers of the blocks' MLPs that are dropped in training, drawn for each
    row of a batch by itself; none in targets, teachers and samples."""
    unroll: int = 1
    """How many blocks a step of the layer loop holds; depth means no loop."""
    attention: Implementation = "xla"
    """xla (the formula), blockwise (memory that grows with the tokens, not with their square),
    pallas (the same by kernels for GPU and TPU), auto (blockwise for long sequences)."""
    wide_readout: bool = False
    """Compute the last layer in float32 whatever the compute dtype: for logits."""

    def __post_init__(self):
        super().__post_init__()
        self.check_sizes(patch=1, width=1, depth=1, heads=1, unroll=1, mlp_ratio=0.01)
        self.check_sizes(encoder_depth=0, head_depth=0, context=0, neighbours=0)
        self.check_dropout(self.dropout)

    @property
    def rotary(self) -> bool:
        """Whether queries and keys are turned by their places."""
        return self.positions == "rotary"

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "DiT":
        """The network for images of `shape` (H, W, C) or series of `shape` (L, C). Raises
        `UserError` where that fails."""
        check_patches(shape, self.patch)
        if self.width % self.heads:
            raise UserError(
                f"{self.heads} heads do not divide width {self.width}: choose another --net.heads"
            )
        parts = 2 * len(shape) - 2
        if self.positions == "sincos" and self.width % parts:
            raise UserError(
                f"sincos positions need --net.width divisible by {parts}, not {self.width}"
            )
        if self.rotary and (len(shape) != 2 or self.width // self.heads % 2):
            raise UserError(
                "--net.positions rotary is for series and text, and turns pairs of channels: "
                "--net.width over --net.heads must be even"
            )
        if self.neighbours:
            self._check_neighbours(shape)
        self.check_encoder(self.encoder_depth, self.depth)
        if self.context and self.encoder_depth:
            raise UserError(
                "--net.context tells all blocks the same: leave out --net.encoder-depth"
            )
        return initialise(lambda normal: DiT(shape, num_classes, self, normal=normal), key)

    def _check_neighbours(self, shape: tuple[int, ...]) -> None:
        require(len(shape) == 2, "--net.neighbours is for series and text: leave it out")
        require(self.neighbours % 2 == 1, f"--net.neighbours must be odd, got {self.neighbours}")
        require(
            not self.context, "--net.neighbours joins tokens of the data: leave out --net.context"
        )


class DiT(Network):
    """`N(x, s, t, cond)` of one image or series; zero at the start of training.

    An image `x` has shape (H, W, C), a series (L, C).

    With `encoder_depth = d > 0` the network is decoupled: the first `d` blocks receive
    `(s, cond)`, the other blocks and the readout `(t, cond)`, by the same embedder of one time,

        N(x, s, t, cond) = decode(encode(x, s, cond), t),

    so one encoding serves every target time and a derivative in `t` costs the decoder alone; one
    in `x` or `s` saves nothing. The parameters are those of the ordinary network, and on the
    diagonal `s = t` so are the values: a velocity network becomes a flow map as it stands.
    Source: Decoupled MeanFlow (arXiv 2510.24474).

    With `head_depth > 0` the method `with_head` also returns an auxiliary velocity `v`, read from
    the same trunk through `head_depth` blocks of its own; `__call__` does not compute it. In a
    decoupled network it is read from the encoding, so it is a function of `x` and `s` only.

    With `context > 0` times, label and guidance enter as so many tokens beside the patches, and the
    blocks' modulations are constants. Source: iMF (arXiv 2512.02012), in-context conditioning.
    """

    embedding: Embedding
    patches: Dense
    positions: Float[Array, "tokens width"] | None
    context: Dense | None
    blocks: Block | tuple[Block, ...]
    readout: Readout
    head_blocks: Block | None
    head_readout: Readout | None
    dropout: Dropout | None
    config: DiTConfig = eqx.field(static=True)

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int,
        config: DiTConfig,
        *,
        normal: Normal,
    ):
        width, pixels = config.width, patch_size(shape, config.patch)
        tokens = math.prod(grid_of(shape, config.patch))
        block = partial(_block, config)
        self.embedding = Embedding(width, num_classes, config, normal=normal)
        self.patches = Dense(2 * pixels if config.state else pixels, width, normal=normal)
        learned = config.positions == "learned"
        self.positions = 0.02 * normal(tokens, width) if learned else None
        self.context = (
            Dense(width, config.context * width, normal=normal) if config.context else None
        )
        self.blocks = stack(block, config.depth, normal)
        self.readout = Readout(pixels, config, normal=normal)
        headed = config.head_depth > 0
        self.head_blocks = stack(block, config.head_depth, normal) if headed else None
        self.head_readout = Readout(pixels, config, normal=normal) if headed else None
        self.dropout = dropout(config.dropout)
        self.config = config

    @property
    def has_head(self) -> bool:
        return self.config.head_depth > 0

    @property
    def last_weight(self) -> Any:
        return self.readout.output.weight

    @property
    def takes_guidance(self) -> bool:
        return self.config.guidance

    @property
    def decoupled(self) -> bool:
        return self.config.encoder_depth > 0

    def unstacked(self) -> "DiT":
        """The same network with the parameters of each block by themselves, for sampling one or a
        few examples at a time.

        In the loop over the layers a CPU copies each block's weights out of the arrays of all
        blocks; for one example that is about a tenth of the time. The price: a program of `depth`
        blocks is compiled, not of one. Not for training: nothing is recomputed, and checkpoints
        have stacked blocks.
        """
        if isinstance(self.blocks, tuple):
            return self
        return eqx.tree_at(lambda net: net.blocks, self, _apart(self.blocks, self.config.depth))

    def __call__(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*grid channels"]:
        if self.decoupled:
            return self.decode(self.encode(x, s, cond), t)
        h, e = self._trunk(x, s, t, cond)
        return self._read(self.readout, h, e, x)

    def encode(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Encoding:
        """The first `encoder_depth` blocks, given `(s, cond)`; `h` has shape (tokens, width).

        Raises `UserError` where the network is not decoupled.
        """
        if not self.decoupled:
            raise UserError("this network has no encoder: train one with --net.encoder-depth 2")
        e = self._embedded(s, cond)
        h = self._tokens(self.embedding.beside(x, cond), e)
        h = self._run(self._blocks(slice(self.config.encoder_depth)), h, e)
        return Encoding(h, cond, jax.ShapeDtypeStruct(x.shape, x.dtype))

    def decode(self, encoding: Encoding, t: Float[Array, ""]) -> Float[Array, "*grid channels"]:
        """The other blocks and the readout, given `(t, cond)`: `N(x, s, t, cond)`."""
        e = self._embedded(t, encoding.cond)
        h = self._run(self._blocks(slice(self.config.encoder_depth, None)), encoding.h, e, 1)
        return self._read(self.readout, h, e, encoding.like)

    def with_head(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*grid channels"], Float[Array, "*grid channels"]]:
        """`(V, v)`: the output and the velocity head, from one pass through the trunk.

        Raises `UserError` where the network has no head.
        """
        if self.head_blocks is None or self.head_readout is None:
            raise UserError("this network has no velocity head: train one with --net.head-depth 1")
        if self.decoupled:
            encoding, e = self.encode(x, s, cond), self._embedded(s, cond)
            h, V = encoding.h, self.decode(encoding, t)
        else:
            h, e = self._trunk(x, s, t, cond)
            V = self._read(self.readout, h, e, x)
        h_head = self._run(self.head_blocks, h, e, 2)
        return V, self._read(self.head_readout, h_head, e, x)

    def _trunk(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None,
    ) -> tuple[Float[Array, "tokens embed"], Float[Array, " embed"]]:
        e = cast(jax.nn.silu(self.embedding(s, t, cond)), self.config.dtype)
        h = self._tokens(self.embedding.beside(x, cond), e)
        if self.context is not None:
            context = cast(self.context, self.config.dtype)(e).reshape(self.config.context, -1)
            h = jnp.concatenate([context, h])  # and the modulations ignore e
        return self._run(self.blocks, h, e), e

    def _embedded(self, time: Float[Array, ""], cond: Condition | None) -> Float[Array, " embed"]:
        return cast(jax.nn.silu(self.embedding.single(time, cond)), self.config.dtype)

    def _tokens(
        self, x: Float[Array, "*grid channels"], e: Float[Array, " embed"]
    ) -> Float[Array, "tokens embed"]:
        side, dtype = self.config.patch, self.config.dtype
        patches = cut(x.astype(e.dtype), side)
        if self.config.rotary:
            return cast(self.patches, dtype)(patches)
        positions = self.positions
        if positions is None:
            table = sincos_positions(grid_of(x.shape, side), self.config.width)
            positions = jnp.asarray(table, e.dtype)
        return cast(self.patches, dtype)(patches) + cast(positions, dtype)

    def _blocks(self, layers: slice) -> Block | tuple[Block, ...]:
        if isinstance(self.blocks, tuple):
            return self.blocks[layers]
        return jax.tree.map(lambda parameter: parameter[layers], self.blocks)

    def _run(
        self,
        blocks: Block | tuple[Block, ...],
        h: Float[Array, "tokens embed"],
        e: Float[Array, " embed"],
        part: int = 0,
    ) -> Float[Array, "tokens embed"]:
        if isinstance(blocks, tuple):
            for block in cast(blocks, self.config.dtype):
                h = block(h, e)
            return h
        arrays, static = eqx.partition(cast(blocks, self.config.dtype), eqx.is_array)
        depth = jax.tree.leaves(arrays)[0].shape[0]
        unroll = min(self.config.unroll, depth)
        keys = None if self.dropout is None else self.dropout.keys(depth, part)

        def layer(h, of_layer):
            array, key = of_layer
            return eqx.combine(array, static)(h, e, key), None

        layer = rematerialise(layer, self.config.remat, in_scan=unroll < depth)
        return jax.lax.scan(layer, h, (arrays, keys), unroll=unroll)[0]

    def _read(
        self,
        readout: Readout,
        h: Float[Array, "tokens embed"],
        e: Float[Array, " embed"],
        like: Float[Array | jax.ShapeDtypeStruct, "*grid channels"],
    ) -> Float[Array, "*grid channels"]:
        h = h[self.config.context :]
        if self.config.wide_readout:
            return joined(
                readout(h.astype(like.dtype), e.astype(like.dtype)), like.shape, self.config.patch
            )
        pixels = cast(readout, self.config.dtype)(h, e).astype(like.dtype)
        return joined(pixels, like.shape, self.config.patch)


@eqx.filter_jit
def _apart(blocks: Block, depth: int) -> tuple[Block, ...]:
    return tuple(jax.tree.map(lambda p: p[layer], blocks) for layer in range(depth))


def _block(config: DiTConfig, normal: Normal) -> Block:
    return Block(config, normal=normal)
