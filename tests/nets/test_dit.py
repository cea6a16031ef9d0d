"""What only the transformer promises: cost of its derivatives, remat, the velocity head."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.nets import DiTConfig
from core.nets.patches import sincos_positions
from tests.compiling import once
from tests.nets.randomised import (
    given,
    in_float64,
    mean_flow_loss,
    randomised,
    times,
    with_config,
)

CONFIG = DiTConfig(width=16, depth=3, heads=2, remat="none")
SHAPE = (8, 8, 1)


def make(getkey, **changes):
    return randomised(dataclasses.replace(CONFIG, **changes), SHAPE, 10, getkey())


def rerun(net, **changes):
    return with_config(net, SHAPE, 10, net.config, **changes)


def batch_loss(loss):
    return lambda net, x, s, t: jax.vmap(loss, (None, 0, 0, 0, None))(net, x, s, t, None).mean()


def diagonal_loss(net, x, s, t, cond):
    del t
    return jnp.mean(jnp.square(net(x, s, s, cond) - jnp.cos(x)))


def compiled(net, loss, batch, grad=True):
    """The compiled value (and gradient) of a mean loss over a batch."""
    args = [jax.ShapeDtypeStruct((batch, *dims), jnp.float32) for dims in (SHAPE, (), ())]
    function = batch_loss(loss)
    return jax.jit(jax.value_and_grad(function) if grad else function).lower(net, *args).compile()


def flops(executable):
    return executable.cost_analysis()["flops"]


@pytest.mark.slow
def test_remat_and_unroll_change_no_value_and_no_gradient(getkey, normal, rng, x64):
    net = in_float64(make(getkey, depth=2, width=8))
    x, (s, t) = normal(2, *SHAPE), rng.random((2, 2))
    loss = once(jax.value_and_grad(batch_loss(mean_flow_loss)))
    plain = loss(net, x, s, t)
    for changes in ({"remat": "dots"}, {"remat": "full"}, {"unroll": 2, "remat": "full"}):
        other = loss(rerun(net, **changes), x, s, t)
        for a, b in zip(*map(jax.tree.leaves, (plain, other)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-12)


@pytest.mark.slow
def test_remat_lowers_the_memory_of_a_stopped_derivative(getkey):
    net = make(getkey, depth=6)
    memory = {
        remat: compiled(rerun(net, remat=remat), mean_flow_loss, 32)
        .memory_analysis()
        .temp_size_in_bytes
        for remat in ("none", "dots", "full")
    }
    assert memory["dots"] < 0.6 * memory["none"] and memory["full"] < 0.4 * memory["none"]


@pytest.mark.slow
def test_stopped_derivative_costs_one_more_forward_pass(getkey):
    """A loss with a stopped jvp costs 4/3 of plain flow matching, and no activation memory.

    XLA counts the body of the loop over layers once, however many there are; the wide MLP makes
    the bodies most of the count.
    """
    net = make(getkey, width=64, depth=8, mlp_ratio=8.0)
    plain, derived = (compiled(net, loss, 8) for loss in (diagonal_loss, mean_flow_loss))
    memory = [c.memory_analysis().temp_size_in_bytes for c in (plain, derived)]
    assert flops(derived) <= 1.4 * flops(plain)
    assert memory[1] <= 1.2 * memory[0]


def test_dense_layers_are_matrix_products_over_the_whole_batch(getkey):
    """Under vmap XLA sees (batch * tokens, width) matrices, not batches of small products."""
    net = make(getkey, width=24, heads=2)
    text = compiled(net, diagonal_loss, 8, grad=False).as_text()
    assert "f32[128,72]" in text and "f32[128,96]" in text


def test_velocity_head_shares_the_trunk(getkey, normal):
    net = make(getkey, head_depth=1)
    assert net.has_head
    both = once(lambda net, *at: (net.with_head(*at), net(*at)))
    (V, v), without_head = both(net, normal(*SHAPE), *times(0.8, 0.3))
    np.testing.assert_allclose(V, without_head, rtol=1e-5, atol=1e-5)
    assert v.shape == SHAPE and not np.allclose(V, v, atol=1e-2)


def test_gradients_flow_where_the_outputs_come_from(getkey, normal):
    net = make(getkey, head_depth=1, depth=2)

    def size(tree):
        return sum(np.abs(leaf).sum() for leaf in jax.tree.leaves(tree))

    def gradients(net, *at):
        V, back = jax.vjp(lambda net: net.with_head(*at), net)
        of_head, of_output = (back((k * V[0], (1 - k) * V[1]))[0] for k in (0.0, 1.0))
        return of_head, of_output

    of_head, of_output = once(gradients)(net, normal(*SHAPE), *times(0.8, 0.3))
    assert size(of_head.blocks) > 0 and size(of_head.head_blocks) > 0 == size(of_head.readout)
    assert size(of_output.blocks) > 0 and size(of_output.readout) > 0
    assert size(of_output.head_blocks) == 0 == size(of_output.head_readout)


def test_head_costs_its_own_blocks_only(getkey):
    """Of 4 trunk blocks and 1 of the head: 5/4 of a forward pass, not two.

    Counted before XLA compiles; the compiled programs give the same ratio.
    """
    net = make(getkey, width=64, depth=4, head_depth=1, unroll=4)

    def head_loss(net, x, s, t, cond):
        V, v = net.with_head(x, s, t, cond)
        return V.sum() + v.sum()

    def lowered(loss):
        args = [jax.ShapeDtypeStruct((8, *dims), jnp.float32) for dims in (SHAPE, (), ())]
        return jax.jit(batch_loss(loss)).lower(net, *args)

    plain = flops(lowered(diagonal_loss))
    assert 1.15 * plain < flops(lowered(head_loss)) < 1.35 * plain


def test_asking_for_a_head_that_is_not_there_says_what_to_do(getkey):
    net = make(getkey)
    with pytest.raises(UserError, match="--net.head-depth"):
        once(lambda *at: net.with_head(*at))(np.zeros(SHAPE, np.float32), *times(0.8, 0.3))


def test_patches_are_put_back_where_they_came_from(getkey):
    """The bias of the last layer numbers the values of a patch, in rows, columns, channels."""
    config = DiTConfig(patch=2, width=12, depth=1, heads=1)
    net = config.build((4, 6, 3), 0, key=getkey())
    numbers = jax.device_put(np.arange(12, dtype=np.float32))
    moved = eqx.tree_at(lambda n: n.readout.output.bias, net, numbers)
    image = once(lambda net, *at: net(*at))(
        moved, np.zeros((4, 6, 3), np.float32), *times(0.5, 0.2)
    )
    np.testing.assert_array_equal(image[:2, :2].reshape(-1), np.arange(12.0))
    np.testing.assert_array_equal(image[2:, 4:], image[:2, :2])


def test_a_patch_depends_on_its_own_pixels_first(getkey, normal):
    """With all gates shut the blocks pass tokens through: dV/dx is block-diagonal in patches."""
    net = CONFIG.build(SHAPE, 0, key=getkey())
    weight = jax.device_put(normal(*net.readout.output.weight.shape))
    net = eqx.tree_at(lambda n: n.readout.output.weight, net, weight)
    slope = once(lambda net, x, s, t: jax.jacfwd(lambda x: net(x, s, t))(x))
    jacobian = slope(net, np.ones(SHAPE, np.float32), *times(0.5, 0.2))
    touched = np.abs(jacobian[..., 2, 5, 0])[..., 0] > 1e-9
    rows, columns = np.nonzero(touched)
    assert set(rows) == {2, 3} and set(columns) == {4, 5}


def test_sincos_positions_differ_and_are_constant_in_size():
    table = sincos_positions((4, 7), 16)
    assert table.shape == (28, 16)
    distances = np.linalg.norm(table[:, None] - table[None], axis=-1) + 10 * np.eye(28)
    assert distances.min() > 0.1
    np.testing.assert_allclose(np.linalg.norm(table, axis=1), np.sqrt(8))


def test_conditions_as_tokens_reach_the_image(getkey, normal):
    """Through attention alone: the modulations receive nothing."""
    net = make(getkey, context=3, guidance=True)
    x, (s, t, other_s, other_t) = normal(*SHAPE), times(0.7, 0.2, 0.6, 0.1)

    def cond(label, w):
        return given(label, [w, 0.0, 1.0])

    conditioned = once(lambda network, *args: network(*args))
    base = conditioned(net, x, s, t, cond(1, 2.0))
    assert base.shape == SHAPE
    for changed in (
        conditioned(net, x, other_s, t, cond(1, 2.0)),
        conditioned(net, x, s, other_t, cond(1, 2.0)),
        conditioned(net, x, s, t, cond(2, 2.0)),
        conditioned(net, x, s, t, cond(1, 3.0)),
    ):
        assert np.abs(changed - base).max() > 1e-6
    silent = eqx.tree_at(
        lambda n: (n.context.weight, n.context.bias), net, replace_fn=jnp.zeros_like
    )
    np.testing.assert_array_equal(
        conditioned(silent, x, s, t, cond(1, 2.0)), conditioned(silent, x, s, t, cond(2, 2.0))
    )
    with pytest.raises(UserError, match="encoder-depth"):
        make(getkey, context=3, encoder_depth=1)


@pytest.mark.long
def test_normalised_modulations_have_no_size(getkey, normal):
    """Ten times the modulation's weights are the same modulation."""
    x, (s, t) = normal(*SHAPE), times(0.7, 0.2)
    run = once(lambda network, *args: network(*args))

    def change(**flags):
        net = make(getkey, depth=1, **flags)
        where = lambda n: [n.blocks.modulation.weight, n.blocks.modulation.bias]  # noqa: E731
        larger = eqx.tree_at(where, net, [10 * np.asarray(leaf) for leaf in where(net)])
        before = run(net, x, s, t)
        return np.abs(run(larger, x, s, t) - before).max() / np.abs(before).max()

    assert change(modulation_norm=True) < 1e-4
    assert change() > 0.1


