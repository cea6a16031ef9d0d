"""A traced function in few operations, those that converters to other formats know.

Calls are written out where they stand, constants are computed, what nobody uses is dropped,
products of tensors become products of matrices, rows of a table are taken by a product with ones
and zeros, and bfloat16 becomes float32. Loops stay loops.
"""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jaxtyping import Array

_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "core_call": "call_jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
}
"""Operations that only call another program, and the parameter that holds it."""


def plain(closed: ClosedJaxpr) -> Callable[..., list[Array]]:
    """The same function of the same flat arguments, in the operations of the heading."""

    def call(*args: Array) -> list[Array]:
        return _evaluate(closed, args)

    return call


def primitives(closed: ClosedJaxpr) -> set[str]:
    """The names of the operations in a program, those of loops and branches too."""
    found = set()
    for eqn in closed.jaxpr.eqns:
        found.add(eqn.primitive.name)
        for value in eqn.params.values():
            for inner in value if isinstance(value, tuple | list) else (value,):
                if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                    found |= primitives(_closed(inner))
    return found


def _evaluate(closed: ClosedJaxpr, args: Sequence[Any]) -> list[Any]:
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, map(_wide, closed.consts), strict=True))
    known |= zip(jaxpr.invars, args, strict=True)

    def read(var):
        return _wide(var.val) if isinstance(var, Literal) else known[var]

    for eqn in _used(jaxpr):
        inputs = [read(var) for var in eqn.invars]
        with _computed(eqn, inputs):
            outputs = _step(eqn, inputs)
        known |= zip(eqn.outvars, outputs, strict=True)
    return [read(var) for var in jaxpr.outvars]


def _used(jaxpr: Any) -> list[JaxprEqn]:
    """The equations that the results depend on, in their order."""
    wanted, kept = {var for var in jaxpr.outvars if not isinstance(var, Literal)}, []
    for eqn in reversed(jaxpr.eqns):
        if wanted.intersection(eqn.outvars) or eqn.effects:
            kept.append(eqn)
            wanted |= {var for var in eqn.invars if not isinstance(var, Literal)}
    return kept[::-1]


def _step(eqn: JaxprEqn, inputs: list[Any]) -> list[Any]:
    name = eqn.primitive.name
    if name in _CALLS:
        return _evaluate(_closed(eqn.params[_CALLS[name]]), inputs)
    if name == "scan":
        return _scan(eqn, inputs)
    if name == "dot_general":
        return [_product(eqn, *inputs)]
    if name == "gather" and _takes_rows(eqn):
        return [_rows(eqn, *inputs)]
    if name in _REPLACED:
        return [_REPLACED[name](*inputs, **eqn.params)]
    params = {
        key: jnp.float32 if _is_bfloat16(value) else value for key, value in eqn.params.items()
    }
    outputs = eqn.primitive.bind(*inputs, **params)
    return list(outputs) if eqn.primitive.multiple_results else [outputs]


def _closed(jaxpr: Any) -> ClosedJaxpr:
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def _is_bfloat16(value: Any) -> bool:
    return isinstance(value, np.dtype | type) and value == jnp.bfloat16


def _wide(value: Any) -> Any:
    """Numbers of bfloat16 as those of float32."""
    narrow = getattr(value, "dtype", None) == jnp.bfloat16
    return value.astype(jnp.float32) if narrow else value


def _computed(eqn: JaxprEqn, inputs: list[Any]) -> contextlib.AbstractContextManager:
    """Where an equation is computed now: its inputs and all of its sizes are known."""
    sizes = [size for var in eqn.outvars for size in getattr(var.aval, "shape", ())]
    traced = any(isinstance(value, Tracer) for value in inputs)
    if traced or not all(isinstance(size, int) for size in sizes):
        return contextlib.nullcontext()
    return jax.ensure_compile_time_eval()


def _scan(eqn: JaxprEqn, inputs: list[Any]) -> list[Any]:
    """The loop with a body in the same few operations. One over random keys is written out: where
    the keys are constants, so are the numbers drawn from them."""
    params = eqn.params
    first, last = params["num_consts"], params["num_consts"] + params["num_carry"]
    consts, body = inputs[:first], params["jaxpr"]

    def step(carry, xs):
        outputs = _evaluate(body, [*consts, *carry, *xs])
        return outputs[: last - first], outputs[last - first :]

    start = [_like(value, var) for value, var in zip(inputs[first:last], body.jaxpr.outvars)]
    loop = _written_out if any(map(_is_key, inputs)) else lax.scan
    carry, ys = loop(step, start, inputs[last:], length=params["length"], reverse=params["reverse"])
    return [*carry, *ys]


def _is_key(value: Any) -> bool:
    return jnp.issubdtype(value.dtype, jax.dtypes.prng_key)


