"""Steering of text: functions of strings, a beginning, and weights against all strings of a
chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.data.text import tokens
from core.data.vocabulary import Symbols
from core.errors import UserError
from core.steering.own import check_reward
from core.steering.registry import RewardContext, make_reward
from core.steering.spoken import OfText
from tests.compiling import once

NAMES = ("\n", "a", "b", "c")
DATA = tokens("text", Symbols(np.zeros((4, 5), int), NAMES), "\n")
ROWS = np.array([[1, 2, 1, 0, 0], [3, 3, 3, 3, 3], [2, 0, 1, 1, 1], [0, 0, 0, 0, 0]])
STRINGS = ["aba", "ccccc", "b", ""]


def vowels(text):
    return text.count("a") - 0.5 * len(text)


def test_a_function_of_text_sees_the_string_of_each_example():
    noisy = np.eye(4)[ROWS] + np.random.default_rng(0).uniform(0, 0.9, (4, 5, 4))
    found = once(jax.vmap(OfText(vowels, DATA.spec)))(noisy.astype(np.float32))
    np.testing.assert_allclose(found, [vowels(text) for text in STRINGS])


@pytest.mark.programs(30)
@pytest.mark.parametrize(
    "function, message",
    [
        (lambda text: text[7], "the reward of 'aba' raised"),
        (lambda text: [1.0, 2.0], r"shape \(2,\); it must be a single number"),
        (lambda text: float("nan"), "not finite for 4 of 4 samples"),
    ],
)
def test_a_function_of_text_that_gives_no_number_is_refused_in_one_line(function, message):
    with pytest.raises(UserError, match=message) as caught:
        check_reward(OfText(function, DATA.spec), jnp.asarray(np.eye(4, dtype=np.float32)[ROWS]))
    assert "\n" not in str(caught.value)


@pytest.mark.programs(20)
def test_each_wrong_symbol_of_a_beginning_costs_one_over_the_noise_squared():
    context = RewardContext(DATA.shape, DATA, None, DATA.spec)
    reward = make_reward(("prefix:bca,0.5",), (), context)
    found = once(jax.vmap(reward))(np.eye(4, dtype=np.float32)[ROWS])
    wrong = (ROWS[:, :3] != [2, 3, 1]).sum(axis=1)
    np.testing.assert_allclose(found, -wrong / 0.5**2, rtol=1e-6)
    assert reward.differentiable


@pytest.mark.parametrize(
    "name, message",
    [("prefix:bx", "'x' is no symbol"), ("prefix:abcabc", "5 symbols at most"),
     ("prefix:a,0", "must be positive"), ("prefix:a,b", "takes a number")],
)  # fmt: skip
def test_a_beginning_that_is_none_of_the_run_is_refused(name, message):
    with pytest.raises(UserError, match=message):
        make_reward((name,), (), RewardContext(DATA.shape, DATA, None, DATA.spec))


def test_a_beginning_is_for_text():
    with pytest.raises(UserError, match="is for text"):
        make_reward(("prefix:a",), (), RewardContext((4, 4, 1)))
