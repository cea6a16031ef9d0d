"""Time samplers: the range, the order of s and t, and the densities they claim."""

import json

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.path import PATHS
from core.times import distributions
from core.times import pairs as times
from core.times.measured import measured
from tests.compiling import once

DISTRIBUTIONS = {
    "uniform": distributions.Uniform(),
    "part": distributions.Uniform(0.2, 0.7),
    "logit-normal": distributions.LogitNormal(-0.4, 1.0),
    "arctan": distributions.ArctanLogNormal(-0.8, 1.6),
    "sine": distributions.Sine(),
    "cosh": distributions.Cosh(),
    "uniform-power": distributions.UniformPower(4),
}
SAMPLERS = {
    "diagonal": times.Diagonal(),
    "triangle": times.OrderedPair(distributions.Uniform(), distributions.Uniform()),
    "pair": times.OrderedPair(distributions.LogitNormal(), distributions.LogitNormal(0.4, 1.0)),
    "capped": times.Capped(),
    "gap": times.Gap(),
    "truncated": times.TruncatedGap(),
    "scaled": times.TargetThenSource(
        distributions.UniformPower(4), distributions.Sine(), 0.006, 0.994
    ),
    "below": times.SourceThenTarget(distributions.Uniform(0.1, 0.9), 0.1),
    "full": times.OrderedPair(distributions.Point(1.0), distributions.Point(0.0)),
    "mixture": times.Mixture((times.Diagonal(), times.Gap()), (0.25, 0.75)),
}
STEP = 0


def drawn(sampler, key, n, progress=STEP):
    """The times `s`, `t` of a sampler, drawn in one program."""
    return once(lambda key, progress: sampler(key, n, progress))(key, np.asarray(progress))


def densities(distribution, nodes):
    return once(distribution.density)(np.asarray(nodes, np.float32))


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_density_integrates_to_one_and_matches_the_draws(name, getkey):
    distribution = DISTRIBUTIONS[name]
    nodes = np.linspace(0, 1, 20_001)
    density = densities(distribution, nodes)
    assert np.trapezoid(density, nodes) == pytest.approx(1.0, abs=2e-3)
    draws = once(lambda key: distribution.sample(key, 20_000))(getkey())
    below = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(nodes))])
    for level in (0.1, 0.3, 0.5, 0.8):
        expected = np.interp(level, nodes, below)
        assert (draws <= level).mean() == pytest.approx(expected, abs=0.015)


def test_a_point_mass_has_no_density():
    with pytest.raises(ValueError, match="point mass"):
        distributions.Point(0.5).density(jnp.ones(3))


@pytest.mark.parametrize("name", SAMPLERS)
def test_times_stay_in_the_unit_interval_with_s_not_below_t(name, getkey):
    s, t = drawn(SAMPLERS[name], getkey(), 10_000)
    assert s.shape == t.shape == (10_000,)
    assert (t >= 0).all() and (s <= 1).all() and (s >= t).all()
    assert np.isfinite(s).all() and np.isfinite(t).all()


def test_diagonal_rows_have_equal_times(getkey):
    s, t = drawn(SAMPLERS["diagonal"], getkey(), 100)
    assert (s == t).all()


def test_truncated_gap_follows_the_truncated_distribution(getkey):
    sampler = times.TruncatedGap(distributions.Uniform(0.4, 0.4 + 1e-6), -0.4, 1.0)
    _, t = drawn(sampler, getkey(), 40_000)
    nodes = np.linspace(1e-4, 0.6, 4001)
    density = densities(distributions.LogitNormal(-0.4, 1.0), nodes)
    mean = np.trapezoid(density * nodes, nodes) / np.trapezoid(density, nodes)
    assert float(t.mean()) == pytest.approx(mean, abs=0.003)


def test_mixture_splits_statically(getkey):
    s, t = drawn(SAMPLERS["mixture"], getkey(), 100)
    assert (s[:25] == t[:25]).all() and (s[25:] > t[25:]).all()


@pytest.mark.parametrize("n", [1, 7, 128])
def test_split_counts_cover_the_batch(n):
    assert sum(distributions.split_counts(n, (0.3, 0.3, 0.4))) == n
    with pytest.raises(ValueError, match="sum to 1"):
        distributions.split_counts(n, (0.5, 0.6))


@pytest.mark.parametrize("name", sorted(PATHS))
def test_unit_time_is_the_noise_to_signal_ratio_of_the_linear_path(name, x64):
    path, unit = PATHS[name](), np.array([0.05, 0.3, 0.6, 0.95])

    @once
    @jax.vmap
    def run(unit):
        t = path.time_of_unit(unit)
        return t, path.unit_time(t), path.eta(t)

    t, back, eta = run(unit)
    assert np.all((path.t_min <= t) & (t <= path.t_max))
    np.testing.assert_allclose(back, unit, rtol=0, atol=1e-9)
    np.testing.assert_allclose(eta, unit / (1 - unit), rtol=1e-8)


# --- Ladders, windows and grids ---


def test_dyadic_jumps_lie_on_the_grid_of_their_size():
    s, t = drawn(times.DyadicJumps(5), jr.key(0), 4000, 0.0)
    size = s - t
    assert set(np.unique(size)) == {1.0, 0.5, 0.25, 0.125, 0.0625}
    assert np.all(t / size == np.round(t / size)) and np.all((t >= 0) & (s <= 1))
    counts = [int(np.sum(size == value)) for value in np.unique(size)]
    assert max(counts) - min(counts) < 150


