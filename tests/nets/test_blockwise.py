"""Attention block by block against the formula: the same numbers, in less memory."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.nets import DiTConfig
from core.nets.attention import AUTO_TOKENS, attention, kernels, scan
from core.nets.attention.flash import Kernels, flash
from core.nets.attention.naive import naive
from core.nets.attention.primitive import PALLAS
from tests.nets import attention_forms as forms
from tests.nets.randomised import mean_flow_loss

pytestmark = pytest.mark.slow

BLOCKS_OF_4 = Kernels(partial(scan.value, block=4), partial(scan.tangent, block=4))
"""Eleven keys are three blocks, the last one not full."""
SHAPE = (8, 8, 1)


def everything(f):
    """All forms of one implementation at float64, by name."""
    with jax.enable_x64(True):
        x = forms.arrays(5, 11)
        return jax.jit(lambda x: {form.__name__: form(f, *x) for form in forms.FORMS})(x)


@pytest.fixture(scope="module")
def by_formula():
    return everything(naive)


@pytest.mark.parametrize("passes", [BLOCKS_OF_4, PALLAS], ids=["scan", "pallas"])
def test_values_tangents_and_all_their_gradients_are_those_of_the_formula(by_formula, passes):
    found = everything(lambda q, k, v: flash(q, k, v, passes))
    for form, expected in by_formula.items():
        for a, b in zip(*map(jax.tree.leaves, (found[form], expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10, err_msg=form)
            assert np.abs(b).max() > 0.05


def test_kernels_give_what_the_scan_gives_over_many_blocks(x64):
    qkv, moved = (tuple(jnp.swapaxes(x, 0, 1) for x in xs) for xs in forms.arrays(5, 11))

    def passes(which, block, back):
        o, lse = which.value(*qkv, **block)
        moved_o = which.tangent(*qkv, o, lse, *moved, **block)
        return o, lse, *moved_o, *which.transposed(*qkv, o, lse, *moved_o, **back)

    blocks = {"block": 4}
    pair = jax.jit(lambda: (passes(kernels, blocks, blocks), passes(scan, blocks, {})))()
    for a, b in zip(*pair, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


def test_an_offset_common_to_all_tangent_scores_is_not_lost_in_rounding():
    """In bfloat16; with scores that are not centred the error is ten times that of the formula."""
    narrow = forms.arrays(16, 16, dim=16, dtype=jnp.bfloat16)
    narrow = narrow[0], (narrow[1][0], narrow[1][1] + 30, narrow[1][2])
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), narrow)
    scanned, by_kernels = (partial(flash, kernels=passes) for passes in (BLOCKS_OF_4, PALLAS))
    cases = (naive, wide), (naive, narrow), (scanned, narrow), (by_kernels, narrow)
    tangents = jax.jit(lambda: [forms.tangent(f, *x)[1] for f, x in cases])()
    exact, *rounded = (np.asarray(tangent, np.float64) for tangent in tangents)
    formula, *centred = (np.abs(tangent - exact).max() for tangent in rounded)
    assert max(centred) <= formula


def test_the_network_runs_what_its_flag_says():
    def program(implementation):
        config = DiTConfig(width=8, depth=2, heads=2, attention=implementation)
        net = eqx.filter_eval_shape(lambda key: config.build(SHAPE, 0, key=key), jr.key(0))
        arrays, static = eqx.partition(net, lambda x: isinstance(x, jax.ShapeDtypeStruct))
        x, t = (jax.ShapeDtypeStruct(dims, jnp.float32) for dims in (SHAPE, ()))
        run = jax.make_jaxpr(lambda arrays, x, t: eqx.combine(arrays, static)(x, t, t))
        return str(run(arrays, x, t))

    assert "custom_jvp_call" in program("blockwise") and "pallas_call" in program("pallas")
    assert "custom_jvp_call" not in program("xla") == program("auto")


def learned(implementation):
    """Gradient of a stack of layers by a loss with a stopped tangent: vmap, scan, remat."""

    def stack(weights, h):
        @partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable)
        def layer(h, weight):
            q, k, v = jnp.moveaxis((h @ weight).reshape(-1, 3, 2, 2), 1, 0)
            return h + attention(q, k, v, implementation).reshape(h.shape), None

        return jax.lax.scan(layer, h, weights)[0]

    def loss(weights, h):
        y, dy = jax.jvp(partial(stack, weights), (h,), (jnp.sin(h),))
        return jnp.square(y - jax.lax.stop_gradient(jnp.cos(h) + dy)).mean()

    weights, h = (jr.normal(jr.key(i), shape) for i, shape in enumerate([(3, 4, 12), (2, 7, 4)]))
    batch = jax.value_and_grad(lambda weights: jax.vmap(partial(loss, weights))(h).mean())
    return jax.jit(batch)(weights)


def test_stacked_layers_learn_the_same(x64):
    expected = learned("xla")
    for implementation in ("blockwise", "pallas"):
        for a, b in zip(learned(implementation), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12, err_msg=implementation)


def batch_loss(net, x, s, t):
    """With a stopped derivative in it."""
    return jax.vmap(mean_flow_loss, (None, 0, 0, 0, None))(net, x, s, t, None).mean()


def flops(function, *arguments):
    return jax.jit(function).lower(*arguments).compile().cost_analysis()["flops"]


def test_gradient_of_a_stopped_derivative_costs_four_forward_passes():
    """Of a transformer of 64 tokens with scanned layers; XLA counts a loop's body once."""
    config = DiTConfig(width=192, depth=6, heads=3, remat="none", attention="blockwise")
    shape = (16, 16, 1)
    net = eqx.filter_eval_shape(lambda key: config.build(shape, 0, key=key), jr.key(0))
    x, s, t = (jax.ShapeDtypeStruct((8, *dims), jnp.float32) for dims in (shape, (), ()))
    forward = flops(lambda net, *x: jax.vmap(net)(*x), net, x, s, t)
    assert 3.5 * forward < flops(jax.value_and_grad(batch_loss), net, x, s, t) <= 4.2 * forward


