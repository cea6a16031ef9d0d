"""Rewards by name: what they say, and what is said of those that are not there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter1d

import core.steering.catalogue as catalogue
from core.data.dataset import Dataset
from core.errors import UserError
from core.nets.encoder import EncoderConfig
from core.steering.classify import ClassProbability, class_shares
from core.steering.fixtures import fixtures
from core.steering.inverse import LinearInverse, Matrix, blur_of, shrinking
from core.steering.registry import RewardContext, make_reward, register_reward, rewards
from core.steering.reward import Brightness, Sum

pytestmark = pytest.mark.slow

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def context():
    images = np.random.default_rng(0).integers(0, 256, (5, *SHAPE)).astype(np.uint8)
    dataset = Dataset(name="own", kind="image", shape=SHAPE, examples=images, levels=255)
    config = EncoderConfig(width=4, levels=1)
    return RewardContext(SHAPE, dataset, config.classifier(SHAPE, 3, key=jax.random.key(0)))


def value(name, x, context, **others):
    return float(make_reward((name,), (), context, **others)(x))


def test_every_reward_is_one_finite_number_and_has_the_gradient_it_says(context):
    x = context.example(1, "test")
    arguments = {
        "class": ":2",
        "python": ":math:isfinite",
        "numpy": ":math:isfinite",
        "colour": None,
        "prefix": None,
    }
    for name, kind in rewards().items():
        argument = arguments.get(name, "")
        if argument is None or name in ("python", "numpy"):
            continue
        reward = make_reward((name + argument,), (), context)
        assert np.isfinite(float(reward(x))) and reward.differentiable == kind.gradient
        if kind.gradient:
            slope = jax.grad(reward)(x + 0.1)
            assert float(jnp.max(jnp.abs(slope))) > 0


def test_a_sum_with_a_reward_without_gradient_has_none(context):
    assert not make_reward(("brightness", "compressibility"), (), context).differentiable
    assert make_reward(("brightness", "smoothness"), (2.0, 1.0), context).differentiable
    negative = make_reward(("smoothness",), (-1.0,), context)
    assert isinstance(negative, Sum) and float(negative(context.example(0, "test"))) > 0


def test_a_linear_inverse_problem_is_the_quadratic_reward_of_its_observation(x64):
    reward = LinearInverse(Matrix(jnp.array([[1.0, 0.0]])), jnp.array([1.0]), 0.3)
    known = fixtures()["G2 inpainting"].reward
    for x in (jnp.array([0.2, 5.0]), jnp.array([-1.0, 0.0])):
        np.testing.assert_allclose(reward(x), known(x), rtol=1e-12)


def test_operators_are_what_they_are_called():
    image = np.random.default_rng(1).normal(size=(8, 6, 2)).astype(np.float32)
    small = shrinking((8, 6, 2), 2)(jnp.asarray(image))
    np.testing.assert_allclose(small, image.reshape(4, 2, 3, 2, 2).mean(axis=(1, 3)), atol=1e-6)
    blurred = np.asarray(blur_of((24, 8, 1), 1.0)(jnp.zeros((24, 8, 1)).at[12].set(1.0)))
    single = gaussian_filter1d(np.eye(24)[12], 1.0, truncate=6)
    np.testing.assert_allclose(blurred[4:20, 4, 0], single[4:20], atol=1e-6)
    constant = blur_of((8, 8, 1), 1.0)(jnp.ones(SHAPE))
    np.testing.assert_allclose(constant, 1.0, atol=1e-6)


def test_an_inverse_problem_is_likeliest_at_the_example_and_blind_to_what_was_not_seen(context):
    x = context.example(2, "test")
    for name in ("mask:2", "superres:2", "blur:2"):
        assert value(name, x, context) == 0 > value(name, x + 0.1, context)
    checks = jnp.asarray(np.indices((8, 8)).sum(0) % 2 * 2.0 - 1)[..., None]
    assert value("superres:2", x + checks, context) == pytest.approx(0, abs=1e-6)
    assert value("mask:2", x.at[:, 5].set(3.0), context) == 0
    wide, narrow = (value(f"superres:2,{noise}", x + 0.1, context) for noise in (0.2, 0.1))
    assert narrow == pytest.approx(4 * wide, rel=1e-5)


def test_what_was_seen_is_shown_in_the_shape_of_an_example(context):
    x = np.asarray(context.example(2, "test"))
    mask, small, both = (
        np.asarray(make_reward((name,), (), context).observed)
        for name in ("mask:2", "superres:2", "blur:2")
    )
    np.testing.assert_array_equal(mask[:, :4], x[:, :4])
    assert not mask[:, 4:].any()
    means = x.reshape(4, 2, 4, 2, 1).mean(axis=(1, 3))
    np.testing.assert_allclose(small, np.kron(means[..., 0], np.ones((2, 2)))[..., None], atol=1e-6)
    assert both.shape == x.shape
    bright = Brightness()
    assert bright.observed is None and Sum((bright, bright), (1.0, 1.0)).observed is None
    np.testing.assert_array_equal(make_reward(("brightness", "mask:2"), (), context).observed, mask)


def test_smoothness_and_linear_have_their_closed_forms(context):
    slope = jnp.broadcast_to(jnp.arange(8.0)[:, None, None], SHAPE)
    assert value("smoothness", slope, context) == pytest.approx(-56 / 64)  # 56 steps of 1
    assert value("linear", slope, context) == pytest.approx(3.5)
    point = RewardContext((2,))
    assert value("linear:2,-1", jnp.array([3.0, 5.0]), point) == 1
    blue = jnp.stack([jnp.full((4, 4), c) for c in (-1.0, 0.0, 1.0)], axis=-1)
    assert value("colour", blue, RewardContext((4, 4, 3))) == pytest.approx(1 - (0 + 0.5) / 2)
    assert value("colour:red", blue, RewardContext((4, 4, 3))) == pytest.approx(0 - (0.5 + 1) / 2)


def test_class_probabilities_sum_to_one_and_shares_go_by_weight(context):
    x = jnp.stack([context.example(i, "test") for i in range(5)])
    parts = [ClassProbability(context.classifier, jnp.asarray(k)) for k in range(3)]
    total = sum(jnp.exp(jax.vmap(part)(x)) for part in parts)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    votes = np.asarray(jnp.argmax(jax.vmap(context.classifier)(x), axis=1))
    weights = np.array([0.4, 0.3, 0.1, 0.1, 0.1])
    shares = class_shares(context.classifier, np.asarray(x), weights, together=2)
    np.testing.assert_allclose(shares, [weights[votes == k].sum() for k in range(3)])


@pytest.mark.parametrize(
    "name, message",
    [
        ("brightnes", "did you mean 'brightness'"),
        ("brightness:2", "takes no argument"),
        ("symmetry:wide", "takes a number"),
        ("superres:1,2,3", "at most 2 numbers"),
        ("mask:9", "from 0 to 4"),
        ("mask:1.5", "from 0 to 4"),
        ("blur:0,0", "noise must be positive"),
        ("colour", "three channels"),
        ("python", "python:MODULE:FUNCTION"),
        ("class:3", "classes go from 0 to 2"),
    ],
)
def test_a_name_that_does_not_serve_is_one_line(name, message, context):
    with pytest.raises(UserError, match=message) as raised:
        make_reward((name,), (), context)
    assert "\n" not in str(raised.value)


def test_a_name_is_taken_once():
    with pytest.raises(ValueError, match="taken"):
        register_reward("brightness")(lambda argument, context: Brightness())
    register_reward("brightness")(catalogue._brightness)
