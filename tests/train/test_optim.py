"""Learning-rate schedules at their key steps, and what each optimiser's name means."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from core.errors import UserError
from core.train.config import OptimConfig
from core.train.optim import optimizer, schedule
from tests.compiling import once

RATE = 0.02


def values(config, steps, at):
    return once(jax.vmap(schedule(config, steps)))(np.array(at)).tolist()


def test_cosine_rises_in_the_warmup_and_falls_to_zero_at_the_end():
    config = OptimConfig(rate=RATE, warmup=100)
    found = values(config, 1100, (0, 50, 100, 350, 600, 1100))
    quarter = RATE * (1 + np.cos(np.pi / 4)) / 2
    assert found == pytest.approx([0, RATE / 2, RATE, quarter, RATE / 2, 0], abs=1e-7)


def test_constant_stays_at_its_rate():
    config = OptimConfig(rate=RATE, warmup=10, schedule="constant")
    assert values(config, 1000, (5, 10, 999)) == pytest.approx([RATE / 2, RATE, RATE])


@pytest.mark.parametrize("warmup", [0, 100])
def test_inverse_root_falls_like_the_root_of_the_step_from_decay_on(warmup):
    config = OptimConfig(rate=RATE, warmup=warmup, schedule="inverse-root", decay=400)
    found = values(config, 10_000, (max(warmup, 1), 400, 1600, 6400))
    assert found == pytest.approx([RATE, RATE, RATE / 2, RATE / 4])


def test_a_warmup_longer_than_the_decay_ends_at_the_rate():
    config = OptimConfig(rate=RATE, warmup=900, schedule="inverse-root", decay=100)
    assert values(config, 10_000, (900, 3600)) == pytest.approx([RATE, RATE / 2])


@pytest.mark.parametrize("name", ["cosine", "constant", "inverse-root"])
def test_without_warmup_the_first_step_has_the_full_rate(name):
    assert values(OptimConfig(rate=RATE, warmup=0, schedule=name), 50, (0,)) == [
        pytest.approx(RATE)
    ]


def test_a_run_shorter_than_its_warmup_still_reaches_the_rate():
    found = values(OptimConfig(rate=RATE, warmup=100), 10, range(10))
    assert np.all(np.isfinite(found)) and max(found) == pytest.approx(RATE)
    assert np.isfinite(values(OptimConfig(rate=RATE, warmup=100), 1, (0, 1))).all()


def updates(config, gradients, parameter=1.0):
    """The parameter after each gradient."""
    rule = optimizer(config, 1000)

    def step(carry, gradient):
        w, state = carry
        change, state = rule.update({"w": gradient[None]}, state, w)
        w = optax.apply_updates(w, change)
        return (w, state), w["w"][0]

    def all_steps(gradients):
        w = {"w": jnp.asarray([parameter])}
        return jax.lax.scan(step, (w, rule.init(w)), gradients)[1]

    return once(all_steps)(np.float32(gradients))


def plain(**flags):
    return OptimConfig(**{"rate": RATE, "warmup": 0, "schedule": "constant", "clip": 0.0} | flags)


def adam(gradients, b1=0.9, b2=0.99, eps=1e-8):
    """Kingma and Ba (arXiv 1412.6980), algorithm 1, from the parameter 1."""
    w, m, u, seen = 1.0, 0.0, 0.0, []
    for i, g in enumerate(gradients, start=1):
        m, u = b1 * m + (1 - b1) * g, b2 * u + (1 - b2) * g**2
        w -= RATE * (m / (1 - b1**i)) / (np.sqrt(u / (1 - b2**i)) + eps)
        seen.append(w)
    return np.array(seen)


GRADIENTS = [0.5, -0.2, 3.0, 0.1]


def test_adam_takes_its_published_steps():
    assert updates(plain(), GRADIENTS) == pytest.approx(adam(GRADIENTS), rel=1e-5)


def test_clipping_bounds_the_gradient_before_the_rule_sees_it():
    clipped = [0.5, -0.2, 1.0, 0.1]
    assert updates(plain(clip=1.0), GRADIENTS) == pytest.approx(adam(clipped), rel=1e-5)


def test_only_adamw_decays_weights():
    still = [0.0] * 5
    decayed = (1 - RATE * 0.1) ** np.arange(1, 6)
    assert updates(plain(name="adamw", weight_decay=0.1), still) == pytest.approx(decayed, rel=1e-5)
    assert updates(plain(name="adam", weight_decay=0.1), still) == pytest.approx(1.0)


def test_radam_begins_without_the_second_moment():
    """Its first steps are plain momentum: proportional to the gradient, unlike Adam's."""
    first = 1 - updates(plain(name="radam"), [1e-3])
    assert first == pytest.approx([RATE * 1e-3], rel=1e-2)
    assert 1 - updates(plain(), [1e-3]) == pytest.approx([RATE], rel=1e-2)


@pytest.mark.parametrize("flag, value", [("b1", 1.0), ("b2", -0.1), ("warmup", -1), ("clip", -1.0)])
def test_impossible_settings_are_refused(flag, value):
    with pytest.raises(UserError, match=f"--optim.{flag} must be"):
        OptimConfig(**{flag: value})
