"""The tangent kernel as an operation of JAX: it can be batched, transposed and differentiated.

A kernel has no rule for its transpose, and JAX's wrappers that carry one have no rule for `vmap`.
A primitive has both. The transpose is a kernel too; derivatives of the two are those of the same
formulas in plain JAX, block by block.
"""

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from core.nets.attention import kernels, scan
from core.nets.attention.flash import Kernels

LINEAR = 3  # the last operands, in which the tangent is linear

_tangent = Primitive("attention_tangent")
_tangent.multiple_results = True


def tangent(
    *operands: Float[Array, "..."],
) -> tuple[Float[Array, "heads n dim"], Float[Array, "heads n"]]:
    """`(do, dlse)` from `(q, k, v, o, lse, dq, dk, dv)`, by the kernel."""
    do, dlse = _tangent.bind(*operands)
    return do, dlse


@_tangent.def_abstract_eval
def _shapes(*operands):
    o, lse = operands[3:5]
    return [o.update(weak_type=False), lse.update(weak_type=False)]


def _derivative(operands, directions):
    out = tangent(*operands)
    fixed, moving = directions[:-LINEAR], directions[-LINEAR:]
    if all(isinstance(d, ad.Zero) for d in fixed):
        return out, tangent(*operands[:-LINEAR], *map(ad.instantiate_zeros, moving))
    directions = tuple(map(ad.instantiate_zeros, directions))
    return out, jax.jvp(scan.tangent, tuple(operands), directions)[1]


def _transpose(cotangents, *operands):
    fixed = operands[:-LINEAR]
    gradients = _backward(*fixed, *map(ad.instantiate_zeros, cotangents))
    cast = [g.astype(x.aval.dtype) for g, x in zip(gradients, operands[-LINEAR:])]
    return [None] * len(fixed) + cast


@jax.custom_jvp
def _backward(*operands):
    return kernels.transposed(*operands)


@_backward.defjvp
def _backward_derivative(operands, directions):
    return _backward(*operands), jax.jvp(scan.transposed, operands, directions)[1]


def _batched(operands, axes):
    """The batch becomes part of the heads, which are a batch already."""
    size = next(x.shape[a] for x, a in zip(operands, axes) if a is not None)
    folded = []
    for x, axis in zip(operands, axes):
        spread = jnp.broadcast_to(x, (size, *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
        folded.append(spread.reshape(-1, *spread.shape[2:]))
    out = tangent(*folded)
    return [x.reshape(size, -1, *x.shape[1:]) for x in out], [0, 0]


_tangent.def_impl(jax.jit(kernels.tangent))
mlir.register_lowering(_tangent, mlir.lower_fun(kernels.tangent, multiple_results=True))
ad.primitive_jvps[_tangent] = _derivative
ad.primitive_transposes[_tangent] = _transpose
batching.primitive_batchers[_tangent] = _batched

PALLAS = Kernels(kernels.value, tangent)
