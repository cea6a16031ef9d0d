"""The example of docs/extending.md does what the page says."""

import re
from pathlib import Path

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.steering import registry, steering
from core.steering.fixtures import fixtures
from core.steering.registry import RewardContext, make_reward, rewards
from core.steering.steering import find_steering, steer

PAGE = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def example():
    """The names that the page's code defines; what it registers is forgotten after the test."""
    (code,) = re.findall(r"```python title.*?\n(.*?)```", PAGE.read_text(), re.DOTALL)
    names = {"__name__": "my_steering"}
    with registry.REWARDS.scope(), steering.STEERING.scope():
        exec(compile(code, "my_steering.py", "exec"), names)
        yield names


def test_the_reward_is_known_by_name_and_listed(example):
    reward = make_reward(("contrast",), (2.0,), RewardContext((2,)))
    assert float(reward(jnp.array([1.0, 5.0]))) == 4
    assert rewards()["contrast"].summary == "Standard deviation of the values"


def test_the_steering_method_is_exact_as_it_promises(example, x64):
    method, fixture = find_steering("pairs")(), fixtures()["G1"]
    assert method.exact and method.normalises
    steered = steer(method, fixture.tilt(), n=16, islands=800, key=jr.key(1), together=800)
    ratio = np.exp(steered.log_z_islands - fixture.log_z)
    assert abs(ratio.mean() - 1) < 4 * ratio.std() / np.sqrt(800)
    noise = steered.x.reshape(800, 2, 8) - 0.4  # the prior's mean
    np.testing.assert_allclose(noise[:, 0], -noise[:, 1], atol=1e-9)
