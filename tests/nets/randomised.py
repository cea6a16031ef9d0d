"""Networks with noise on their parameters, and a loss with a derivative in it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np


def jit(function):
    """`jax.jit` that compiles in half the time and runs slower."""
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": "0"})


def randomised(config, shape, num_classes, key, scale=0.3):
    """A network of this configuration with noise for parameters: no gate or output is zero."""
    return noise(skeleton(config, shape, num_classes), key, scale)


def noise(tree, key, scale=1.0):
    """Normal numbers in the shapes of the arrays of `tree`."""
    leaves, structure = jax.tree.flatten(tree)
    generator = np.random.default_rng(np.asarray(jr.key_data(key)))
    drawn = [jnp.asarray(scale * generator.normal(size=leaf.shape), leaf.dtype) for leaf in leaves]
    return jax.tree.unflatten(structure, drawn)


def skeleton(config, shape, num_classes):
    """The network with shapes for parameters."""
    return eqx.filter_eval_shape(lambda k: config.build(shape, num_classes, key=k), jr.key(0))


def with_config(net, shape, num_classes, config, **changes):
    """The parameters of `net` in a network that is run in another way."""
    other = dataclasses.replace(config, **changes)
    structure = jax.tree.structure(skeleton(other, shape, num_classes))
    return jax.tree.unflatten(structure, jax.tree.leaves(net))


def mean_flow_loss(net, x, s, t, cond):
    """A loss whose target holds a stopped exact derivative, as in MeanFlow."""
    tangent = (jnp.sin(3 * x), jnp.ones_like(s))
    V, dV_ds = jax.jvp(lambda x, s: net(x, s, t, cond), (x, s), tangent)
    return jnp.mean(jnp.square(V - jax.lax.stop_gradient(jnp.cos(x) - (s - t) * dV_ds)))
