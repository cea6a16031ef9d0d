"""Networks with noise on their parameters, and a loss with a derivative in it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.flow.condition import Condition


def randomised(config, shape, num_classes, key, scale=0.3):
    """A network of this configuration with noise for parameters: no gate or output is zero."""
    return noise(skeleton(config, shape, num_classes), key, scale)


def noise(tree, key, scale=1.0):
    """Normal numbers, drawn by NumPy, in the shapes of the arrays of `tree`."""
    generator = np.random.default_rng(np.asarray(jr.key_data(key)))

    def draw(leaf):
        return jax.device_put((scale * generator.normal(size=leaf.shape)).astype(leaf.dtype))

    return jax.tree.map(draw, tree)


def skeleton(config, shape, num_classes):
    """The network with shapes for parameters."""
    return eqx.filter_eval_shape(lambda k: config.build(shape, num_classes, key=k), jr.key(0))


def with_config(net, shape, num_classes, config, **changes):
    """The parameters of `net` in a network that is run in another way."""
    other = dataclasses.replace(config, **changes)
    structure = jax.tree.structure(skeleton(other, shape, num_classes))
    return jax.tree.unflatten(structure, jax.tree.leaves(net))


def in_float64(net):
    """The network with parameters of 64 bits, converted by NumPy."""
    return jax.tree.map(lambda p: jax.device_put(np.asarray(p, np.float64)), net)


def times(*values):
    """Scalars in JAX's default precision."""
    return tuple(np.asarray(value, jax.dtypes.canonicalize_dtype(float)) for value in values)


def given(label=None, guidance=None):
    """A condition of these numbers; compiles nothing."""
    number = None if label is None else jax.device_put(np.int32(label))
    scale = None if guidance is None else jax.device_put(np.float32(guidance))
    return Condition(number, scale)


def mean_flow_loss(net, x, s, t, cond):
    """A loss whose target holds a stopped exact derivative, as in MeanFlow."""
    tangent = (jnp.sin(3 * x), jnp.ones_like(s))
    V, dV_ds = jax.jvp(lambda x, s: net(x, s, t, cond), (x, s), tangent)
    return jnp.mean(jnp.square(V - jax.lax.stop_gradient(jnp.cos(x) - (s - t) * dV_ds)))