def _written_out(
    step: Callable, carry: list[Any], xs: list[Any], *, length: int, reverse: bool
) -> tuple[list[Any], list[Any]]:
    """`lax.scan` without a loop."""
    rows = []
    for i in range(length)[:: -1 if reverse else 1]:
        with jax.ensure_compile_time_eval():
            now = [x if isinstance(x, Tracer) else x[i] for x in xs]
        now = [x[i] if isinstance(x, Tracer) else x for x in now]
        carry, row = step(carry, now)
        rows.append(row)
    rows = rows[:: -1 if reverse else 1]
    return carry, [jnp.stack(values) for values in zip(*rows, strict=True)]


def _shaped(var: Any) -> Any:
    """The shape and dtype of a variable."""
    return var.aval


def _like(value: Any, var: Any) -> Array:
    """A value that a loop carries, with the dtype that its body gives it, and no weak one."""
    dtype = _shaped(var).dtype
    if _is_key(value):
        return value
    return lax.convert_element_type(value, jnp.float32 if dtype == jnp.bfloat16 else dtype)


def _takes_rows(eqn: JaxprEqn) -> bool:
    """Whether a gather takes rows of a table of numbers, `table[index]`."""
    table, numbers = _shaped(eqn.invars[0]), eqn.params["dimension_numbers"]
    return (
        jnp.issubdtype(table.dtype, jnp.inexact)
        and tuple(eqn.params["slice_sizes"]) == (1, *table.shape[1:])
        and numbers.start_index_map[:1] == (0,)
        and not numbers.operand_batching_dims
    )


def _rows(eqn: JaxprEqn, table: Any, index: Any) -> Array:
    """`table[index]`, of indices inside it, as a product with ones and zeros.

    jax2onnx gives such a gather a wrong shape where the number of indices is a symbol.
    """
    first = lax.reshape(index[..., 0], (math.prod(index.shape[:-1]), 1))
    numbers = lax.broadcasted_iota(index.dtype, (1, table.shape[0]), 1)
    flat = lax.reshape(table, (table.shape[0], math.prod(table.shape[1:])))
    taken = (first == numbers).astype(table.dtype) @ flat
    return lax.reshape(taken, _shaped(eqn.outvars[0]).shape)


def _tiled(x: Any, *, reps: Sequence[int]) -> Array:
    """`x` so many times along each axis, by broadcasting."""
    between = [size for pair in zip(reps, x.shape, strict=True) for size in pair]
    wide = lax.broadcast_in_dim(x, between, tuple(range(1, 2 * x.ndim, 2)))
    return lax.reshape(wide, [r * size for r, size in zip(reps, x.shape, strict=True)])


def _stacked(*xs: Any, axis: int) -> Array:
    """Arrays beside each other along a new axis."""
    return lax.concatenate([lax.expand_dims(x, (axis,)) for x in xs], axis)


_REPLACED: dict[str, Callable[..., Array]] = {
    "tile": _tiled,
    "stack": _stacked,
    "lt_to": lambda x, y: lax.lt(x, y),  # of the total order: NaN apart the same
    "le_to": lambda x, y: lax.le(x, y),
    "eq_to": lambda x, y: lax.eq(x, y),
}
"""Operations that converters lack, by those that they have."""


def _product(eqn: JaxprEqn, a: Any, b: Any) -> Array:
    """`dot_general` as one product of matrices, or one a batch: runtimes are quick at these, and
    jax2onnx writes all others as Einsum."""
    (sum_a, sum_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    free_a = [i for i in range(a.ndim) if i not in (*sum_a, *batch_a)]
    free_b = [i for i in range(b.ndim) if i not in (*sum_b, *batch_b)]
    batch = [a.shape[i] for i in batch_a]
    shared = math.prod(a.shape[i] for i in sum_a)
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    left = _matrix(a, (*batch_a, *free_a, *sum_a), (*batch, math.prod(rows), shared))
    right = _matrix(b, (*batch_b, *sum_b, *free_b), (*batch, shared, math.prod(columns)))
    axes = tuple(range(len(batch)))
    contract = ((len(axes) + 1,), (len(axes),))
    product = lax.dot_general(left, right, (contract, (axes, axes)))
    return product.reshape(*batch, *rows, *columns)


def _matrix(x: Any, axes: tuple[int, ...], shape: tuple[Any, ...]) -> Array:
    """`x` with its axes in this order and then of this shape; computed now if it is a constant."""
    constant = not isinstance(x, Tracer)
    with jax.ensure_compile_time_eval() if constant else contextlib.nullcontext():
        ordered = x if axes == tuple(range(x.ndim)) else lax.transpose(x, axes)
        return ordered if ordered.shape == shape else lax.reshape(ordered, shape)
