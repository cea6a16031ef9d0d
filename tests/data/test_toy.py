"""The four sets of points: where their mass lies and how much of it."""

import numpy as np
import pytest

from core.data import (
    DATA,
    EIGHT_RADIUS,
    EIGHT_STD,
    CheckerboardData,
    EightGaussiansData,
    SpiralData,
    TwoMoonsData,
    eight_centres,
)

TOY = ["checkerboard", "eight-gaussians", "two-moons", "spiral"]


@pytest.mark.parametrize("name", TOY)
def test_points_are_float32_in_the_plane_without_labels(name):
    dataset = DATA[name](n=100).load()
    assert (dataset.name, dataset.kind, dataset.shape) == (name, "points", (2,))
    assert dataset.examples.shape == (100, 2) and dataset.examples.dtype == np.float32
    assert dataset.labels is None and dataset.num_classes == 0 and dataset.class_names == ()


@pytest.mark.parametrize("name", TOY)
def test_the_seed_fixes_the_points(name):
    first, again, other = (DATA[name](n=100, seed=seed).load().examples for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("name", TOY)
def test_points_do_not_depend_on_the_global_state_of_numpy(name):
    np.random.seed(0)
    first = DATA[name](n=100).load().examples
    np.random.seed(1)
    assert np.array_equal(first, DATA[name](n=100).load().examples)


@pytest.mark.parametrize(
    "name, mean, std",
    [
        ("checkerboard", (0, 0), (2 / np.sqrt(3), 2 / np.sqrt(3))),
        ("eight-gaussians", (0, 0), (np.sqrt(2.04), np.sqrt(2.04))),
        ("two-moons", (0, 0), (1.2288, 0.7060)),
        ("spiral", (0.0507, -1 / np.pi), (1.0131, 0.9432)),
    ],
)
def test_sets_have_the_stated_mean_and_scale(name, mean, std):
    x = DATA[name]().load().examples
    assert np.allclose(x.mean(axis=0), mean, atol=0.02)
    assert np.allclose(x.std(axis=0), std, atol=0.02)


def test_checkerboard_fills_its_eight_squares_evenly_and_nothing_else():
    x = CheckerboardData(n=80_000).load().examples
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=4, range=[[-2, 2], [-2, 2]])
    dark = np.add.outer(np.arange(4), np.arange(4)) % 2 == 0
    assert counts[~dark].sum() == 0
    assert np.all(np.abs(counts[dark] - 10_000) < 500)
    assert counts.sum() == 80_000


def test_checkerboard_is_uniform_within_a_square():
    x = CheckerboardData().load().examples
    inside = x - np.floor(x)
    assert np.allclose(inside.mean(axis=0), 0.5, atol=0.01)
    assert np.allclose(inside.var(axis=0), 1 / 12, atol=0.002)
    assert abs(np.corrcoef(inside.T)[0, 1]) < 0.02


def test_eight_centres_lie_on_the_circle_from_angle_zero_on():
    centres = eight_centres()
    assert np.allclose(centres[0], [2, 0]) and np.allclose(centres[2], [0, 2])
    assert np.allclose(np.hypot(*centres.T), EIGHT_RADIUS)
    assert np.allclose(np.linalg.norm(centres - np.roll(centres, 1, axis=0), axis=1), 1.5307337)


def test_eight_gaussians_have_their_centres_weights_and_spread():
    dataset = EightGaussiansData(labelled=True).load()
    assert dataset.num_classes == 8 and len(dataset.class_names) == 8
    assert dataset.labels is not None and dataset.labels.dtype == np.int32
    for k, centre in enumerate(eight_centres()):
        x = dataset.examples[dataset.labels == k]
        assert abs(len(x) / len(dataset) - 1 / 8) < 0.005
        assert np.allclose(x.mean(axis=0), centre, atol=0.01)
        assert np.allclose(np.cov(x.T), EIGHT_STD**2 * np.eye(2), atol=0.003)


def test_labels_do_not_change_the_points():
    plain, labelled = (EightGaussiansData(n=50, labelled=flag).load() for flag in (False, True))
    assert plain.labels is None
    assert np.array_equal(plain.examples, labelled.examples)


def test_two_moons_lie_on_two_half_circles_and_are_symmetric():
    x = TwoMoonsData().load().examples
    upper = np.abs(np.hypot(*(x + np.sqrt(2) * np.array([0.5, 0.25])).T) - np.sqrt(2))
    lower = np.abs(np.hypot(*(x - np.sqrt(2) * np.array([0.5, 0.25])).T) - np.sqrt(2))
    assert np.quantile(np.minimum(upper, lower), 0.999) < 0.4
    assert abs(np.mean(upper < lower) - 0.5) < 0.02
    assert lower[x[:, 1] < -0.7].max() < 0.5  # of the upper circle, no lower half
    assert upper[x[:, 1] > 0.7].max() < 0.5


def test_spiral_winds_twice_and_its_radius_grows_by_one_a_turn():
    x = SpiralData().load().examples
    radius, angle = np.hypot(*x.T), np.arctan2(x[:, 1], x[:, 0]) / (2 * np.pi)
    far = radius > 0.5  # nearer the centre the noise turns the angle too much
    from_curve = (radius - angle + 0.5)[far] % 1 - 0.5
    assert np.std(from_curve) < 0.15
    assert abs(from_curve.mean()) < 0.02
    assert 1.95 < np.quantile(radius, 0.99) < 2.15 and abs(np.mean(radius**2) - 2.02) < 0.05
