"""Tables from our names to foreign ones: what they check, and that transforms are undone."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.layouts import Table, filled, left_out, names, take, transforms, unfilled
from core.tensors import LazyTensor


class Net(eqx.Module):
    """A dense layer, two stacked ones, a gain and a number that is no array."""

    dense: jax.Array
    blocks: jax.Array
    gain: jax.Array
    depth: int = 2


TABLE = Table(
    {
        "dense": take("in.weight", transforms.torch_convolution),
        "blocks": take(("block.{}.q", "block.{}.k"), transforms.rows(2)),
        "gain": take("gain"),
    },
    left_out=("*.resample_filter",),
)


def skeleton():
    def make():
        return Net(jnp.zeros((3, 2, 4, 5)), jnp.zeros((2, 6, 4)), jnp.zeros(()))

    return eqx.filter_eval_shape(make)


@pytest.fixture
def tensors(normal):
    found = {"in.weight": normal(5, 4, 3, 2), "gain": normal()}
    return found | {f"block.{i}.{what}": normal(3, 4) for i in range(2) for what in "qk"}


def test_each_leaf_has_its_numbers(tensors):
    net = filled(skeleton(), TABLE, tensors | {"up.resample_filter": np.ones(3)})
    w = tensors["in.weight"]
    assert net.dense[2, 1, 3, 4] == w[4, 3, 2, 1] and net.gain == tensors["gain"]
    np.testing.assert_array_equal(net.blocks[1, :3], tensors["block.1.q"])
    np.testing.assert_array_equal(net.blocks[0, 3:], tensors["block.0.k"])
    assert net.depth == 2 and list(names(net)) == ["dense", "blocks", "gain"]


def test_there_and_back_is_the_same(tensors):
    back = unfilled(filled(skeleton(), TABLE, tensors), TABLE)
    assert back.keys() == tensors.keys()
    for key, value in tensors.items():
        np.testing.assert_array_equal(back[key], value)


def test_sixteen_bits_become_the_networks_own(tensors):
    halves = {key: value.astype(np.float16) for key, value in tensors.items()}
    net = filled(skeleton(), TABLE, halves)
    assert net.dense.dtype == jnp.float32 and net.gain == halves["gain"]


def test_nothing_is_read_before_all_is_checked_and_one_layer_at_a_time(tensors):
    read = []

    def lazy(key, array):
        return LazyTensor(array.shape, "float32", lambda: read.append(key) or array)

    files = {key: lazy(key, array) for key, array in tensors.items()}
    with pytest.raises(UserError):
        filled(skeleton(), TABLE, files | {"other": lazy("other", np.ones(2))})
    assert not read
    filled(skeleton(), TABLE, files)
    assert sorted(read) == sorted(tensors)
    assert read[1:5] == ["block.0.q", "block.0.k", "block.1.q", "block.1.k"]


def without(tensors, *keys):
    return {key: value for key, value in tensors.items() if key not in keys}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda t: without(t, "block.1.q", "gain"), "missing: block.1.q, gain;"),
        (lambda t: t | {f"new.{i}": np.ones(1) for i in range(8)}, "new.4 and 3 more;"),
        (lambda t: t | {"block.1.k": np.ones((3, 5))},
         "block.1.k is (3, 5), the network has (3, 4);"),
        (lambda t: t | {"in.weight": np.ones((3, 2, 4, 5))},
         "in.weight is (3, 2, 4, 5), the network has (5, 4, 3, 2);"),
        (lambda t: t | {"gain": np.ones(1)}, "gain is (1,), the network has ();"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tensors, change, message):
    with pytest.raises(UserError) as error:
        filled(skeleton(), TABLE, change(tensors))
    assert message in str(error.value) and "\n" not in str(error.value)


def test_five_shapes_are_named_and_the_others_counted(tensors):
    wrong = {key: np.ones((7, 7)) for key in tensors}
    with pytest.raises(UserError) as error:
        filled(skeleton(), TABLE, wrong)
    assert str(error.value).count("is (7, 7)") == 5 and "; 1 more;" in str(error.value)


def test_a_table_of_another_network_is_named(tensors):
    entries = dict(TABLE.entries)
    other = Table(without(entries, "gain") | {"readout": take("gain")})
    for call in (lambda: filled(skeleton(), other, tensors), lambda: unfilled(skeleton(), other)):
        with pytest.raises(UserError, match="does not fill: gain; the network lacks: readout"):
            call()


def test_a_source_key_fills_one_leaf_only(tensors):
    twice = Table(dict(TABLE.entries) | {"gain": take("in.weight")})
    with pytest.raises(ValueError, match="two leaves take in.weight"):
        filled(skeleton(), twice, tensors)


def test_keys_that_are_knowingly_left_out():
    assert left_out(TABLE, ["a.resample_filter", "gain"]) == ["a.resample_filter"]


TRANSFORMS = {
    "same": (transforms.same, (3, 2)),
    "transposed": (transforms.transposed, (3, 2)),
    "torch_convolution": (transforms.torch_convolution, (5, 4, 3, 2)),
    "without_batch": (transforms.without_batch, (1, 4, 3)),
    "pointwise": (transforms.pointwise, (4, 3, 1, 1)),
    "torch_patches": (transforms.torch_patches(2), (5, 3, 2, 2)),
    "flax_patches": (transforms.flax_patches(2), (2, 2, 3, 5)),
    "regrouped hc3": (transforms.regrouped(2, "hc3"), (24, 5)),
    "regrouped h3c": (transforms.regrouped(2, "h3c"), (24,)),
    "chain": (transforms.chain(transforms.pointwise, transforms.regrouped(2, "hc3")),
              (12, 4, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_are_undone(name, normal):
    transform, shape = TRANSFORMS[name]
    theirs = normal(*shape)
    (back,) = transform.theirs(transform.ours(theirs))
    np.testing.assert_array_equal(back, theirs)


def test_a_patch_is_rows_then_columns_then_channels(normal):
    w, x = normal(5, 3, 2, 2), normal(2, 2, 3)
    whole = np.einsum("ocij,ijc->o", w, x)
    np.testing.assert_allclose(transforms.torch_patches(2).ours(w) @ x.ravel(), whole, rtol=1e-5)
    kernel = w.transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(
        transforms.flax_patches(2).ours(kernel), transforms.torch_patches(2).ours(w)
    )


@pytest.mark.parametrize("order, axes", [("hc3", (2, 0, 1)), ("h3c", (1, 0, 2))])
def test_queries_keys_and_values_stand_in_three_blocks(order, axes, normal):
    sizes = {"3": 3, "h": 2, "c": 4}
    split = normal(*(sizes[axis] for axis in order))
    ours = transforms.regrouped(2, order).ours(split.ravel()).reshape(3, 2, 4)
    np.testing.assert_array_equal(ours, split.transpose(axes))


def test_a_learned_variance_is_left_out_and_comes_back_as_zeros(normal):
    w = normal(4, 3, 5)  # 4 places in a patch, 3 channels of which 2 are kept
    transform = transforms.first_channels(2, 3)
    kept = transform.ours(w.reshape(12, 5))
    np.testing.assert_array_equal(kept, w[:, :2].reshape(8, 5))
    (back,) = transform.theirs(kept)
    np.testing.assert_array_equal(back.reshape(4, 3, 5)[:, :2], w[:, :2])
    assert not back.reshape(4, 3, 5)[:, 2].any()
