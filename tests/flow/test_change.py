"""Change of path: matched times, scales, velocities and flow maps."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import plugins as plugins
from core.flow.change import (
    MovedMap,
    matched_time,
    move_average_velocity,
    move_state,
    move_velocity,
    restrict,
    state_scale,
)
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import PATHS, CosinePath, EDMPath, LinearPath, Path, TrigPath
from core.oracle import GaussianProblem, OracleMap
from core.sampling import Pushforward
from core.train.build import build
from core.train.cli import parse
from core.train.trainer import Trainer
from tests.compiling import once

EVERY_PATH: dict[str, Path] = {
    **{name: path() for name, path in PATHS.items()},
    "trigflow": TrigPath(noise_std=0.5),
    "imm": LinearPath(noise_std=0.5),
}
NAMES = list(EVERY_PATH)
RING = list(zip(NAMES, [*NAMES[1:], NAMES[0]]))
"""Pairs that have each path once as the base and once as the new one: the quick tests."""
PAIRS = [
    pytest.param(*pair, marks=[] if pair in RING else pytest.mark.slow)
    for pair in itertools.permutations(NAMES, 2)
]


def gaussian():
    covariance = np.array([[0.5, 0.2, 0.0], [0.2, 0.3, -0.1], [0.0, -0.1, 1.4]])
    return GaussianProblem(jnp.array([1.0, -0.5, 0.3]), jnp.asarray(covariance))


def inside(path, base, n=5):
    """`path` where `base` covers it, and times on it: in a traced function."""
    path = restrict(path, base)
    etas = jnp.geomspace(0.03, 30.0, n) / path.noise_std
    return path, jax.vmap(path.time_of_eta)(etas)


def states(problem, path, times, unit):
    """One state for each time, from the path's data and standard normal `unit` (2, n, 3)."""
    x_0 = problem.mean[None] + unit[0] * jnp.sqrt(problem.variances)[None] @ problem.axes.T
    return jax.vmap(path.interpolate)(x_0, path.noise_std * unit[1], times)


def on_pairs(function, x, times):
    """`function(x_s, s, t)` at every pair of times."""
    over_targets = jax.vmap(function, (None, None, 0))
    return jax.vmap(over_targets, (0, 0, None))(x, times, times)


