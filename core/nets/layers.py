"""The small parts that the networks share: dense layers, norms, casts and rematerialisation."""

import math
from collections.abc import Callable
from typing import Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.nets.initial import Normal

Dtype = Literal["float32", "bfloat16"]
Remat = Literal["none", "dots", "full"]
Tree = TypeVar("Tree")


class Dense(eqx.Module):
    """`y = W x + b` along the last axis, whatever axes stand before it.

    The weight is kept as (out, in): with it the gradient of a vmapped layer is one matrix product
    that XLA's CPU backend runs at full rate (twice the speed of (in, out)).
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None

    def __init__(
        self,
        size_in: int,
        size_out: int,
        *,
        bias: bool = True,
        scale: float = 1.0,
        normal: Normal,
    ):
        """Weights of standard deviation `scale / sqrt(size_in)`, biases zero."""
        self.weight = scaled(normal, (size_out, size_in), scale / math.sqrt(size_in))
        self.bias = jnp.zeros(size_out, jnp.float32) if bias else None

    def __call__(self, x: Float[Array, "*batch in"]) -> Float[Array, "*batch out"]:
        y = jax.lax.dot_general(x, self.weight, (((x.ndim - 1,), (1,)), ((), ())))
        return y if self.bias is None else y + jnp.expand_dims(self.bias, range(x.ndim - 1))


class Constant(eqx.Module):
    """`y = b` whatever `x`: a dense layer where the input is zero, without the weight."""

    bias: Float[Array, " out"]

    def __init__(self, size: int):
        """Zeros."""
        self.bias = jnp.zeros(size, jnp.float32)

    def __call__(self, x: Float[Array, " in"]) -> Float[Array, " out"]:
        del x
        return self.bias


def scaled(normal: Normal, shape: tuple[int, ...], spread: float) -> Float[Array, "..."]:
    """Normal numbers of standard deviation `spread`; none are drawn where that is zero."""
    return spread * normal(*shape) if spread else jnp.zeros(shape, jnp.float32)


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """`x` in float32, or in its own dtype where that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def layer_norm(x: Float[Array, "*batch width"], eps: float = 1e-6) -> Float[Array, "*batch width"]:
    """`(x - mean) / sqrt(variance + eps)` along the last axis, in float32, without learned scale or
    shift."""
    wide = at_least_float32(x)
    centred = wide - wide.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return (centred * jax.lax.rsqrt(variance + eps)).astype(x.dtype)


def rms_norm(
    x: Float[Array, "*batch width"], scale: Float[Array, " width"]
) -> Float[Array, "*batch width"]:
    """`scale x / rms(x)` along the last axis, in float32."""
    wide = at_least_float32(x)
    inverse = jax.lax.rsqrt(jnp.square(wide).mean(-1, keepdims=True) + 1e-6)
    scale = jnp.expand_dims(at_least_float32(scale), range(x.ndim - 1))
    return (wide * inverse * scale).astype(x.dtype)


def cast(tree: Tree, dtype: Dtype) -> Tree:
    """A copy of `tree` whose parameters are in the compute dtype.

    Gradients flow through the cast, so they come back in the dtype of the original parameters.
    "float32" leaves the parameters as they are (float64 ones too).
    """
    if dtype == "float32":
        return tree
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.bfloat16) if eqx.is_inexact_array(leaf) else leaf, tree
    )


def rematerialise(function: Callable, remat: Remat, *, in_scan: bool) -> Callable:
    """`function`, of whose forward pass only a part is kept for the backward pass.

    "none" keeps everything; "dots" the results of matrix products with weights (about a third of
    the memory, the rest is computed again); "full" nothing but the inputs (one more forward pass).
    All three hold under `jax.jvp`. `in_scan` says that a loop surrounds the function, which by
    itself keeps XLA from merging the second computation with the first.
    """
    if remat == "none":
        return function
    policies = {
        "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        "full": jax.checkpoint_policies.nothing_saveable,
    }
    return jax.checkpoint(function, policy=policies[remat], prevent_cse=not in_scan)


def run_layers(
    layers: Tree,
    h: Float[Array, "*shape"],
    call: Callable[[Tree, Float[Array, "*shape"]], Float[Array, "*shape"]],
    *,
    remat: Remat,
    unroll: int = 1,
) -> Float[Array, "*shape"]:
    """`h` after all layers, `h = call(layer, h)` one after the other, by a scan.

    Every array of `layers` has a leading axis of layers (`core.nets.initial.stack`).
    """
    arrays, static = eqx.partition(layers, eqx.is_array)
    depth = jax.tree.leaves(arrays)[0].shape[0]
    unroll = min(unroll, depth)

    def layer(h, array):
        return call(eqx.combine(array, static), h), None

    layer = rematerialise(layer, remat, in_scan=unroll < depth)
    return jax.lax.scan(layer, h, arrays, unroll=unroll)[0]