@pytest.mark.parametrize("platform, call", [("cuda", "triton"), ("tpu", "tpu_custom_call")])
def test_kernels_are_lowered_for(platform, call):
    """One source for both; 300 tokens of width 24 are no whole blocks."""
    x = jax.eval_shape(lambda: forms.arrays(300, 300, dim=24, dtype=jnp.bfloat16))
    form = jax.jit(partial(forms.stopped, lambda q, k, v: flash(q, k, v, PALLAS)))
    text = form.trace(*x).lower(lowering_platforms=(platform,)).as_text()
    assert text.count(call) >= 4  # value, tangent and two of the backward pass


def memory(form, f, tokens):
    x = jax.eval_shape(lambda: forms.arrays(tokens, tokens, heads=1, dim=16, dtype=jnp.float32))
    compiled = jax.jit(partial(form, f)).lower(*x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_tokens_not_their_square():
    """The formula's grows with the square."""
    small, middle, large = (memory(forms.through, flash, n) for n in (256, 1024, 4096))
    assert middle < 4.4 * small and large < 4.4 * middle
    assert memory(forms.through, naive, 1024) > 12 * memory(forms.through, naive, 256)


def test_auto_is_the_formula_for_few_keys_and_blockwise_for_many():
    def program(name, keys):
        x = jax.eval_shape(lambda: forms.arrays(2, keys, dtype=jnp.float32)[0])
        return str(jax.make_jaxpr(lambda *x: attention(*x, name))(*x))

    assert program("auto", AUTO_TOKENS - 1) == program("xla", AUTO_TOKENS - 1)
    assert program("auto", AUTO_TOKENS) == program("blockwise", AUTO_TOKENS)
    assert program("xla", AUTO_TOKENS) != program("blockwise", AUTO_TOKENS)


def test_an_unknown_name_is_one_line():
    with pytest.raises(UserError, match="choose one of xla, blockwise, pallas, auto"):
        attention(*forms.arrays(2, 2, dtype=jnp.float32)[0], "flash")