@pytest.mark.parametrize("base, new", PAIRS)
def test_moved_flow_map_is_the_oracle_of_the_other_path(base, new, normal, x64):
    base, new = EVERY_PATH[base], EVERY_PATH[new]

    @once
    def both(unit):
        problem, (path, times) = gaussian(), inside(new, base)
        x = states(problem, path, times, unit)
        moved, exact = MovedMap(OracleMap(problem, base), path), OracleMap(problem, path)
        velocity = move_velocity(path, base, lambda x, t: problem.velocity(base, x, t))
        maps = [
            [on_pairs(getattr(F, method), x, times) for F in (moved, exact)]
            for method in ("average_velocity", "__call__")
        ]
        fields = velocity, lambda x, t: problem.velocity(path, x, t)
        return maps, [jax.vmap(field)(x, times) for field in fields]

    maps, velocities = both(normal(2, 5, 3))
    for got, expected in maps:
        np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(*velocities, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("base, new", PAIRS)
def test_matched_state_is_the_same_mixture_of_data_and_noise(base, new, normal, x64):
    base, new = EVERY_PATH[base], EVERY_PATH[new]

    @once
    def run(x_0, unit):
        path, times = inside(new, base)

        def both(t):
            t_base = matched_time(path, base, t)
            x_base = base.interpolate(x_0, base.noise_std * unit, t_base)
            x, t_back = move_state(path, base, x_base, t_base)
            return x, t_back, path.interpolate(x_0, path.noise_std * unit, t)

        return times, *jax.vmap(both)(times)

    times, x, t_back, expected = run(normal(4), normal(4))
    np.testing.assert_allclose(t_back, times, rtol=1e-9)
    np.testing.assert_allclose(x, expected, rtol=1e-9)


def test_table_of_matched_times(x64):
    """EDM sigma, angle time under noise std 0.5, linear under 0.5, linear under unit noise."""
    table = np.array(
        [
            (0.002, 0.00255, 0.00398, 0.00200),
            (0.1, 0.1257, 0.1667, 0.0909),
            (0.5, 0.5, 0.5, 0.3333),
            (2.0, 0.8440, 0.8, 0.6667),
            (80.0, 0.99602, 0.99379, 0.98765),
        ]
    )
    targets = CosinePath(noise_std=0.5), LinearPath(noise_std=0.5), LinearPath()

    @once
    @jax.vmap
    def found(sigma):
        return jnp.stack([matched_time(EDMPath(), target, sigma) for target in targets])

    np.testing.assert_allclose(found(table[:, 0]), table[:, 1:], atol=6e-5, rtol=0)


def test_table_of_scales(x64):
    t = np.array([0.1, 0.4, 0.8])
    sigma, angle = t / (1 - t), np.arctan(t / (1 - t))

    @once
    @jax.vmap
    def scales(sigma, angle):
        return (
            state_scale(EDMPath(), LinearPath(), sigma),
            state_scale(TrigPath(), LinearPath(), angle),
            state_scale(TrigPath(), EDMPath(), angle),
        )

    linear_to_ve, linear_to_trig, ve_to_trigflow = scales(sigma, angle)
    np.testing.assert_allclose(linear_to_ve, 1 / (1 - t), rtol=1e-6)
    np.testing.assert_allclose(linear_to_trig, 1 / np.sqrt((1 - t) ** 2 + t**2), rtol=1e-6)
    np.testing.assert_allclose(ve_to_trigflow, np.cos(angle), rtol=1e-6)


@pytest.mark.parametrize("base, new", list(itertools.permutations(["linear", "trig", "cosine"], 2)))
@pytest.mark.parametrize("end", ["t_min", "t_max"])
def test_both_ends_of_the_path_are_finite_with_derivatives(base, new, end, x64):
    base, path = EVERY_PATH[base], EVERY_PATH[new]

    @once
    def derivatives(x, starts, stops):
        problem = gaussian()
        moved, exact = MovedMap(OracleMap(problem, base), path), OracleMap(problem, path)

        def along(F, start, stop):
            return jax.jvp(
                F.average_velocity, (x, start, stop), (x, jnp.ones(()), 0.7 * jnp.ones(()))
            )

        return [jax.vmap(partial(along, F))(starts, stops) for F in (moved, exact)]

    s, t = getattr(path, end), 0.4
    got, expected = derivatives(
        np.array([0.4, -1.0, 0.2]), np.array([s, t, s]), np.array([t, s, s])
    )
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("base, new", [("edm", "trig"), ("vp", "linear"), ("trigflow", "edm")])
def test_small_gaps_lose_no_digits_in_float32(base, new, normal):
    base, new = EVERY_PATH[base], EVERY_PATH[new]

    @once
    def both(unit, gaps):
        problem, (path, times) = gaussian(), inside(new, base)
        moved, exact = MovedMap(OracleMap(problem, base), path), OracleMap(problem, path)
        x = states(problem, path, times, unit)

        def at(gap):
            return [
                jax.vmap(F.average_velocity)(x, times, times * (1 - gap)) for F in (moved, exact)
            ]

        return jax.vmap(at)(gaps)

    V, expected = both(normal(2, 5, 3), np.float32([1e-2, 1e-4, 1e-6, 0.0]))
    np.testing.assert_allclose(V, expected, rtol=2e-5, atol=2e-5)


def test_moved_diagonal_is_the_moved_velocity_and_functions_and_map_agree(normal, x64):
    path, base = TrigPath(), LinearPath()

    @once
    def found(x, s, t):
        problem = gaussian()
        oracle = OracleMap(problem, base)
        moved = MovedMap(oracle, path)
        function = move_average_velocity(path, base, oracle.average_velocity)
        jump = moved.average_velocity(x, s, t), function(x, s, t)
        return (
            moved.with_velocity(x, s, t),
            jump,
            problem.velocity(path, x, s),
            moved.velocity(x, s),
        )

    (V, v), (jump, by_function), velocity, own = found(normal(3), np.array(0.9), np.array(0.3))
    np.testing.assert_allclose(V, jump, rtol=1e-12)
    np.testing.assert_allclose(v, velocity, rtol=1e-12)
    np.testing.assert_allclose(own, v, rtol=1e-12)
    np.testing.assert_allclose(by_function, jump, rtol=1e-12)


def test_restricted_path_covers_what_the_base_covers():
    path = restrict(LinearPath(), EDMPath())
    assert np.allclose([path.t_min, path.t_max], [0.002 / 1.002, 80 / 81])
    assert restrict(LinearPath(t_max=0.5), TrigPath()).t_max == 0.5
    assert jax.jit(lambda: restrict(LinearPath(), EDMPath()).t_max)() == pytest.approx(80 / 81)


def test_a_path_that_the_map_does_not_cover_is_refused():
    flow_map = AverageVelocityMap(lambda x, s, t, cond: x, EDMPath())
    with pytest.raises(ValueError, match="use restrict"):
        MovedMap(flow_map, LinearPath())
    assert MovedMap(flow_map, restrict(LinearPath(), EDMPath())).two_times


# --- Samples ---


def trained(steps=20):
    """A small iMF network after a few steps on the checkerboard."""
    flags = ["--plugin", "imf", "--data", "checkerboard", "--data.n", "512", "--net.width", "16"]
    config = parse([*flags, "--net.depth", "2", "--steps", str(steps), "--batch", "64"])
    trainer = Trainer(config, build(config))
    for _ in trainer.run():
        pass
    return jax.tree.map(lambda leaf: leaf.astype(jnp.float64), trainer.flow_map())


@pytest.mark.parametrize("kind", ["closed form", pytest.param("trained", marks=pytest.mark.slow)])
def test_samples_are_the_same_on_every_path(kind, x64, normal):
    """The same noise, carried along and jumped in four steps at matched times on each path."""
    base = restrict(LinearPath(), EDMPath())
    if kind == "trained":
        flow_map, noise = AverageVelocityMap(trained().net, base), normal(64, 2)
    else:
        flow_map, noise = OracleMap(gaussian(), base), normal(64, 3)

    def push(F, x, times):
        return jax.vmap(lambda x: Pushforward()(F, x, times, key=jr.key(0)).x)(x)

    @once
    def samples(flow_map, noise):
        grid = jnp.linspace(base.t_max, base.t_min, 5)
        found = [push(flow_map, noise, grid)]
        for path in (TrigPath(), EDMPath()):
            moved = MovedMap(flow_map, restrict(path, base))
            start = jax.vmap(lambda x, m=moved: move_state(m.path, base, x, grid[0])[0])(noise)
            times = jax.vmap(lambda t, m=moved: matched_time(base, m.path, t))(grid)
            scale = state_scale(moved.path, base, times[-1])
            found.append(push(moved, start, times) / scale)
        return found

    expected, *others = samples(flow_map, noise)
    for found in others:
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
