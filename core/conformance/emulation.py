"""Programs as they run with products of rounded operands: TF32 on a machine that has none."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

TF32 = 8, 10
"""Bits of exponent and fraction of an operand."""

INLINED = {"jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "checkpoint": "jaxpr"}
CUSTOM = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def with_tf32(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with the operands of float32 products rounded to TF32, as recent GPUs round them
    by default; products that ask for more (`jax.default_matmul_precision("highest")`) are left.

    Products inside a kernel of Pallas are left too. Derivatives are those of `function`: take them
    inside.
    """

    def rounded(*arguments: Any) -> Any:
        leaves, tree = jax.tree.flatten(arguments)
        program, shape = jax.make_jaxpr(
            lambda *flat: function(*jax.tree.unflatten(tree, flat)), return_shape=True
        )(*leaves)
        return jax.tree.unflatten(jax.tree.structure(shape), _run(program, leaves))

    return rounded


def _run(program: ClosedJaxpr, arguments: list[Any]) -> list[Any]:
    """Evaluates a program equation by equation."""
    jaxpr, known = program.jaxpr, {}
    known.update(zip(jaxpr.constvars, program.consts, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))

    def read(variable: Any) -> Any:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for equation in jaxpr.eqns:
        values = _apply(equation, [read(variable) for variable in equation.invars])
        known.update(zip(equation.outvars, values, strict=True))
    return [read(variable) for variable in jaxpr.outvars]


def _apply(equation: Any, values: list[Any]) -> list[Any]:
    name, params = equation.primitive.name, equation.params
    if inner := (INLINED | CUSTOM).get(name):
        return _run(_closed(params[inner]), values)
    if name in ("dot_general", "conv_general_dilated") and _rounds(params["precision"], values):
        values = [jax.lax.reduce_precision(value, *TF32) for value in values]
    params = {key: _rewritten(value) for key, value in params.items()}
    found = equation.primitive.bind(*values, **params)
    return found if equation.primitive.multiple_results else [found]


def _rounds(precision: Any, values: list[Any]) -> bool:
    """Whether these operands are rounded, by the precision that the product asks for."""
    default = precision is None or precision == (jax.lax.Precision.DEFAULT,) * 2
    return default and all(jnp.result_type(value) == jnp.float32 for value in values)


def _rewritten(parameter: Any) -> Any:
    """A parameter of an equation; the body of a loop or a branch with its products rounded."""
    if type(parameter) is tuple:  # branches
        return tuple(_rewritten(part) for part in parameter)
    if not isinstance(parameter, ClosedJaxpr | Jaxpr):
        return parameter
    program = _closed(parameter)
    shapes = [jax.ShapeDtypeStruct(a.shape, a.dtype) for a in program.in_avals]
    made = jax.make_jaxpr(lambda *arguments: _run(program, list(arguments)))(*shapes)
    return made if isinstance(parameter, ClosedJaxpr) else made.jaxpr


def _closed(program: Any) -> ClosedJaxpr:
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])
