"""What every network promises, whatever it is made of."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.nets import NETS, DiTConfig, MLPConfig, UNetConfig
from tests.nets.randomised import jit, mean_flow_loss, noise, randomised, skeleton, with_config

DIT = DiTConfig(width=16, depth=2, heads=2)
UNET = UNetConfig(channels=8, multipliers=(1, 2), attention=(4,))
MLP = MLPConfig(width=16, depth=3)
CASES = {
    "mlp": (MLP, (2,)),
    "mlp-concat": (MLPConfig(width=16, depth=2, conditioning="concat", residual=False), (3,)),
    "dit": (DIT, (8, 8, 1)),
    "dit-sincos": (dataclasses.replace(DIT, positions="sincos", qk_norm=False), (4, 8, 3)),
    "unet": (UNET, (8, 8, 1)),
    "unet-flat": (dataclasses.replace(UNET, multipliers=(1,), blocks=0), (4, 4, 2)),
}
SMALL = ["mlp", "dit", "unet-flat"]


def in_float64(net):
    return jax.tree.map(lambda p: p.astype(jnp.float64) if eqx.is_inexact_array(p) else p, net)


def built(name, getkey, **changes):
    config, shape = CASES[name]
    config = dataclasses.replace(config, **changes)
    return randomised(config, shape, 10, getkey()), jr.normal(getkey(), shape)


def times(*values):
    return tuple(jnp.asarray(v) for v in values)


@pytest.mark.parametrize("name", CASES)
def test_output_has_the_shape_of_the_input_and_is_zero_at_the_start(name, getkey):
    config, shape = CASES[name]
    net = config.build(shape, 10, key=getkey())
    cond = Condition(jnp.asarray(4))
    out = jit(lambda x: net(x, *times(0.8, 0.3), cond))(jr.normal(getkey(), shape))
    assert out.shape == shape and out.dtype == jnp.float32
    assert (out == 0).all()


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3)])
def test_default_unet_takes_the_usual_sizes(shape, getkey):
    net = UNetConfig().build(shape, 10, key=getkey())
    assert eqx.filter_eval_shape(net, jnp.zeros(shape), *times(1.0, 0.0)).shape == shape


@pytest.mark.parametrize("name", SMALL)
def test_batched_equals_one_by_one(name, getkey):
    net, _ = built(name, getkey)
    x = jr.normal(getkey(), (3, *CASES[name][1]))
    s, t = jnp.asarray([0.9, 0.5, 0.1]), jnp.asarray([0.2, 0.5, 0.7])
    label = jnp.asarray([0, 3, 10])
    call = jit(lambda x, s, t, label: net(x, s, t, Condition(label)))
    together = jax.vmap(call)(x, s, t, label)
    one_by_one = [call(x[i], s[i], t[i], label[i]) for i in range(3)]
    np.testing.assert_allclose(together, np.stack(one_by_one), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp-concat", "dit", "unet"])
def test_jvp_equals_central_differences(name, getkey, x64):
    net, x = built(name, getkey)
    net, x = in_float64(net), x.astype(jnp.float64)
    s, t = jnp.asarray(0.7), jnp.asarray(0.2)
    tangent = (jr.normal(getkey(), x.shape, x.dtype), jnp.asarray(0.8), jnp.asarray(-0.6))
    plain = lambda x, s, t: net(x, s, t, Condition(jnp.asarray(2)))  # noqa: E731
    call, derivative = jit(plain), jit(lambda *at: jax.jvp(plain, at, tangent)[1])(x, s, t)
    h = 1e-5
    ahead, behind = (
        call(*(p + sign * h * d for p, d in zip((x, s, t), tangent, strict=True)))
        for sign in (1, -1)
    )
    assert derivative.dtype == jnp.float64 and jnp.abs(derivative).max() > 1e-2
    np.testing.assert_allclose(derivative, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", SMALL)
def test_gradient_of_a_derivative_equals_differences(name, getkey, x64):
    """Reverse over forward, without a stop: the gradient of |dV/ds|^2 in a random direction."""
    net, x = built(name, getkey)
    net, x = in_float64(net), x.astype(jnp.float64)
    params, static = eqx.partition(net, eqx.is_inexact_array)
    direction = noise(params, getkey())
    s, t = jnp.asarray(0.7), jnp.asarray(0.2)

    def squared_slope(params):
        net = eqx.combine(params, static)
        return jnp.sum(jax.jvp(lambda s: net(x, s, t), (s,), (jnp.ones_like(s),))[1] ** 2)

    products = jax.tree.map(
        lambda g, d: (g * d).sum(), jit(jax.grad(squared_slope))(params), direction
    )
    slope, h, loss = sum(jax.tree.leaves(products)), 1e-6, jit(squared_slope)
    ahead, behind = (
        loss(jax.tree.map(lambda p, d: p + sign * h * d, params, direction)) for sign in (1, -1)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_bfloat16_is_close_and_its_output_float32(name, getkey):
    net, x = built(name, getkey)
    half = with_config(net, x.shape, 10, CASES[name][0], dtype="bfloat16")
    call = jit(lambda net: net(x, *times(0.8, 0.3), Condition(jnp.asarray(1))))
    exact, rounded = call(net), call(half)
    assert rounded.dtype == jnp.float32 and not (exact == rounded).all()
    assert jnp.linalg.norm(exact - rounded) < 0.03 * jnp.linalg.norm(exact)


@pytest.mark.parametrize("name", ["mlp", "dit"])
def test_parameters_and_gradients_stay_float32_in_bfloat16(name, getkey):
    net, x = built(name, getkey)
    half = with_config(net, x.shape, 10, CASES[name][0], dtype="bfloat16")
    at = (x, *times(0.8, 0.3), Condition(jnp.asarray(1)))
    grads, wide = (jit(jax.grad(mean_flow_loss))(n, *at) for n in (half, net))
    for p, g, w in zip(*map(jax.tree.leaves, (half, grads, wide)), strict=True):
        assert p.dtype == jnp.float32 and g.dtype == jnp.float32
        assert jnp.linalg.norm(g - w) < 0.2 * jnp.linalg.norm(w) + 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_no_label_is_the_null_class(name, getkey):
    net, x = built(name, getkey)
    s, t = times(0.8, 0.3)
    call = jit(lambda cond: net(x, s, t, cond))
    null = call(Condition(jnp.asarray(10)))
    np.testing.assert_allclose(call(None), null, rtol=1e-5, atol=1e-5)
    assert jnp.abs(call(Condition(jnp.asarray(9))) - null).max() > 1e-2


@pytest.mark.parametrize("name", ["mlp", "dit"])
def test_guidance_matters_only_with_the_flag(name, getkey):
    s, t = times(0.8, 0.3)
    given = Condition(None, jnp.asarray([2.5, 0.1, 0.9]))
    none = Condition(None, jnp.asarray([1.0, 0.0, 1.0]))
    blind, x = built(name, getkey)
    guided, _ = built(name, getkey, guidance=True)
    call = jit(lambda net, cond: net(x, s, t, cond))
    np.testing.assert_allclose(call(blind, given), call(blind, None), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(call(guided, none), call(guided, None), rtol=1e-5, atol=1e-5)
    assert jnp.abs(call(guided, given) - call(guided, None)).max() > 1e-2


def size_and_slope(net, x):
    """Root mean squares of V and of dV/ds, at 17 source times."""

    def along(s):
        return jax.jvp(lambda s: net(x, s, 0.2 + 0 * s), (s,), (jnp.ones_like(s),))

    pair = jit(jax.vmap(along))(jnp.linspace(0.0, 1.0, 17))
    return [jnp.sqrt(jnp.mean(jnp.square(a.reshape(17, -1)), 1)) for a in pair]


@pytest.mark.parametrize("name", SMALL)
def test_time_derivative_of_a_randomised_net_is_small(name, getkey):
    """|dV/ds| stays below max_frequency |V|."""
    config, shape = CASES[name]
    net = randomised(config, shape, 10, getkey(), scale=0.15)
    size, slope = size_and_slope(net, jr.normal(getkey(), shape))
    assert 0 < slope.max() < config.max_frequency * size.mean()


def test_large_frequencies_make_the_time_derivative_large(getkey):
    """The trap that the default avoids: with 1000 s in the embedding dV/ds is of that order."""
    config = dataclasses.replace(MLP, max_frequency=1000.0)
    net = randomised(config, (2,), 10, getkey(), scale=0.15)
    size, slope = size_and_slope(net, jr.normal(getkey(), (2,)))
    assert slope.max() > 50 * size.mean()


@pytest.mark.parametrize("name", SMALL)
def test_new_times_do_not_retrace(name, getkey):
    net, x = built(name, getkey)
    traced = []

    @jit
    def call(net, x, s, t, cond):
        traced.append(1)
        return net(x, s, t, cond)

    call(net, x, *times(0.8, 0.3), Condition(jnp.asarray(1)))
    call(net, x, *times(0.1, 0.6), Condition(jnp.asarray(7)))
    assert len(traced) == 1


def test_networks_without_labels_have_no_table(getkey):
    net = MLP.build((2,), 0, key=getkey())
    assert net.embedding.labels is None
    assert net(jnp.ones(2), *times(0.8, 0.3)).shape == (2,)


def test_mlp_learns_a_simple_field(getkey):
    """Least squares on V(x, s, t) = (cos 3s, t x_1): most of the variance is explained soon."""
    import optax

    net = MLPConfig(width=64, depth=3).build((2,), 0, key=getkey())
    optimiser = optax.adam(3e-3)

    def loss(net, key):
        key_x, key_s, key_t = jr.split(key, 3)
        x, s, t = jr.normal(key_x, (128, 2)), jr.uniform(key_s, 128), jr.uniform(key_t, 128)
        wanted = jnp.stack([jnp.cos(3 * s), t * x[:, 1]], 1)
        return jnp.mean(jnp.square(jax.vmap(net)(x, s, t) - wanted))

    @eqx.filter_jit
    def fit(net, state):
        def step(carry, key):
            value, grads = jax.value_and_grad(loss)(carry[0], key)
            updates, state = optimiser.update(grads, carry[1])
            return (optax.apply_updates(carry[0], updates), state), value

        return jax.lax.scan(step, (net, state), jr.split(getkey(), 400))

    values = fit(net, optimiser.init(net))[1]
    assert values[-20:].mean() < 0.01 and values[:5].mean() > 0.3


@pytest.mark.parametrize(
    ("config", "shape", "message"),
    [
        (DiTConfig(patch=3), (8, 8, 1), "patches of 3 do not divide images of 8x8"),
        (DiTConfig(heads=5), (8, 8, 1), "5 heads do not divide width 64"),
        (DiTConfig(width=18, heads=2, positions="sincos"), (8, 8, 1), "divisible by 4"),
        (DiTConfig(), (2,), r"dit is for images .* use --net mlp"),
        (UNetConfig(), (2,), r"unet is for images .* use --net mlp"),
        (UNetConfig(), (30, 30, 1), "3 levels need sides divisible by 4"),
        (UNetConfig(heads=3), (28, 28, 1), "3 heads do not divide the channels"),
        (MLPConfig(), (8, 8, 1), r"mlp is for points.* use --net dit"),
    ],
)
def test_impossible_shapes_are_refused_in_one_line(config, shape, message, getkey):
    with pytest.raises(UserError, match=message) as error:
        config.build(shape, 0, key=getkey())
    assert "\n" not in str(error.value)


def test_parameters_start_at_the_scale_of_their_layer(getkey):
    """Every weight has its own numbers, of variance 1/fan_in where it is not zero."""
    net = DiTConfig(depth=3).build((8, 8, 1), 10, key=getkey())
    weights = np.concatenate(
        [np.asarray(net.blocks.qkv.weight), np.asarray(net.blocks.up.weight)], 1
    )
    assert abs(weights.std() * 8 - 1) < 0.02 and abs(weights.mean()) < 0.01
    rows = weights.reshape(-1, 64)
    overlap = np.abs(np.corrcoef(rows[:200]) - np.eye(200))
    assert overlap.max() < 0.65
    assert len(np.unique(rows)) > 0.95 * rows.size
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(net))


def test_key_decides_the_parameters(getkey):
    key = getkey()
    first, again, other = (MLP.build((2,), 0, key=k) for k in (key, key, getkey()))
    assert eqx.tree_equal(first, again) and not eqx.tree_equal(first, other)


def test_registry_builds_by_name():
    for name, shape in (("mlp", (2,)), ("dit", (8, 8, 1)), ("unet", (32, 32, 3))):
        assert jax.tree.leaves(skeleton(NETS[name](), shape, 0))
