"""Decoupled networks: an encoder that receives s, a decoder that receives t."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.nets import DiTConfig, MLPConfig
from tests.nets.randomised import jit, randomised, with_config

DIT = DiTConfig(width=8, depth=4, heads=2, encoder_depth=2, guidance=True, remat="none")
MLP = MLPConfig(width=16, depth=3, encoder_depth=2, guidance=True)
CASES = {"mlp": (MLP, (2,)), "dit": (DIT, (4, 4, 1))}
COND = Condition(jnp.asarray(3), jnp.asarray([2.0, 0.1, 0.9]))


def made(name, getkey, **changes):
    """A randomised network, a point for it, and the times s, t."""
    config, shape = CASES[name]
    net = randomised(dataclasses.replace(config, **changes), shape, 10, getkey())
    return net, jr.normal(getkey(), shape), jnp.asarray(0.8), jnp.asarray(0.3)


def slope(function, time):
    return jax.jvp(function, (time,), (jnp.ones_like(time),))[1]


def silenced(net, layers, *, readout):
    """The network whose `layers` (and readout) receive no time, label or guidance."""
    if not hasattr(net, "blocks"):
        weights = [added.weight for added in net.added[layers]]
        where = lambda n: [added.weight for added in n.added[layers]]  # noqa: E731
        return eqx.tree_at(where, net, [0 * w for w in weights])
    weights = lambda n: n.blocks.modulation.weight  # noqa: E731
    net = eqx.tree_at(weights, net, weights(net).at[layers].set(0))
    last = lambda n: n.readout.modulation.weight  # noqa: E731
    return eqx.tree_at(last, net, 0 * last(net)) if readout else net


@pytest.mark.parametrize("name", CASES)
def test_one_encoding_serves_every_target_time(name, getkey):
    """V(x, s, t) and its small slope in t, |dV/dt| < max_frequency |V|, from one encoding."""
    config, shape = CASES[name]
    net, x = randomised(config, shape, 10, getkey(), scale=0.15), jr.normal(getkey(), shape)
    s, t = jnp.asarray(0.8), jnp.linspace(0.0, 1.0, 17)

    def shared(net):
        encoding = net.encode(x, s, COND)
        decode = lambda t: net.decode(encoding, t)  # noqa: E731
        return jax.vmap(lambda t: jax.jvp(decode, (t,), (jnp.ones_like(t),)))(t)

    each = jit(lambda net: jax.vmap(lambda t: net(x, s, t, COND))(t))(net)
    V, dV_dt = (out.reshape(17, -1) for out in jit(shared)(net))
    np.testing.assert_allclose(V, each.reshape(17, -1), rtol=1e-4, atol=1e-6)
    most = config.max_frequency * jnp.linalg.norm(V, axis=1).mean()
    assert net.decoupled and 0 < jnp.linalg.norm(dV_dt, axis=1).max() < most


@pytest.mark.parametrize("name", CASES)
def test_on_the_diagonal_it_is_the_ordinary_network_bit_for_bit(name, getkey):
    """All blocks then receive (s, cond): a velocity network becomes a flow map as it stands."""
    net, x, s, t = made(name, getkey)
    ordinary = with_config(net, x.shape, 10, CASES[name][0], encoder_depth=0)
    assert not ordinary.decoupled
    pair = jit(lambda net: (net(x, s, s, COND), net(x, s, t, COND)))
    (on_diagonal, off_diagonal), ordinary_pair = pair(net), pair(ordinary)
    np.testing.assert_array_equal(on_diagonal, ordinary_pair[0])
    assert jnp.abs(off_diagonal - ordinary_pair[1]).max() > 1e-2


@pytest.mark.parametrize("name", CASES)
def test_encoder_depends_on_s_and_the_rest_on_t(name, getkey, x64):
    """Without the conditioning of the first layers s is nowhere, without that of the others t.

    And d/dt is the decoder's; d/ds is the decoder's along d/ds of the encoding.
    """
    net, x, s, t = jax.tree.map(lambda p: p.astype(jnp.float64), made(name, getkey))

    @jit
    def slopes(net):
        encoding = net.encode(x, s, COND)
        with_h = lambda h: eqx.tree_at(lambda e: e.h, encoding, h)  # noqa: E731
        dh_ds = slope(lambda s: net.encode(x, s, COND).h, s)
        in_s = jax.jvp(lambda h: net.decode(with_h(h), t), (encoding.h,), (dh_ds,))[1]
        in_t = slope(lambda t: net.decode(encoding, t), t)
        whole = (slope(lambda s: net(x, s, t, COND), s), slope(lambda t: net(x, s, t, COND), t))
        return (in_s, in_t), whole

    parts, whole = slopes(net)
    np.testing.assert_allclose(parts, whole, rtol=1e-10, atol=1e-12)
    deaf_s, heard_t = slopes(silenced(net, slice(2), readout=False))[1]
    heard_s, deaf_t = slopes(silenced(net, slice(2, None), readout=True))[1]
    assert (deaf_s == 0).all() and (deaf_t == 0).all()
    assert min(jnp.abs(d).max() for d in (*whole, heard_s, heard_t)) > 1e-2


@pytest.mark.parametrize(("name", "dtype"), [("mlp", "float32"), ("dit", "bfloat16")])
def test_output_is_zero_at_the_start(name, dtype, getkey):
    config, shape = CASES[name]
    net = dataclasses.replace(config, dtype=dtype).build(shape, 10, key=getkey())
    out = jit(lambda x: net(x, jnp.asarray(0.8), jnp.asarray(0.3), COND))(jnp.ones(shape))
    assert out.shape == shape and out.dtype == jnp.float32 and (out == 0).all()


def test_velocity_head_does_not_see_the_target_time(getkey):
    net, x, s, t = made("dit", getkey, head_depth=1)

    def outputs(net):
        (V, v), (_, dv_dt) = jax.jvp(lambda t: net.with_head(x, s, t, COND), (t,), (1 + 0 * t,))
        return V - net(x, s, t, COND), V - v, dv_dt

    same, other, dv_dt = jit(outputs)(net)
    np.testing.assert_allclose(same, 0, atol=1e-5)
    assert (dv_dt == 0).all() and jnp.abs(other).max() > 1e-2


def lagrangian(net, x, s, t):
    """|V + (t - s) dV/dt|^2, differentiated through the derivative, as in LSD."""
    if net.decoupled:
        encoding = net.encode(x, s)
        of_t = lambda t: net.decode(encoding, t)  # noqa: E731
    else:
        of_t = lambda t: net(x, s, t)  # noqa: E731
    V, dV_dt = jax.jvp(of_t, (t,), (jnp.ones_like(t),))
    return jnp.mean(jnp.square(V + (t - s) * dV_dt))


def test_derivative_in_the_target_time_costs_the_decoder_alone(getkey):
    """Forward mode and reverse mode through it: 6 passes; on a third of the blocks 2 + 2 = 4.

    Counted before XLA compiles, in a second; the compiled programs give the same ratio.
    """
    config = DiTConfig(width=32, depth=3, heads=2, encoder_depth=2, remat="none", unroll=3)
    net = randomised(config, (8, 8, 1), 0, getkey())
    ordinary = with_config(net, (8, 8, 1), 0, config, encoder_depth=0)
    batch = (jnp.zeros((4, 8, 8, 1)), jnp.zeros(4), jnp.zeros(4))

    def flops(net):
        loss = lambda net, *row: jax.vmap(lagrangian, (None, 0, 0, 0))(net, *row).mean()  # noqa: E731
        return jit(jax.grad(loss)).lower(net, *batch).cost_analysis()["flops"]

    assert 0.6 * flops(ordinary) < flops(net) < 0.7 * flops(ordinary)


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (DiTConfig(depth=3, encoder_depth=3), (8, 8, 1), "--net.encoder-depth goes from 0 to 2"),
        (MLPConfig(encoder_depth=-1), (2,), "--net.encoder-depth goes from 0 to 3"),
        (DiTConfig(encoder_depth=1, times="s-t"), (8, 8, 1), "choose --net.times s,s-t"),
        (MLPConfig(encoder_depth=1, conditioning="concat"), (2,), "--net.conditioning add"),
    ],
)
def test_impossible_encoders_are_refused_in_one_line(config, shape, message, getkey):
    with pytest.raises(UserError, match=message) as error:
        config.build(shape, 0, key=getkey())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_ordinary_networks_have_no_encoder(name, getkey):
    net, x, s, _ = made(name, getkey, encoder_depth=0)
    with pytest.raises(UserError, match="--net.encoder-depth"):
        net.encode(x, s)
