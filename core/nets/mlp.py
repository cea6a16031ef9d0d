"""A multilayer perceptron for points."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.network import Network
from core.nets.dropout import Dropout, dropout, thinned
from core.nets.embeddings import Embedding, EmbeddingConfig, Encoding
from core.nets.initial import Normal, initialise
from core.nets.layers import Dense, Dtype, cast

Activation = Literal["gelu", "silu"]
Conditioning = Literal["concat", "add"]


@dataclass(frozen=True)
class MLPConfig(EmbeddingConfig):
    """Flags of the network for points."""

    width: int = 128
    """Width of the hidden layers."""
    depth: int = 4
    """Number of hidden layers."""
    encoder_depth: int = 0
    """Hidden layers that see only the source time s and form an encoding that serves every target
    time; 0: all layers see both times."""
    activation: Activation = "silu"
    """Activation of the hidden layers."""
    residual: bool = True
    """Add the input of each hidden layer after the first to its output."""
    conditioning: Conditioning = "add"
    """How times and label enter: beside the point at the input, or added in every hidden layer."""
    dropout: float = 0.0
    """Share of the hidden numbers that are dropped in training, drawn for each row of a batch by
    itself; none in targets, teachers and samples."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times and output stay float32."""

    def __post_init__(self):
        super().__post_init__()
        self.check_sizes(width=1, depth=1, encoder_depth=0)
        self.check_dropout(self.dropout)

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "MLP":
        """The network for points of `shape` (dim,). Raises `UserError` for any other shape."""
        if len(shape) != 1:
            raise UserError(
                f"the mlp is for points, but the data are arrays of shape {shape}: "
                f"use --net dit{' or --net unet' if len(shape) == 3 else ''}"
            )
        self.check_encoder(self.encoder_depth, self.depth)
        if self.encoder_depth and self.conditioning == "concat":
            raise UserError(
                "with --net.conditioning concat only the first layer sees a time: "
                "an encoder needs --net.conditioning add"
            )
        return initialise(lambda normal: MLP(shape[0], num_classes, self, normal=normal), key)


class MLP(Network):
    """`N(x, s, t, cond)` of one point `x` of shape (dim,); zero at the start of training.

    With `encoder_depth = d > 0` the network is decoupled, `N = decode(encode(x, s, cond), t)`: the
    first `d` hidden layers receive `(s, cond)`, the others `(t, cond)`, by the same embedder of
    one time. Source: Decoupled MeanFlow (arXiv 2510.24474), there for transformers.
    """

    embedding: Embedding
    hidden: tuple[Dense, ...]
    added: tuple[Dense, ...]
    output: Dense
    dropout: Dropout | None
    activation: Activation = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    dtype: Dtype = eqx.field(static=True)
    encoder_depth: int = eqx.field(static=True)

    def __init__(self, dim: int, num_classes: int, config: MLPConfig, *, normal: Normal):
        width, add = config.width, config.conditioning == "add"
        entering = 2 * dim if config.state else dim
        sizes = [entering if add else entering + width] + [width] * (config.depth - 1)
        self.embedding = Embedding(width, num_classes, config, normal=normal)
        self.hidden = tuple(Dense(size, width, normal=normal) for size in sizes)
        self.added = tuple(Dense(width, width, bias=False, normal=normal) for _ in sizes if add)
        self.output = Dense(width, dim, scale=0.0, normal=normal)
        self.dropout = dropout(config.dropout)
        self.activation, self.residual = config.activation, config.residual
        self.dtype, self.encoder_depth = config.dtype, config.encoder_depth

    @property
    def last_weight(self) -> Any:
        return self.output.weight

    @property
    def takes_guidance(self) -> bool:
        return self.embedding.guidance

    @property
    def decoupled(self) -> bool:
        return self.encoder_depth > 0

    def __call__(
        self,
        x: Float[Array, " dim"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, " dim"]:
        if self.decoupled:
            return self.decode(self.encode(x, s, cond), t)
        e = cast(jax.nn.silu(self.embedding(s, t, cond)), self.dtype)
        h = self.embedding.beside(x, cond).astype(e.dtype)
        h = h if self.added else jnp.concatenate([h, e])
        h = self._run(range(len(self.hidden)), h, e)
        return cast(self.output, self.dtype)(h).astype(x.dtype)

    def encode(
        self, x: Float[Array, " dim"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Encoding:
        """The first `encoder_depth` hidden layers, given `(s, cond)`; `h` has shape (width,).

        Raises `UserError` where the network is not decoupled.
        """
        if not self.decoupled:
            raise UserError("this network has no encoder: train one with --net.encoder-depth 2")
        e = cast(jax.nn.silu(self.embedding.single(s, cond)), self.dtype)
        h = self.embedding.beside(x, cond).astype(e.dtype)
        h = self._run(range(self.encoder_depth), h, e)
        return Encoding(h, cond, jax.ShapeDtypeStruct(x.shape, x.dtype))

    def decode(self, encoding: Encoding, t: Float[Array, ""]) -> Float[Array, " dim"]:
        """The other hidden layers, given `(t, cond)`, and the output: `N(x, s, t, cond)`."""
        e = cast(jax.nn.silu(self.embedding.single(t, encoding.cond)), self.dtype)
        h = self._run(range(self.encoder_depth, len(self.hidden)), encoding.h, e)
        return cast(self.output, self.dtype)(h).astype(encoding.like.dtype)

    def _run(
        self, layers: range, h: Float[Array, " size"], e: Float[Array, " width"]
    ) -> Float[Array, " width"]:
        hidden, added = cast((self.hidden, self.added), self.dtype)
        activate: Callable = getattr(jax.nn, self.activation)
        keys = None if self.dropout is None else self.dropout.keys(len(hidden))
        for i in layers:
            pre = hidden[i](h) + added[i](e) if added else hidden[i](h)
            new = activate(pre)
            if keys is not None and self.dropout is not None:
                new = thinned(new, self.dropout.rate, keys[i])
            h = new + h if self.residual and i > 0 else new
        return h