@pytest.mark.parametrize("progress, largest", [(0.0, 1 / 16), (0.25, 1 / 4), (1.0, 1.0)])
def test_a_ladder_that_climbs_doubles_its_jump_each_stage(progress, largest):
    s, t = drawn(times.DyadicJumps(5, climb=True), jr.key(0), 2000, progress)
    assert np.max(s - t) == largest
    assert np.mean(s - t == largest) >= 0.45
    gap_s, gap_t = drawn(times.GrowingWindow(5), jr.key(1), 2000, progress)
    assert largest > np.max(gap_s - gap_t) > 0.95 * largest
    assert np.all((gap_t >= 0) & (gap_s <= 1))


def test_a_stage_begins_where_the_copy_of_the_last_one_is_made():
    steps, stages = 1000, 7
    length = times.stage_length(steps, stages)
    stage = once(lambda: times.stage_of(jnp.arange(steps) / steps, stages))()
    starts = np.flatnonzero(np.diff(stage)) + 1
    assert list(starts) == pytest.approx([length * k for k in range(1, stages)], abs=stages)


def test_rows_of_a_group_share_their_times(getkey):
    s, t = drawn(times.Shared(times.Gap(), 4), getkey(), 18)
    assert s.shape == t.shape == (18,)
    assert len(np.unique(s)) == 5
    assert (s[:4] == s[0]).all() and (t[4:8] == t[4]).all()


def test_pairs_in_either_order_have_a_window_that_grows():
    sampler = times.EitherOrder(
        times.OrderedPair(distributions.Uniform(), distributions.Uniform()), 0.1
    )
    run = once(lambda key, progress: sampler(key, 4000, progress))
    for progress, widest in ((0.0, 0.1), (0.5, 0.1**0.5), (1.0, 1.0)):
        s, t = run(jr.key(0), np.float32(progress))
        assert np.mean(s > t) == 0.5
        assert widest >= np.max(np.abs(s - t)) > 0.9 * widest


def test_a_mixed_distribution_has_the_mixed_density():
    parts = distributions.Uniform(), distributions.LogitNormal()
    distribution = distributions.MixedDistribution(parts, (0.3, 0.7))
    nodes = np.linspace(0.05, 0.95, 7)
    logits = np.log(nodes / (1 - nodes))
    normal = np.exp(-((logits + 0.4) ** 2) / 2) / np.sqrt(2 * np.pi) / (nodes * (1 - nodes))
    np.testing.assert_allclose(densities(distribution, nodes), 0.3 + 0.7 * normal, rtol=1e-5)
    assert len(once(lambda key: distribution.sample(key, 11))(jr.key(0))) == 11


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_a_share_of_pairs_goes_both_ways(share):
    pair = times.OrderedPair(distributions.Uniform(), distributions.Uniform())
    s, t = (np.asarray(part) for part in drawn(times.BothWays(pair, share), jr.key(0), 40))
    before = [np.asarray(part) for part in drawn(pair, jr.key(0), 40)]
    assert (s < t).sum() == 40 * share
    assert np.array_equal(np.maximum(s, t), before[0]) and np.array_equal(
        np.minimum(s, t), before[1]
    )
    halves = (s < t).reshape(4, 10).sum(axis=1)  # each part of the batch has its share
    assert halves.max() - halves.min() <= 1


@pytest.mark.parametrize("progress, share", [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (1.0, 1.0)])
def test_jumps_that_grow_have_a_share_of_their_gap(progress, share):
    pair = times.OrderedPair(distributions.Uniform(), distributions.Uniform())
    s, t = (np.asarray(part) for part in drawn(pair, jr.key(0), 40))
    here, there = drawn(times.Growing(pair, 0.4), jr.key(0), 40, np.float32(progress))
    assert np.array_equal(here, s)
    np.testing.assert_allclose(here - there, share * (s - t), atol=1e-6)
    assert share < 1 or np.array_equal(there, t)


def test_measured_pairs_have_the_shares_of_the_table(getkey, tmp_path):
    """By a certificate of three nodes; the entry on the diagonal counts for nothing."""
    table = [[9.0, 1.0, 3.0], [None, None, 4.0], [None, None, None]]
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps({"units": [1.0, 0.5, 0.0], "tables": {"end": table}}))
    s, t = drawn(measured(str(file)), getkey(), 800)
    assert (0 <= t).all() and (t <= s).all() and (s <= 1).all()
    cells = list(zip(np.round(2 * s) / 2, np.round(2 * t) / 2))
    counts = {pair: cells.count(pair) for pair in ((1.0, 0.5), (1.0, 0.0), (0.5, 0.0))}
    wanted = {(1.0, 0.5): 100, (1.0, 0.0): 300, (0.5, 0.0): 400}
    assert all(abs(counts[pair] - number) <= 1 for pair, number in wanted.items())


@pytest.mark.parametrize("text", ["{}", "[1", '{"units": [1, 0], "tables": {"end": [[null, 0]]}}'])
def test_a_file_that_is_no_certificate_is_refused_in_one_line(text, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match="--certify"):
        measured(str(tmp_path / "x.json"))
