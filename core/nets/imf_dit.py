"""The transformer of improved MeanFlow: tokens in the place of modulations, rotary positions.

Source: iMF (arXiv 2512.02012) and its published weights (`core.layouts.imf`).
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Network
from core.nets.attention import Implementation, attention
from core.nets.conditioning import NumberEmbedder
from core.nets.config import NetworkConfig
from core.nets.embeddings import guidance_numbers
from core.nets.initial import Normal, initialise, stack
from core.nets.layers import Dense, Dtype, Remat, cast, rms_norm, run_layers
from core.nets.official_dit import check_heads, check_image
from core.nets.patches import cut, joined, patch_size
from core.nets.rotary import turned

COUNTS = {"labels": 8, "scale": 4, "start": 2, "end": 2, "step": 4}
"""Tokens before the patches, in this order: label, guidance (1 - 1/w, a, b), and s - t."""


@dataclass(frozen=True)
class IMFDiTConfig(NetworkConfig):
    """Flags of the transformer of improved MeanFlow. The defaults suit 8x8 images on a CPU."""

    patch: int = 2
    """Side of a patch in pixels."""
    width: int = 64
    """Width of a token."""
    depth: int = 4
    """Number of blocks that the output goes through."""
    head_depth: int = 2
    """How many of these are its own; as many more lead to the velocity head."""
    velocity_head: bool = True
    """Whether there is a velocity head, which training uses and sampling does not."""
    heads: int = 4
    """Number of attention heads."""
    frequencies: int = 128
    """Number of angular frequencies of each embedded number, from 1 down to about 1e-4."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, numbers, softmax, norms and output stay float32."""
    remat: Remat = "dots"
    """The activations that the backward pass recomputes: none (none), all but matrix products
    (dots), or all (full)."""
    unroll: int = 1
    """How many blocks a step of the layer loop holds; depth means no loop."""
    attention: Implementation = "xla"
    """xla (the formula), blockwise (memory that grows with the tokens, not with their square),
    pallas (the same by kernels for GPU and TPU), auto (blockwise for long sequences)."""

    def __post_init__(self):
        self.check_sizes(patch=1, width=1, depth=2, head_depth=1, heads=1, unroll=1, frequencies=2)
        if self.head_depth >= self.depth:
            raise UserError(
                f"--net.head-depth {self.head_depth} of --net.depth {self.depth} blocks leaves no "
                "block that both heads share: choose less"
            )

    @property
    def takes_guidance(self) -> bool:
        return True

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "IMFDiT":
        """The network for images of `shape` (H, W, C). Raises `UserError` where that fails."""
        check_image(shape, self.patch)
        check_heads(self.width, self.heads, 1)
        if self.width // self.heads % 2:
            raise UserError(
                "rotary positions turn pairs of channels: choose --net.heads such that width over "
                "heads is even"
            )
        return initialise(lambda normal: IMFDiT(shape, num_classes, self, normal=normal), key)


