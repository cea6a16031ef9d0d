"""All metrics together, on the digits and on points in the plane."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from core.errors import UserError
from core.metrics import evaluate, histogram_kl, paired_error, reference_floor


@pytest.fixture(scope="module")
def digits():
    data = load_digits()
    return (data.images / 8 - 1).astype(np.float32)[..., None], data.target.astype(np.int32)


@pytest.fixture(scope="module")
def floor(digits):
    return reference_floor(*digits, kind="image", seed=0)


def test_digits_floor_is_that_of_898_against_898(floor):
    """Over 50 splits the Frechet distance is 0.285 with a deviation of 0.033."""
    assert floor["n"] == floor["n_reference"] == 898
    assert floor["frechet"] == pytest.approx(0.285, abs=0.1)
    assert floor["accuracy"] == pytest.approx(0.98, abs=0.012)
    assert floor["precision"] > 0.85 and floor["recall"] > 0.85
    assert abs(floor["kid"]) < 3 * floor["kid_std"]


def test_noisy_digits_are_worse_than_the_floor_in_every_metric(digits, floor):
    x, labels = digits
    noisy = x + 0.5 * np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    found = evaluate(noisy[:898], labels[:898], x[898:1796], labels[898:1796], kind="image")
    assert all(found[name] > floor[name] for name in ("frechet", "w2", "sliced_w2", "energy"))
    assert all(found[name] < floor[name] for name in ("accuracy", "precision"))


def test_a_set_against_itself_is_perfect(digits):
    x, labels = digits[0][:100], digits[1][:100]
    found = evaluate(x, labels, x, labels, kind="image")
    for name in ("frechet", "w2", "sliced_w2"):
        assert found[name] == pytest.approx(0, abs=1e-6)
    assert found["accuracy"] == found["precision"] == found["recall"] == 1


def test_points_have_a_divergence_and_no_kernel_distance_or_accuracy():
    x, y = np.random.default_rng(2).normal(size=(2, 400, 2))
    found = evaluate(x, None, y, None, kind="points")
    quick = ["n", "n_reference", "frechet", "w2", "sliced_w2", "kl"]
    balls = ["density", "coverage"]
    assert list(found) == [*quick, "precision", "recall", "energy", *balls]
    assert list(evaluate(x, None, y, None, kind="points", quick=True)) == quick


def test_divergence_is_that_of_the_model_from_the_data():
    rng = np.random.default_rng(5)
    data, half = rng.uniform(size=(300, 2)), rng.uniform(size=(300, 2)) * [0.5, 1]
    found = evaluate(half, None, data, None)["kl"]
    assert found == histogram_kl(data, half) != histogram_kl(half, data)


def test_the_same_seed_gives_the_same_numbers():
    x, y = (
        np.random.default_rng(3).normal(size=(500, 2)),
        np.random.default_rng(4).normal(size=(300, 2)),
    )
    first = evaluate(x, None, y, None, seed=1)
    assert evaluate(x, None, y, None, seed=1) == first
    assert evaluate(x, None, y, None, seed=2) != first


def test_the_floor_of_a_size_has_that_size_and_disjoint_halves():
    x = np.repeat(np.arange(40.0)[:, None], 2, axis=1)
    found = reference_floor(x, None, size=10)
    assert found["n"] == found["n_reference"] == 10
    assert found["w2"] > 0


def test_too_few_samples_are_a_mistake_of_the_user():
    x = np.zeros((20, 2))
    with pytest.raises(UserError, match="got 3 samples and 20 reference examples"):
        evaluate(x[:3], None, x, None)


def test_stored_and_network_scales_are_not_mixed():
    x = np.zeros((9, 4, 4, 1), np.float32)
    with pytest.raises(ValueError, match="bring both to one scale"):
        evaluate(x.astype(np.uint8), None, x, None, kind="image")


def test_paired_error_is_the_mean_distance_of_partners():
    exact = np.zeros((2, 1, 2))
    assert paired_error(exact + np.array([[[3, 4]], [[0, 1]]]), exact) == 3
    assert paired_error(exact[::-1], exact) == 0
