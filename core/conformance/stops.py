"""A function with its stops taken out, one at a time: the negative controls of gradients."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

CALLS = ("jit", "pjit")
SHIFTS = ("broadcast_in_dim", "max", "select_n", "reshape")
"""Between the largest entry and the stop in a softmax."""


def without_stops(f: Callable[..., Any], *args: Any) -> tuple[Callable[..., Any], int]:
    """`(g, n)`: `g(mask, *args)` is `f(*args)` in which stop `i` of `n` is taken out where
    `mask[i]` is 1.

    Stops are found in the traced program, whatever names the code has for them; those inside of
    loops and of functions with a derivative of their own stay, and those of the largest entry by
    which a softmax is shifted, which mean nothing: the derivative of a largest entry that is
    computed twice, with other rounding, is none.
    """
    closed, shape = jax.make_jaxpr(f, return_shape=True)(*args)
    tree = jax.tree.structure(shape)

    def g(mask: Float[Array, " n"], *args: Any) -> Any:
        found = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args), mask, 0)[0]
        return jax.tree.unflatten(tree, found)

    return g, _count(closed.jaxpr)


def _count(jaxpr: Any) -> int:
    inner = sum(_count(closed.jaxpr) for eqn in jaxpr.eqns for closed in _inside(eqn))
    return inner + sum(_is_stop(eqn, jaxpr) for eqn in jaxpr.eqns)


def _is_stop(eqn: Any, jaxpr: Any) -> bool:
    """Whether it stops something else than the shift of a softmax."""
    if eqn.primitive.name != "stop_gradient":
        return False
    made = {var: each for each in jaxpr.eqns for var in each.outvars}
    edge = [*eqn.invars]
    while edge:
        atom = edge.pop()
        source = None if hasattr(atom, "val") else made.get(atom)
        if source is not None and source.primitive.name == "reduce_max":
            return False
        edge += source.invars if source is not None and source.primitive.name in SHIFTS else []
    return True


def _inside(eqn: Any) -> Sequence[Any]:
    if eqn.primitive.name == "cond":
        return eqn.params["branches"]
    return [eqn.params["jaxpr"]] if eqn.primitive.name in CALLS else []


def _evaluate(
    jaxpr: Any, consts: Sequence[Any], args: Sequence[Any], mask: Array, first: int
) -> tuple[list[Any], int]:
    """The results, and the number of the stop after the last one; `first` is that of the first."""
    values: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    values |= dict(zip(jaxpr.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else values[atom]

    for eqn in jaxpr.eqns:
        given = [read(atom) for atom in eqn.invars]
        if _is_stop(eqn, jaxpr):
            # Not a product: what is infinite beyond a stop stays there.
            found = [jnp.where(mask[first] > 0, given[0], jax.lax.stop_gradient(given[0]))]
            first += 1
        elif eqn.primitive.name in CALLS:
            inner = eqn.params["jaxpr"]
            found, first = _evaluate(inner.jaxpr, inner.consts, given, mask, first)
        elif eqn.primitive.name == "cond":
            branches = []
            for inner in eqn.params["branches"]:
                branches.append(partial(_branch, inner, mask, first))
                first += _count(inner.jaxpr)
            found = jax.lax.switch(given[0], branches, *given[1:])
        else:
            found = eqn.primitive.bind(*given, **eqn.primitive.get_bind_params(eqn.params))
            found = found if eqn.primitive.multiple_results else [found]
        values |= dict(zip(eqn.outvars, found, strict=True))
    return [read(atom) for atom in jaxpr.outvars], first


def _branch(closed: Any, mask: Array, first: int, *args: Any) -> list[Any]:
    return _evaluate(closed.jaxpr, closed.consts, args, mask, first)[0]


def masks(n: int) -> Float[Array, "m n"]:
    """No stop taken out, all of them, and each alone."""
    return jnp.concatenate([jnp.zeros((1, n)), jnp.ones((1, n)), jnp.eye(n)])
