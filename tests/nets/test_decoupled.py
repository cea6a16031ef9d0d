"""Decoupled networks: an encoder that receives s, a decoder that receives t."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.nets import DiTConfig, MLPConfig
from tests.compiling import once
from tests.nets.randomised import given, in_float64, randomised, skeleton, times, with_config
from tests.sets import some

DIT = DiTConfig(width=8, depth=4, heads=2, encoder_depth=2, guidance=True, remat="none")
MLP = MLPConfig(width=16, depth=3, encoder_depth=2, guidance=True)
CASES = {"mlp": (MLP, (2,)), "dit": (DIT, (4, 4, 1))}
COND = given(3, [2.0, 0.1, 0.9])


@pytest.fixture
def made(getkey, normal):
    """`made(name, **changes)` -> a randomised network, a point for it, and the times s, t."""

    def make(name, **changes):
        config, shape = CASES[name]
        net = randomised(dataclasses.replace(config, **changes), shape, 10, getkey())
        return net, normal(*shape), *times(0.8, 0.3)

    return make


def slope(function, time):
    return jax.jvp(function, (time,), (jnp.ones_like(time),))[1]


def silenced(net, layers, *, readout):
    """The network whose `layers` (and readout) receive no time, label or guidance."""
    if not hasattr(net, "blocks"):
        weights = [added.weight for added in net.added[layers]]
        where = lambda n: [added.weight for added in n.added[layers]]  # noqa: E731
        return eqx.tree_at(where, net, [zeroed(w) for w in weights])
    weights = lambda n: n.blocks.modulation.weight  # noqa: E731
    net = eqx.tree_at(weights, net, zeroed(weights(net), layers))
    last = lambda n: n.readout.modulation.weight  # noqa: E731
    return eqx.tree_at(last, net, zeroed(last(net))) if readout else net


def zeroed(array, rows=slice(None)):
    """The array with zeros in some rows."""
    copy = np.array(array)
    copy[rows] = 0
    return jax.device_put(copy)


@pytest.mark.parametrize("name", some(CASES, "mlp"))
def test_one_encoding_serves_every_target_time(name, getkey, normal):
    """V(x, s, t) and its small slope in t, |dV/dt| < max_frequency |V|, from one encoding."""
    config, shape = CASES[name]
    net, x = randomised(config, shape, 10, getkey(), scale=0.15), normal(*shape)

    def shared(net, x, s, t):
        encoding = net.encode(x, s, COND)
        decode = lambda t: net.decode(encoding, t)  # noqa: E731
        each = jax.vmap(lambda t: net(x, s, t, COND))(t)
        return each, *jax.vmap(lambda t: jax.jvp(decode, (t,), (jnp.ones_like(t),)))(t)

    found = once(shared)(net, x, *times(0.8), np.linspace(0, 1, 17, dtype=np.float32))
    each, V, dV_dt = (out.reshape(17, -1) for out in found)
    np.testing.assert_allclose(V, each, rtol=1e-4, atol=1e-6)
    most = config.max_frequency * np.linalg.norm(V, axis=1).mean()
    assert net.decoupled and 0 < np.linalg.norm(dV_dt, axis=1).max() < most


@pytest.mark.parametrize("name", CASES)
def test_on_the_diagonal_it_is_the_ordinary_network_bit_for_bit(name, made):
    """All blocks then receive (s, cond): a velocity network becomes a flow map as it stands."""
    net, x, s, t = made(name)
    ordinary = with_config(net, x.shape, 10, CASES[name][0], encoder_depth=0)
    assert not ordinary.decoupled
    pair = once(lambda net, x, s, t: (net(x, s, s, COND), net(x, s, t, COND)))
    (on_diagonal, off_diagonal), ordinary_pair = pair(net, x, s, t), pair(ordinary, x, s, t)
    np.testing.assert_array_equal(on_diagonal, ordinary_pair[0])
    assert np.abs(off_diagonal - ordinary_pair[1]).max() > 1e-2


@pytest.mark.parametrize("name", CASES)
def test_encoder_depends_on_s_and_the_rest_on_t(name, made, x64):
    """Without the conditioning of the first layers s is nowhere, without that of the others t.

    And d/dt is the decoder's; d/ds is the decoder's along d/ds of the encoding.
    """
    net, *at = made(name)
    net = in_float64(net)

    def slopes(net, x, s, t):
        encoding = net.encode(x, s, COND)
        with_h = lambda h: eqx.tree_at(lambda e: e.h, encoding, h)  # noqa: E731
        dh_ds = slope(lambda s: net.encode(x, s, COND).h, s)
        in_s = jax.jvp(lambda h: net.decode(with_h(h), t), (encoding.h,), (dh_ds,))[1]
        in_t = slope(lambda t: net.decode(encoding, t), t)
        whole = (slope(lambda s: net(x, s, t, COND), s), slope(lambda t: net(x, s, t, COND), t))
        return (in_s, in_t), whole

    run = once(slopes)
    parts, whole = run(net, *at)
    np.testing.assert_allclose(parts, whole, rtol=1e-10, atol=1e-12)
    deaf_s, heard_t = run(silenced(net, slice(2), readout=False), *at)[1]
    heard_s, deaf_t = run(silenced(net, slice(2, None), readout=True), *at)[1]
    assert (deaf_s == 0).all() and (deaf_t == 0).all()
    assert min(np.abs(d).max() for d in (*whole, heard_s, heard_t)) > 1e-2


@pytest.mark.parametrize(
    ("name", "dtype"), [("mlp", "float32"), pytest.param("dit", "bfloat16", marks=pytest.mark.slow)]
)
def test_output_is_zero_at_the_start(name, dtype, getkey):
    config, shape = CASES[name]
    net = dataclasses.replace(config, dtype=dtype).build(shape, 10, key=getkey())
    out = once(lambda net, *at: net(*at, COND))(net, np.ones(shape, np.float32), *times(0.8, 0.3))
    assert out.shape == shape and out.dtype == np.float32 and (out == 0).all()


def test_velocity_head_does_not_see_the_target_time(made):
    def outputs(net, x, s, t):
        (V, v), (_, dv_dt) = jax.jvp(lambda t: net.with_head(x, s, t, COND), (t,), (1 + 0 * t,))
        return V - net(x, s, t, COND), V - v, dv_dt

    same, other, dv_dt = once(outputs)(*made("dit", head_depth=1))
    np.testing.assert_allclose(same, 0, atol=1e-5)
    assert (dv_dt == 0).all() and np.abs(other).max() > 1e-2


def lagrangian(net, x, s, t):
    """|V + (t - s) dV/dt|^2, differentiated through the derivative, as in LSD."""
    if net.decoupled:
        encoding = net.encode(x, s)
        of_t = lambda t: net.decode(encoding, t)  # noqa: E731
    else:
        of_t = lambda t: net(x, s, t)  # noqa: E731
    V, dV_dt = jax.jvp(of_t, (t,), (jnp.ones_like(t),))
    return jnp.mean(jnp.square(V + (t - s) * dV_dt))


@pytest.mark.slow
def test_derivative_in_the_target_time_costs_the_decoder_alone():
    """Forward mode and reverse mode through it: 6 passes; on a third of the blocks 2 + 2 = 4.

    Counted before XLA compiles, in a second; the compiled programs give the same ratio.
    """
    config = DiTConfig(width=32, depth=3, heads=2, encoder_depth=2, remat="none", unroll=3)
    net = skeleton(config, (8, 8, 1), 0)
    ordinary = with_config(net, (8, 8, 1), 0, config, encoder_depth=0)
    batch = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((4, 8, 8, 1), (4,), (4,))]

    def flops(net):
        loss = lambda net, *row: jax.vmap(lagrangian, (None, 0, 0, 0))(net, *row).mean()  # noqa: E731
        return jax.jit(jax.grad(loss)).lower(net, *batch).cost_analysis()["flops"]

    assert 0.6 * flops(ordinary) < flops(net) < 0.7 * flops(ordinary)


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (DiTConfig(depth=3, encoder_depth=3), (8, 8, 1), "--net.encoder-depth goes from 0 to 2"),
        (MLPConfig(encoder_depth=4), (2,), "--net.encoder-depth goes from 0 to 3"),
        (DiTConfig(encoder_depth=1, times="s-t"), (8, 8, 1), "choose --net.times s,s-t"),
        (MLPConfig(encoder_depth=1, conditioning="concat"), (2,), "--net.conditioning add"),
    ],
)
def test_impossible_encoders_are_refused_in_one_line(config, shape, message, getkey):
    with pytest.raises(UserError, match=message) as error:
        config.build(shape, 0, key=getkey())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", CASES)
def test_ordinary_networks_have_no_encoder(name, made):
    net, x, s, _ = made(name, encoder_depth=0)
    with pytest.raises(UserError, match="--net.encoder-depth"):
        once(lambda net, x, s: net.encode(x, s))(net, x, s)
