"""`Model.log_prob` and its table, against a Gaussian in NumPy."""

import jax.numpy as jnp
import numpy as np
import pytest

import portolan as po
from core.data.arrays import from_arrays
from core.data.scale import Scale
from core.data.spec import DataSpec
from core.errors import UserError
from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap
from portolan.likelihood import log_spread, summary, table

MEAN, STD = np.array([0.4, -0.3], np.float32), np.array([0.8, 0.5], np.float32)
X = np.array([[0.7, -0.2], [-0.5, 0.3], [0.1, 0.1]], np.float32)
WANTED = (-0.5 * ((X - MEAN) / STD) ** 2 - np.log(STD) - 0.5 * np.log(2 * np.pi)).sum(axis=1)


def model(**settings):
    problem = GaussianProblem(jnp.asarray(MEAN), jnp.diag(jnp.asarray(STD**2)))
    return po.Map(OracleMap(problem, LinearPath()), (2,), **settings)


@pytest.mark.parametrize("by", ["ode", "exact"])
def test_log_prob_of_a_model(by):
    assert np.abs(model().log_prob(X, by=by, steps=2) - WANTED).max() < 1e-3


def test_the_table_has_means_and_what_jumps_lose():
    data = from_arrays(np.repeat(X, 4, axis=0), None, 0)
    (row,) = table(model(), {"own": data}, ["exact"], [2], n=12)
    assert abs(row["nats"] - WANTED.mean()) < 1e-3 and row["n"] == 12
    assert abs(row["bits"] + WANTED.mean() / (2 * np.log(2))) < 1e-3
    assert row["round_trip"] < 1e-3 and row["folds"] == 0 and "no_number" not in row


def test_what_did_not_converge_is_left_out_and_counted():
    spec = DataSpec("x", "points", (2,))
    found = {"log_prob": np.array([1.0, np.nan, 2.0, 3.0], np.float32)}
    row = summary(found, spec)
    assert row["no_number"] == 0.25 and row["nats"] == 2.0
    assert summary({"log_prob": np.full(3, np.nan, np.float32)}, spec) == {"no_number": 1.0}


def test_units_of_the_data_count():
    """Twice as wide in every one of 3 x 2 numbers: a density 2^6 times lower."""
    spec = DataSpec("x", "series", (3, 2), scale=Scale((0.0, 1.0), (2.0, 2.0)))
    assert np.isclose(log_spread(spec), 6 * np.log(2))


@pytest.mark.parametrize(
    ("settings", "by", "word"),
    [
        ({}, "guess", "unknown likelihood"),
        ({"most_nfe": 1}, "ode", "no velocity"),
    ],
)
def test_what_has_no_likelihood_says_so(settings, by, word):
    with pytest.raises(UserError, match=word):
        model(**settings).log_prob(X, by=by)


@pytest.mark.parametrize(
    ("settings", "label", "word"),
    [
        ({}, [0, 0, 0], "has no classes: leave out label"),
        ({"num_classes": 2}, [0, 2, 1], "label 2: this map has classes 0 to 1"),
        ({"num_classes": 2, "all_classes": True}, [2, 2, -1], "label -1: this map has"),
    ],
)
def test_labels_that_are_none_of_the_classes_are_refused(settings, label, word):
    with pytest.raises(UserError, match=word):
        model(**settings).log_prob(X, label=np.array(label))