def test_each_parameter_of_a_network_with_context_tokens_does_something(getkey):
    """Weights of modulations would not: they would multiply zeros."""
    net = make(getkey, context=2, depth=2, head_depth=1)
    arrays, static = eqx.partition(net, eqx.is_inexact_array)
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(SHAPE)

    def total(arrays, x, s, t):
        V, v = eqx.combine(arrays, static).with_head(x, s, t, given(3))
        return jnp.sum(jnp.sin(V * x)) + jnp.sum(jnp.cos(v * x))

    slopes = jax.jit(jax.grad(total))(arrays, x, np.float32(0.7), np.float32(0.2))
    assert all(np.abs(np.asarray(slope)).max() > 0 for slope in jax.tree.leaves(slopes))


@pytest.mark.parametrize("changes", [{}, {"encoder_depth": 1, "head_depth": 1}, {"context": 2}])
def test_unstacked_blocks_give_the_same_output_and_copy_no_weights(getkey, changes):
    net = make(getkey, **changes)
    apart = net.unstacked()
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(SHAPE)
    args = *map(jax.device_put, (x, np.float32(0.7), np.float32(0.2))), given(3)
    one, other = (
        jax.jit(lambda net, args: net(*args)).lower(n, args).compile() for n in (net, apart)
    )
    np.testing.assert_allclose(one(net, args), other(apart, args), rtol=1e-5, atol=1e-6)
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(apart.blocks[0]))
    copied = one.memory_analysis().temp_size_in_bytes - other.memory_analysis().temp_size_in_bytes
    assert copied > weights / 2
