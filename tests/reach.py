"""Which numbers a gradient reaches, read off the traced program: nothing is compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import partial_eval


def reached(losses: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, set[str]]:
    """For each loss by name the leaves of the arguments that its gradient reaches, such as
    `[0]['model'].net.first`.

    `losses(*arguments)` is a dictionary of scalars; the arguments are trees of arrays. A leaf is
    reached where its gradient depends on the loss's cotangent. A stopped gradient is a constant
    zero and does not. One that depends on it and is still zero, as behind a factor 0, counts as
    reached: a test of values tells those apart.
    """
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(arguments)]
    shapes = jax.eval_shape(losses, *arguments)

    def gradients(*cotangents: jax.Array) -> list[jax.Array]:
        _, back = jax.vjp(losses, *arguments)
        return jax.tree.leaves(back(dict(zip(shapes, cotangents, strict=True))))

    ones = [jax.ShapeDtypeStruct((), jnp.result_type(shape)) for shape in shapes.values()]
    program = jax.make_jaxpr(gradients)(*ones).jaxpr
    found: dict[str, set[str]] = {name: set() for name in shapes}
    for index, leaf in enumerate(names):
        wanted = [i == index for i in range(len(names))]
        _, used = partial_eval.dce_jaxpr(program, wanted)
        for name, one in zip(shapes, used, strict=True):
            if one:
                found[name].add(leaf)
    return found
