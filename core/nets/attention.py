"""Softmax attention: the one place where a kernel can take over."""

import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Implementation = Literal["xla"]


def attention(
    q: Float[Array, "n heads dim"],
    k: Float[Array, "m heads dim"],
    v: Float[Array, "m heads dim"],
    implementation: Implementation = "xla",
) -> Float[Array, "n heads dim"]:
    """`softmax(q k^T / sqrt(dim)) v` of each head, in the dtype of `v`; the softmax in float32.

    An implementation must have a forward-mode rule that reverse mode can pass through: most
    objectives differentiate a network in its inputs and then the result in its parameters. The
    plain formula has one to any order. The fused kernels of JAX (cuDNN, Pallas) have none.
    """
    return IMPLEMENTATIONS[implementation](q, k, v)


def _xla(
    q: Float[Array, "n heads dim"],
    k: Float[Array, "m heads dim"],
    v: Float[Array, "m heads dim"],
) -> Float[Array, "n heads dim"]:
    wide = jnp.promote_types(q.dtype, jnp.float32)
    scaled = q / math.sqrt(q.shape[-1])
    logits = jnp.einsum("nhd,mhd->hnm", scaled, k, preferred_element_type=wide)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    return jnp.einsum("hnm,mhd->nhd", weights, v)


IMPLEMENTATIONS: dict[str, Callable] = {"xla": _xla}
