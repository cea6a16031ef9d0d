"""Weights of a model's samples for a target, against what is known."""

import jax.numpy as jnp
import numpy as np
import pytest

import portolan as po
from core.errors import UserError
from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap
from portolan.weighing import clip, target, weigh


def model(shape=(2,), **settings):
    problem = GaussianProblem(jnp.zeros(2), 1.5 * jnp.eye(2))
    return po.Map(OracleMap(problem, LinearPath()), shape, **settings)


def energy(x):
    return jnp.sum(x**2)


@pytest.mark.programs(60)
def test_log_z_of_a_gaussian_from_a_wider_one():
    """`Z = pi`; weights `exp(-x^2) 3 pi exp(x^2 / 3)`, of which E[w^2] is known too."""
    found = weigh(model(), energy, n=1000, steps=2, seed=0)
    row = found.row(2, None)
    assert abs(row["log_z"] - np.log(np.pi)) < 4 * row["error"] < 0.2
    # E[w^2] / E[w]^2 of N(0, 1.5 I) for N(0, 0.5 I) in two dimensions: 9 / 5.
    assert abs(row["effective"] - 5 / 9) < 0.06 and row["folds"] == 0.0
    assert np.allclose(found.energy, (found.x**2).sum(axis=1), rtol=1e-5)


def test_clipping_brings_the_largest_weights_down():
    log_w = np.zeros(1000)
    log_w[0] = 10.0
    assert clip(log_w) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "name", "word"),
    [
        ({}, "nothing", "unknown target"),
        ({"num_classes": 3}, "double-well", "has classes"),
        ({"most_nfe": 1}, "double-well", "no velocity"),
    ],
)
def test_what_cannot_be_weighed_says_so(settings, name, word):
    with pytest.raises(UserError, match=word):
        weigh(model(**settings), target(name, (2,))[0], n=4, steps=1, seed=0)


@pytest.mark.parametrize(
    ("wrong", "word"),
    [(lambda x: x, "not one number"), (lambda x: jnp.log(-jnp.sum(x**2)), "not finite")],
)
def test_an_energy_is_one_finite_number(wrong, word):
    with pytest.raises(UserError, match=word):
        weigh(model(), wrong, n=4, steps=1, seed=0)


def test_a_target_is_of_the_shape_of_the_samples():
    energy, known = target("double-well", (3,))
    assert energy.shape == (3,) and known == pytest.approx(6.1308788, abs=1e-6)
    with pytest.raises(UserError, match="shape"):
        target("mueller", (3,))