class RotaryBlock(eqx.Module):
    """Attention and a gated MLP between learned scales; the identity at the start.

        h = h + a attend(rms(h)),    h = h + b W_2 (silu(W_1 g) * W_3 g),  g = rms(h)

    Queries and keys are normalised and then turned by their place in the sequence (RoPE, arXiv
    2104.09864). The dense layers have no biases; `up` is `[W_1; W_3]`.
    """

    norm: Float[Array, " width"]
    qkv: Dense
    q_scale: Float[Array, " dim"]
    k_scale: Float[Array, " dim"]
    merge: Dense
    scale: Float[Array, " width"]
    mlp_norm: Float[Array, " width"]
    up: Dense
    down: Dense
    mlp_scale: Float[Array, " width"]
    heads: int = eqx.field(static=True)
    implementation: Implementation = eqx.field(static=True)

    def __init__(self, config: IMFDiTConfig, *, normal: Normal):
        width, hidden = config.width, int(config.width * 8 / 3)
        dense = partial(Dense, bias=False, normal=normal)
        self.norm = self.mlp_norm = jnp.ones(width, jnp.float32)
        self.scale = self.mlp_scale = jnp.zeros(width, jnp.float32)
        self.q_scale = self.k_scale = jnp.ones(width // config.heads, jnp.float32)
        self.qkv, self.merge = dense(width, 3 * width), dense(width, width)
        self.up, self.down = dense(width, 2 * hidden), dense(hidden, width)
        self.heads, self.implementation = config.heads, config.attention

    def __call__(self, h: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        h = h + self.scale[None] * self._attend(rms_norm(h, self.norm))
        gate, hidden = jnp.split(self.up(rms_norm(h, self.mlp_norm)), 2, axis=-1)
        return h + self.mlp_scale[None] * self.down(jax.nn.silu(gate) * hidden)

    def _attend(self, h: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        split = jnp.split(self.qkv(h), 3, axis=-1)
        q, k, v = (x.reshape(x.shape[0], self.heads, -1) for x in split)
        q, k = turned(rms_norm(q, self.q_scale)), turned(rms_norm(k, self.k_scale))
        return self.merge(attention(q, k, v, self.implementation).reshape(h.shape))


class RMSReadout(eqx.Module):
    """From tokens to pixels of patches: a norm and a dense layer; zero at the start."""

    norm: Float[Array, " width"]
    output: Dense

    def __init__(self, pixels: int, width: int, *, normal: Normal):
        self.norm = jnp.ones(width, jnp.float32)
        self.output = Dense(width, pixels, scale=0.0, normal=normal)

    def __call__(self, h: Float[Array, "tokens width"]) -> Float[Array, "tokens pixels"]:
        return self.output(rms_norm(h, self.norm))


class IMFDiT(Network):
    """`V(x, s, t, cond)` of one image (H, W, C), with a velocity head from the same trunk.

    The sequence is `[label 8, 1 - 1/w 4, a 2, b 2, s - t 4, patches]`: a group of learned tokens
    for each number, plus its embedding, and places count from the first token. The guidance
    `(w, a, b)` of a condition is an input; none is `w = 1` on [0, 1]. Of the times only `s - t` is.
    The label table's last row stands for no label.
    """

    tokens: dict[str, Float[Array, "count width"]]
    numbers: dict[str, NumberEmbedder]
    labels: Float[Array, "rows width"]
    patches: Dense
    blocks: RotaryBlock
    own_blocks: RotaryBlock
    readout: RMSReadout
    head_blocks: RotaryBlock | None
    head_readout: RMSReadout | None
    config: IMFDiTConfig = eqx.field(static=True)

    def __init__(
        self, shape: tuple[int, ...], num_classes: int, config: IMFDiTConfig, *, normal: Normal
    ):
        width, pixels = config.width, patch_size(shape, config.patch)
        block = partial(_block, config)
        spread = width**-0.5
        self.tokens = {name: spread * normal(count, width) for name, count in COUNTS.items()}
        self.numbers = {
            name: NumberEmbedder(width, config.frequencies, normal=normal)
            for name in COUNTS
            if name != "labels"
        }
        self.labels = spread * normal(num_classes + 1, width)
        self.patches = Dense(pixels, width, normal=normal)
        self.blocks = stack(block, config.depth - config.head_depth, normal)
        self.own_blocks = stack(block, config.head_depth, normal)
        self.readout = RMSReadout(pixels, width, normal=normal)
        headed = config.velocity_head
        self.head_blocks = stack(block, config.head_depth, normal) if headed else None
        self.head_readout = RMSReadout(pixels, width, normal=normal) if headed else None
        self.config = config

    @property
    def has_head(self) -> bool:
        return self.config.velocity_head

    @property
    def takes_guidance(self) -> bool:
        return True

    @property
    def last_weight(self) -> Any:
        return self.readout.output.weight

    def __call__(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*grid channels"]:
        return self._read(self.own_blocks, self.readout, self._trunk(x, s, t, cond), x)

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
            raise UserError("this network has no velocity head: its weights were saved without one")
        h = self._trunk(x, s, t, cond)
        return (
            self._read(self.own_blocks, self.readout, h, x),
            self._read(self.head_blocks, self.head_readout, h, x),
        )

    def _trunk(
        self,
        x: Float[Array, "*grid channels"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None,
    ) -> Float[Array, "tokens width"]:
        scale, start, end = guidance_numbers(cond, s)
        given = {"scale": scale, "start": start, "end": end, "step": s - t}
        label = None if cond is None else cond.label
        embedded = {name: self.numbers[name](number) for name, number in given.items()}
        embedded["labels"] = self.labels[-1 if label is None else label]
        front = [self.tokens[name] + embedded[name][None] for name in COUNTS]
        front = cast(jnp.concatenate(front), self.config.dtype)
        pixels = cut(x.astype(front.dtype), self.config.patch)
        h = jnp.concatenate([front, cast(self.patches, self.config.dtype)(pixels)])
        return self._run(self.blocks, h)

    def _run(
        self, blocks: RotaryBlock, h: Float[Array, "tokens width"]
    ) -> Float[Array, "tokens width"]:
        config = self.config
        layers = cast(blocks, config.dtype)
        return run_layers(
            layers, h, lambda block, h: block(h), remat=config.remat, unroll=config.unroll
        )

    def _read(
        self,
        blocks: RotaryBlock,
        readout: RMSReadout,
        h: Float[Array, "tokens width"],
        like: Float[Array, "*grid channels"],
    ) -> Float[Array, "*grid channels"]:
        h = self._run(blocks, h)[sum(COUNTS.values()) :]
        pixels = cast(readout, self.config.dtype)(h).astype(like.dtype)
        return joined(pixels, like.shape, self.config.patch)


def _block(config: IMFDiTConfig, normal: Normal) -> RotaryBlock:
    return RotaryBlock(config, normal=normal)
