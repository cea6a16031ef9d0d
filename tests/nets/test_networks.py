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
from core.nets import NETS, DiTConfig, IMFDiTConfig, MLPConfig, OfficialDiTConfig, UNetConfig
from tests.compiling import once
from tests.nets.randomised import (
    given,
    in_float64,
    mean_flow_loss,
    noise,
    randomised,
    skeleton,
    times,
    with_config,
)
from tests.sets import some

DIT = DiTConfig(width=16, depth=2, heads=2)
UNET = UNetConfig(channels=8, multipliers=(1, 2), attention=(4,))
MLP = MLPConfig(width=16, depth=3)
CASES = {
    "mlp": (MLP, (2,)),
    "mlp-concat": (MLPConfig(width=16, depth=2, conditioning="concat", residual=False), (3,)),
    "dit": (DIT, (8, 8, 1)),
    "dit-sincos": (dataclasses.replace(DIT, positions="sincos", qk_norm=False), (4, 8, 3)),
    "official-dit": (OfficialDiTConfig(width=16, depth=2, heads=2, frequencies=4), (4, 4, 2)),
    "official-dit-own": (
        OfficialDiTConfig(
            width=16,
            depth=2,
            heads=2,
            frequencies=4,
            own_embedders=True,
            times="s",
            clock="reversed",
            positions="stored",
            end_point=True,
            mlp_eps=1e-5,
        ),
        (4, 4, 1),
    ),
    "imf-dit": (IMFDiTConfig(width=16, depth=2, head_depth=1, heads=2, frequencies=4), (4, 4, 1)),
    "unet": (UNET, (8, 8, 1)),
    "unet-flat": (dataclasses.replace(UNET, multipliers=(1,), blocks=0), (4, 4, 2)),
}
SMALL = ["mlp", "dit", "unet-flat"]
OTHERS = ["unet", "official-dit-own", "imf-dit"]


@pytest.fixture
def built(getkey, normal):
    """`built(name, **changes)` -> a randomised network of one of the cases, and a point for it."""

    def build(name, **changes):
        config, shape = CASES[name]
        return randomised(dataclasses.replace(config, **changes), shape, 10, getkey()), normal(
            *shape
        )

    return build


def call(net, x, s, t, cond=None):
    return net(x, s, t, cond)


@pytest.mark.parametrize("name", some(CASES, "mlp", "mlp-concat", "dit", "unet"))
def test_output_has_the_shape_of_the_input_and_is_zero_at_the_start(name, getkey, normal):
    config, shape = CASES[name]
    net = config.build(shape, 10, key=getkey())
    out = once(call)(net, normal(*shape), *times(0.8, 0.3), given(4))
    assert out.shape == shape and out.dtype == jnp.float32
    assert (out == 0).all()


@pytest.mark.parametrize("shape", [(28, 28, 1), pytest.param((32, 32, 3), marks=pytest.mark.slow)])
def test_default_unet_takes_the_usual_sizes(shape):
    net, time = skeleton(UNetConfig(), shape, 10), jax.ShapeDtypeStruct((), jnp.float32)
    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    assert eqx.filter_eval_shape(call, net, x, time, time).shape == shape


