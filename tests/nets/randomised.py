"""Networks with noise on their parameters, and a loss with a derivative in it."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr


def perturbed(net, key, scale=0.1):
    """The network with noise on all parameters, so that no gate or output is zero."""
    leaves, tree = jax.tree.flatten(net)
    noisy = [
        p + scale * jr.normal(k, p.shape, p.dtype)
        for p, k in zip(leaves, jr.split(key, len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(tree, noisy)


def randomised(config, shape, num_classes, key):
    """A network of this configuration with no zero parameters."""

    def build(key):
        net = config.build(shape, num_classes, key=key)
        return perturbed(net, jr.fold_in(key, 1))

    return eqx.filter_jit(build)(key)


def with_config(net, shape, num_classes, config, **changes):
    """The parameters of `net` in a network that is run in another way."""
    other = dataclasses.replace(config, **changes)
    skeleton = eqx.filter_eval_shape(lambda k: other.build(shape, num_classes, key=k), jr.key(0))
    return jax.tree.unflatten(jax.tree.structure(skeleton), jax.tree.leaves(net))


def mean_flow_loss(net, x, s, t, cond):
    """A loss whose target holds a stopped exact derivative, as in MeanFlow."""
    tangent = (jnp.sin(3 * x), jnp.ones_like(s))
    V, dV_ds = jax.jvp(lambda x, s: net(x, s, t, cond), (x, s), tangent)
    return jnp.mean(jnp.square(V - jax.lax.stop_gradient(jnp.cos(x) - (s - t) * dV_ds)))
