"""The parts of the transformer: blocks of attention and MLP, and the readout."""

from typing import Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.nets.attention import Implementation, attention
from core.nets.dropout import thinned
from core.nets.initial import Normal
from core.nets.layers import Constant, Dense, layer_norm, rms_norm
from core.nets.neighbours import with_neighbours
from core.nets.rotary import turned


@runtime_checkable
class BlockFlags(Protocol):
    """The flags of a network that its blocks read: `core.nets.dit.DiTConfig`."""

    @property
    def width(self) -> int: ...
    @property
    def heads(self) -> int: ...
    @property
    def mlp_ratio(self) -> float: ...
    @property
    def qk_norm(self) -> bool: ...
    @property
    def modulation_norm(self) -> bool: ...
    @property
    def context(self) -> int: ...
    @property
    def attention(self) -> Implementation: ...
    @property
    def dropout(self) -> float: ...
    @property
    def rotary(self) -> bool: ...
    @property
    def neighbours(self) -> int: ...


class Block(eqx.Module):
    """Attention and MLP, each modulated by the embedding and gated; the identity at the start.

        h = h + gate_1 attend(scale_1 norm(h) + shift_1),   h = h + gate_2 mlp(scale_2 norm(h) + ..)

    With `config.modulation_norm` scales, shifts and gates have root mean square 1, and tokens are
    normalised by theirs alone, so that the output changes no faster than its inputs. Source: TVM
    (arXiv 2511.19797), section 4; sCM (arXiv 2410.11081) calls the former double normalisation.

    With `config.neighbours` a short convolution adds to `norm(h)` what stands beside it
    (`core.nets.neighbours`).

    With `config.context` the modulation is a constant. Where a key is given, hidden numbers of the
    MLP are dropped. Source: DiT (arXiv 2212.09748), adaLN-zero;
    QK-norm: ViT-22B (arXiv 2302.05442).
    """

    modulation: Dense | Constant
    qkv: Dense
    merge: Dense
    up: Dense
    down: Dense
    filters: Float[Array, "2 size width"] | None
    q_scale: Float[Array, " dim"] | None
    k_scale: Float[Array, " dim"] | None
    heads: int = eqx.field(static=True)
    implementation: Implementation = eqx.field(static=True)
    drop_rate: float = eqx.field(static=True)
    rotary: bool = eqx.field(static=True)
    bounded: bool = eqx.field(static=True)

    def __init__(self, config: BlockFlags, *, normal: Normal):
        width, hidden = config.width, round(config.mlp_ratio * config.width)
        self.modulation = _modulation(6, config, normal)
        self.qkv = Dense(width, 3 * width, bias=False, normal=normal)
        self.merge = Dense(width, width, normal=normal)
        self.up = Dense(width, hidden, normal=normal)
        self.down = Dense(hidden, width, normal=normal)
        near = config.neighbours
        self.filters = jnp.zeros((2, near, width), jnp.float32) if near else None
        dim = width // config.heads
        self.q_scale = jnp.ones(dim, jnp.float32) if config.qk_norm else None
        self.k_scale = jnp.ones(dim, jnp.float32) if config.qk_norm else None
        self.heads, self.implementation = config.heads, config.attention
        self.drop_rate, self.rotary = config.dropout, config.rotary
        self.bounded = config.modulation_norm

    def __call__(
        self,
        h: Float[Array, "tokens width"],
        e: Float[Array, " width"],
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "tokens width"]:
        modulation = _parts(self.modulation(e), 6, self.bounded)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation
        h = h + gate_1 * self._attend(self._near(h, 0) * (1 + scale_1) + shift_1)
        hidden = self.up(self._near(h, 1) * (1 + scale_2) + shift_2)
        return h + gate_2 * self.down(thinned(jax.nn.gelu(hidden), self.drop_rate, key))

    def _near(self, h: Float[Array, "tokens width"], part: int) -> Float[Array, "tokens width"]:
        normal = _normal(h, self.bounded)
        return normal if self.filters is None else with_neighbours(normal, self.filters[part])

    def _attend(self, h: Float[Array, "tokens width"]) -> Float[Array, "tokens width"]:
        q, k, v = (
            x.reshape(x.shape[0], self.heads, -1) for x in jnp.split(self.qkv(h), 3, axis=-1)
        )
        if self.q_scale is not None and self.k_scale is not None:
            q, k = rms_norm(q, self.q_scale), rms_norm(k, self.k_scale)
        if self.rotary:
            q, k = turned(q), turned(k)
        return self.merge(attention(q, k, v, self.implementation).reshape(h.shape))


class Readout(eqx.Module):
    """From tokens to pixels of patches: modulated norm and a dense layer; zero at the start."""

    modulation: Dense | Constant
    output: Dense
    bounded: bool = eqx.field(static=True)

    def __init__(self, pixels: int, config: BlockFlags, *, normal: Normal):
        self.modulation = _modulation(2, config, normal)
        self.output = Dense(config.width, pixels, scale=0.0, normal=normal)
        self.bounded = config.modulation_norm

    def __call__(
        self, h: Float[Array, "tokens width"], e: Float[Array, " width"]
    ) -> Float[Array, "tokens pixels"]:
        shift, scale = _parts(self.modulation(e), 2, self.bounded)
        return self.output(_normal(h, self.bounded) * (1 + scale) + shift)


def _parts(
    modulation: Float[Array, " all"], count: int, bounded: bool
) -> list[Float[Array, "1 width"]]:
    """So many vectors of the token's width."""
    parts = jnp.split(modulation[None], count, axis=-1)
    ones = jnp.ones(parts[0].shape[-1])
    return [rms_norm(part, ones) for part in parts] if bounded else parts


def _normal(h: Float[Array, "tokens width"], bounded: bool) -> Float[Array, "tokens width"]:
    return rms_norm(h, jnp.ones(h.shape[-1])) if bounded else layer_norm(h)


def _modulation(parts: int, config: BlockFlags, normal: Normal) -> Dense | Constant:
    """`parts` vectors of the token's width from the embedding, all zero at the start."""
    if config.context:
        return Constant(parts * config.width)
    return Dense(config.width, parts * config.width, scale=0.0, normal=normal)
