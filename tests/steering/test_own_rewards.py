"""Rewards as people write them: each fault in one line, before anything is drawn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.steering.own import (
    Function,
    NumpyFunction,
    check_gradient,
    check_reward,
    check_varies,
    function_reward,
    load_function,
)
from core.steering.reward import Brightness, Sum

pytestmark = pytest.mark.programs(40)  # eager rewards: a small program for each operation

X = np.linspace(-1, 1, 4 * 2 * 2, dtype=np.float32).reshape(4, 2, 2, 1)


def in_numpy(x):
    return float(np.mean(np.asarray(x)))


def branch(x):
    return 1.0 if x.mean() > 0 else 0.0


def positive(x):
    return jnp.mean(x) > 0


def wrong_name(x):
    return jnp.mean(x.nothing)


def of_another_shape(x):
    return jnp.sum(x, axis=0)


def infinite(x):
    return 1 / (jnp.mean(x) - jnp.mean(x))


def callback(x):
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    return jax.pure_callback(lambda v: np.float32(np.mean(v)), shape, x, vmap_method="sequential")


def bad_gradient(x):
    return jnp.mean(x) - jnp.sqrt(jnp.sum((x - x) ** 2))


VALUES = {
    in_numpy: r"not written for JAX \(Tracer\w+\): write it with jax.numpy .* numpy:MODULE",
    branch: r"not written for JAX \(TracerBool\w+\): write it with jax.numpy \(jnp.where",
    positive: "of type bool, which has no gradient: declare it by FUNCTION.gradient = False",
    wrong_name: r"raised AttributeError: .*nothing.* \(.*test_own_rewards.py, line \d+\)",
    of_another_shape: "has shape .*; it must be a single number",
    infinite: "not finite for 4 of 4 samples; fix it first",
}


@pytest.mark.parametrize("function", VALUES)
def test_a_fault_in_a_reward_is_one_line(function):
    with pytest.raises(UserError, match=VALUES[function]) as error:
        check_reward(Function(function), jnp.asarray(X))
    assert "\n" not in str(error.value)


def test_a_fault_in_one_of_several_rewards_is_one_line_too():
    both = Sum((Brightness(), Function(branch)), (1.0, 1.0))
    with pytest.raises(UserError, match=VALUES[branch]):
        check_reward(both, jnp.asarray(X))


@pytest.mark.parametrize(
    "function, message",
    [
        (callback, r"no gradient \(ValueError: Pure callbacks .*\); fix it, or declare"),
        (bad_gradient, "gradient of the reward is not finite for 4 of 4 samples; fix it, or decl"),
    ],
)
def test_a_reward_whose_gradient_is_none_or_not_finite(function, message):
    check_reward(Function(function), jnp.asarray(X))
    with pytest.raises(UserError, match=message) as error:
        check_gradient(Function(function), jnp.asarray(X))
    assert "\n" not in str(error.value)


def test_what_the_messages_advise_works():
    """Declared without a gradient, and called in NumPy, the same functions are rewards."""
    for function in (positive, callback, bad_gradient):
        function.gradient = False
        reward = function_reward(function)
        del function.gradient
        assert not reward.differentiable
        values = check_reward(reward, jnp.asarray(X))
        assert np.array_equal(values, np.array([function(x) for x in X], np.float32))
    for function in (in_numpy, branch):
        reward = NumpyFunction(function)
        assert not reward.differentiable
        expected = np.array([function(x) for x in X], np.float32)
        np.testing.assert_array_equal(check_reward(reward, jnp.asarray(X)), expected)


def test_a_function_of_numpy_with_a_fault_is_one_line_too():
    with pytest.raises(UserError, match=r"raised AttributeError: .* \(.*line \d+\)$"):
        check_reward(NumpyFunction(lambda x: x.nothing), jnp.asarray(X))
    with pytest.raises(UserError, match=r"has shape \(2, 2, 1\)"):
        check_reward(NumpyFunction(lambda x: x), jnp.asarray(X))


@pytest.mark.parametrize("value", [0.0, 1.0, -1e6])
def test_a_reward_that_does_not_vary(value):
    values = np.full(512, value, np.float32)
    with pytest.raises(UserError, match="does not vary: it is .* for all 512 .* give --lam"):
        check_varies(values)
    with pytest.raises(UserError):  # rounding is no variation
        check_varies(np.where(np.arange(512) > 9, values * np.float32(1 + 1.2e-7), values))
    values[7] += 0.1 + abs(value)
    check_varies(values)


def test_the_rewards_of_the_project_are_not_differentiated_to_be_checked(monkeypatch):
    monkeypatch.setattr(jax, "grad", None)
    check_gradient(Sum((Brightness(), Brightness()), (1.0, 1.0)), jnp.asarray(X))


@pytest.mark.parametrize("name", ["math:nothing", "no_such_module:f", "math", "math:pi", ""])
def test_a_name_of_no_function(name):
    with pytest.raises(UserError, match="no function"):
        load_function(name)
