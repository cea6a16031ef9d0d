"""A multilayer perceptron for points."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from core.condition import Condition
from core.errors import UserError
from core.nets.embeddings import Embedding, EmbeddingConfig
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
    activation: Activation = "silu"
    """Activation of the hidden layers."""
    residual: bool = True
    """Add the input of each hidden layer after the first to its output."""
    conditioning: Conditioning = "add"
    """How times and label enter: beside the point at the input, or added in every hidden layer."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times and output stay float32."""

    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> "MLP":
        """The network for points of `shape` (dim,). Raises `UserError` for any other shape."""
        if len(shape) != 1:
            raise UserError(
                f"the mlp is for points, but the data are arrays of shape {shape}: "
                "use --net dit or --net unet"
            )
        return initialise(lambda normal: MLP(shape[0], num_classes, self, normal=normal), key)


class MLP(eqx.Module):
    """`N(x, s, t, cond)` of one point `x` of shape (dim,); zero at the start of training."""

    embedding: Embedding
    hidden: tuple[Dense, ...]
    added: tuple[Dense, ...]
    output: Dense
    activation: Activation = eqx.field(static=True)
    residual: bool = eqx.field(static=True)
    dtype: Dtype = eqx.field(static=True)

    def __init__(self, dim: int, num_classes: int, config: MLPConfig, *, normal: Normal):
        width, add = config.width, config.conditioning == "add"
        sizes = [dim if add else dim + width] + [width] * (config.depth - 1)
        self.embedding = Embedding(width, num_classes, config, normal=normal)
        self.hidden = tuple(Dense(size, width, normal=normal) for size in sizes)
        self.added = tuple(Dense(width, width, bias=False, normal=normal) for _ in sizes if add)
        self.output = Dense(width, dim, scale=0.0, normal=normal)
        self.activation, self.residual = config.activation, config.residual
        self.dtype = config.dtype

    def __call__(
        self,
        x: Float[Array, " dim"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, " dim"]:
        e = cast(jax.nn.silu(self.embedding(s, t, cond)), self.dtype)
        h = x.astype(e.dtype)
        hidden, added, output = cast((self.hidden, self.added, self.output), self.dtype)
        activate: Callable = getattr(jax.nn, self.activation)
        h = h if added else jnp.concatenate([h, e])
        for i, dense in enumerate(hidden):
            pre = dense(h) + added[i](e) if added else dense(h)
            h = activate(pre) + h if self.residual and i > 0 else activate(pre)
        return output(h).astype(x.dtype)
