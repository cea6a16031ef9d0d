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
from core.nets.attention import AUTO_TOKENS, PALLAS, attention, kernels, scan
from core.nets.attention.flash import Kernels, flash
from core.nets.attention.naive import naive
from tests.nets import attention_forms as forms
from tests.nets.randomised import jit, mean_flow_loss, randomised, with_config

BLOCKS_OF_4 = Kernels(partial(scan.value, block=4), partial(scan.tangent, block=4))
"""Eleven keys are three blocks, the last one not full."""
SHAPE = (8, 8, 1)


def everything(f):
    """All forms of one implementation at float64, by name."""
    with jax.enable_x64(True):
        x = forms.arrays(5, 11)
        return jit(lambda x: {form.__name__: form(f, *x) for form in forms.FORMS})(x)


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
    (q, k, v), moved = (tuple(jnp.swapaxes(x, 0, 1) for x in xs) for xs in forms.arrays(5, 11))
    o, lse = scan.value(q, k, v)
    for a, b in zip(kernels.value(q, k, v, block=4), (o, lse), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    moved_o = kernels.tangent(q, k, v, o, lse, *moved, block=4)
    for a, b in zip(moved_o, scan.tangent(q, k, v, o, lse, *moved, block=4), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
    back = kernels.transposed(q, k, v, o, lse, *moved_o, block=4)
    for a, b in zip(back, scan.transposed(q, k, v, o, lse, *moved_o), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)


@pytest.mark.parametrize("passes", [BLOCKS_OF_4, PALLAS], ids=["scan", "pallas"])
def test_an_offset_common_to_all_tangent_scores_is_not_lost_in_rounding(passes):
    """In bfloat16; with scores that are not centred the error is ten times that of the formula."""
    (q, k, v), (dq, dk, dv) = forms.arrays(16, 16, dim=16, dtype=jnp.bfloat16)
    dk = dk + 30

    def tangent(f, dtype):
        cast = [x.astype(dtype) for x in (q, k, v, dq, dk, dv)]
        out = jit(lambda *x: jax.jvp(f, x[:3], x[3:])[1])(*cast)
        return np.asarray(out, np.float64)

    exact = tangent(naive, jnp.float32)
    plain, centred = (
        np.abs(tangent(f, jnp.bfloat16) - exact).max()
        for f in (naive, lambda q, k, v: flash(q, k, v, passes))
    )
    assert centred <= plain


@pytest.fixture(scope="module")
def network():
    config = DiTConfig(width=8, depth=2, heads=2, remat="dots")
    return randomised(config, SHAPE, 0, jr.key(0))


def batch_loss(net, x, s, t):
    """With a stopped derivative in it."""
    return jax.vmap(mean_flow_loss, (None, 0, 0, 0, None))(net, x, s, t, None).mean()


def slopes(net, batch):
    """Through vmap, scanned layers and remat."""
    return jit(jax.value_and_grad(batch_loss))(net, *batch)


@pytest.fixture(scope="module")
def batch():
    return jr.normal(jr.key(1), (2, *SHAPE)), jnp.array([0.9, 0.7]), jnp.array([0.1, 0.3])


@pytest.fixture(scope="module")
def slopes_by_formula(network, batch):
    return slopes(network, batch)


@pytest.mark.parametrize("implementation", ["blockwise", "pallas"])
def test_a_scanned_network_learns_the_same(network, batch, slopes_by_formula, implementation):
    other = with_config(network, SHAPE, 0, network.config, attention=implementation)
    assert other.blocks.implementation == implementation
    found = slopes(other, batch)
    for a, b in zip(*map(jax.tree.leaves, (found, slopes_by_formula)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def flops(function, *arguments):
    return jit(function).lower(*arguments).compile().cost_analysis()["flops"]


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
    compiled = jit(partial(form, f)).lower(*x).compile()
    return compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize("form", [forms.stopped, forms.through])
def test_memory_grows_with_the_tokens_not_their_square(form):
    small, middle, large = (memory(form, flash, tokens) for tokens in (256, 1024, 4096))
    assert middle < 4.4 * small and large < 4.4 * middle


def test_memory_of_the_formula_grows_with_the_square():
    assert memory(forms.stopped, naive, 1024) > 12 * memory(forms.stopped, naive, 256)


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