@pytest.mark.parametrize("name", some(SMALL, "mlp", "dit"))
def test_batched_equals_one_by_one(name, built, normal):
    net, _ = built(name)
    x = normal(3, *CASES[name][1])
    s, t = np.float32([0.9, 0.5, 0.1]), np.float32([0.2, 0.5, 0.7])
    label = np.int32([0, 3, 10])
    one = lambda x, s, t, label: net(x, s, t, Condition(label))  # noqa: E731
    together, alone = once(jax.vmap(one))(x, s, t, label), once(one)
    one_by_one = [alone(x[i], s[i], t[i], label[i]) for i in range(3)]
    np.testing.assert_allclose(together, np.stack(one_by_one), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", some(["mlp-concat", "dit", *OTHERS], "mlp-concat", "dit"))
def test_jvp_equals_central_differences(name, built, normal, x64):
    net, x = built(name)
    net, at = in_float64(net), (x, *times(0.7, 0.2))
    tangent = (normal(*x.shape), *times(0.8, -0.6))
    plain = lambda x, s, t: net(x, s, t, given(2))  # noqa: E731
    value = once(plain)
    derivative = once(lambda at, along: jax.jvp(plain, at, along)[1])(at, tangent)
    h = 1e-5
    ahead, behind = (
        value(*(p + sign * h * d for p, d in zip(at, tangent, strict=True))) for sign in (1, -1)
    )
    assert derivative.dtype == np.float64 and np.abs(derivative).max() > 1e-2
    np.testing.assert_allclose(derivative, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", some(SMALL, "mlp"))
def test_gradient_of_a_derivative_equals_differences(name, built, getkey, x64):
    """Reverse over forward, without a stop: the gradient of |dV/ds|^2 in a random direction."""
    net, x = built(name)
    net = in_float64(net)
    direction = noise(net, getkey())

    def squared_slope(h, net, direction, x, s, t):
        net = jax.tree.map(lambda p, d: p + h * d, net, direction)
        return jnp.sum(jax.jvp(lambda s: net(x, s, t), (s,), (jnp.ones_like(s),))[1] ** 2)

    def gradient(h, net, *rest):
        return jax.grad(lambda net: squared_slope(h, net, *rest))(net)

    rest = (net, direction, x, *times(0.7, 0.2))
    parts = once(gradient)(*times(0), *rest)
    pairs = zip(*map(jax.tree.leaves, (parts, direction)), strict=True)
    slope, h, loss = sum(np.sum(g * np.asarray(d)) for g, d in pairs), 1e-6, once(squared_slope)
    ahead, behind = (loss(*times(sign * h), *rest) for sign in (1, -1))
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize("name", some(SMALL, "mlp", "dit"))
def test_bfloat16_is_close_and_its_output_float32(name, built):
    net, x = built(name)
    half = with_config(net, x.shape, 10, CASES[name][0], dtype="bfloat16")
    exact, rounded = (once(call)(n, x, *times(0.8, 0.3), given(1)) for n in (net, half))
    assert rounded.dtype == np.float32 and not (exact == rounded).all()
    assert np.linalg.norm(exact - rounded) < 0.03 * np.linalg.norm(exact)


@pytest.mark.parametrize("name", some(["mlp", "dit"], "mlp"))
def test_parameters_and_gradients_stay_float32_in_bfloat16(name, built):
    net, x = built(name)
    half = with_config(net, x.shape, 10, CASES[name][0], dtype="bfloat16")
    at = (x, *times(0.8, 0.3), given(1))
    grads, wide = (once(jax.grad(mean_flow_loss))(n, *at) for n in (half, net))
    for p, g, w in zip(*map(jax.tree.leaves, (half, grads, wide)), strict=True):
        assert p.dtype == np.float32 and g.dtype == np.float32
        assert np.linalg.norm(g - w) < 0.2 * np.linalg.norm(w) + 1e-3


@pytest.mark.parametrize("name", SMALL)
def test_no_label_is_the_null_class(name, built):
    net, x = built(name)
    each = once(lambda net, x, s, t, conds: [net(x, s, t, cond) for cond in conds])
    null, none, other = each(net, x, *times(0.8, 0.3), (given(10), None, given(9)))
    np.testing.assert_allclose(none, null, rtol=1e-5, atol=1e-5)
    assert np.abs(other - null).max() > 1e-2


@pytest.mark.parametrize("name", some(["mlp", "dit"], "mlp"))
def test_guidance_matters_only_with_the_flag(name, built):
    asked, neutral = given(None, [2.5, 0.1, 0.9]), given(None, [1.0, 0.0, 1.0])
    blind, x = built(name)
    guided, _ = built(name, guidance=True)
    each = once(lambda net, x, s, t, conds: [net(x, s, t, cond) for cond in conds])
    at = (x, *times(0.8, 0.3), (None, asked, neutral))
    unconditional, same, _ = each(blind, *at)
    np.testing.assert_allclose(same, unconditional, rtol=1e-5, atol=1e-5)
    unconditional, other, same = each(guided, *at)
    np.testing.assert_allclose(same, unconditional, rtol=1e-5, atol=1e-5)
    assert np.abs(other - unconditional).max() > 1e-2


def size_and_slope(net, x):
    """Root mean squares of V and of dV/ds, at 17 source times."""

    def along(net, x, s):
        return jax.jvp(lambda s: net(x, s, 0.2 + 0 * s), (s,), (jnp.ones_like(s),))

    s = np.linspace(0.0, 1.0, 17, dtype=np.float32)
    pair = once(jax.vmap(along, (None, None, 0)))(net, x, s)
    return [np.sqrt(np.mean(np.square(a.reshape(17, -1)), 1)) for a in pair]


@pytest.mark.parametrize("name", some(SMALL, "mlp", "dit"))
def test_time_derivative_of_a_randomised_net_is_small(name, getkey, normal):
    """|dV/ds| stays below max_frequency |V|."""
    config, shape = CASES[name]
    net = randomised(config, shape, 10, getkey(), scale=0.15)
    size, slope = size_and_slope(net, normal(*shape))
    assert 0 < slope.max() < config.max_frequency * size.mean()


def test_large_frequencies_make_the_time_derivative_large(getkey, normal):
    """The trap that the default avoids: with 1000 s in the embedding dV/ds is of that order."""
    config = dataclasses.replace(MLP, max_frequency=1000.0)
    net = randomised(config, (2,), 10, getkey(), scale=0.15)
    size, slope = size_and_slope(net, normal(2))
    assert slope.max() > 50 * size.mean()


@pytest.mark.parametrize("name", some(SMALL, "mlp", "dit"))
def test_new_times_do_not_retrace(name, built):
    net, x = built(name)
    traced = []

    def counted(*args):
        traced.append(1)
        return call(*args)

    run = once(counted)
    run(net, x, *times(0.8, 0.3), given(1))
    run(net, x, *times(0.1, 0.6), given(7))
    assert len(traced) == 1


def test_networks_without_labels_have_no_table(getkey):
    net = MLP.build((2,), 0, key=getkey())
    assert net.embedding.labels is None
    assert once(call)(net, np.ones(2, np.float32), *times(0.8, 0.3)).shape == (2,)


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

    def fit(net, key):
        def step(carry, key):
            value, grads = jax.value_and_grad(loss)(carry[0], key)
            updates, state = optimiser.update(grads, carry[1])
            return (optax.apply_updates(carry[0], updates), state), value

        return jax.lax.scan(step, (net, optimiser.init(net)), jr.split(key, 400))[1]

    values = once(fit)(net, getkey())
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
    nets = (MLP.build((2,), 0, key=k) for k in (key, key, getkey()))
    first, again, other = ([np.asarray(leaf) for leaf in jax.tree.leaves(net)] for net in nets)
    assert all(map(np.array_equal, first, again)) and not all(map(np.array_equal, first, other))


def test_registry_builds_by_name():
    shapes = {"mlp": (2,), "unet": (32, 32, 3)}
    for name in ("mlp", "dit", "unet", "official-dit", "imf-dit"):
        shape = shapes.get(name, (8, 8, 1))
        assert jax.tree.leaves(skeleton(NETS[name](), shape, 0))
