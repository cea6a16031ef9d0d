"""What keeps a test's compiled programs few.

A program costs 50 ms to compile however little it does, and outside `jax.jit` each operation is
one, for each new shape; `jnp.asarray` of a float64 array too, and `jax.random.normal` of a new
shape costs as much as eight. So a test

- draws with NumPy: the fixtures `normal(shape)` and `rng`;
- calls what it tests through `once`, vectorised over its cases: one program;
- computes what it expects in NumPy, and compares with `np.testing.assert_allclose`.

```python
def test_the_velocity_is_the_slope(normal, x64):
    x_0, z, t = normal(8, 2), normal(8, 2), np.linspace(0.1, 0.9, 8)
    v = once(jax.vmap(path.conditional_velocity))(x_0, z, t)
    np.testing.assert_allclose(v, z - x_0)
```

Inside the function given to `once` everything is free: split keys, draw, differentiate, and
return all that is looked at, as a tuple or a dictionary.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np


def on_host(tree: Any) -> Any:
    """The tree with its arrays as NumPy's; random keys stay."""

    def leaf(value: Any) -> Any:
        if isinstance(value, jax.Array) and not jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            return np.asarray(value)
        return value

    return jax.tree.map(leaf, tree)


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` as one compiled program for each shape of its arguments; results are NumPy arrays.

    Arrays in the arguments, in modules too, are traced; all else, plain numbers too, is constant.
    A new `once` of a new function compiles again: outside a loop it costs one program.
    """
    compiled = eqx.filter_jit(function)
    return lambda *args, **kwargs: on_host(compiled(*args, **kwargs))


def device(tree: Any) -> Any:
    """The tree with NumPy's arrays moved to JAX, in its default precision; compiles nothing.

    For what is not called by `once`: a function outside `jax.jit` takes JAX arrays only.
    """

    def leaf(value: Any) -> Any:
        return jax.device_put(value) if isinstance(value, np.ndarray | np.generic) else value

    return jax.tree.map(leaf, tree)
