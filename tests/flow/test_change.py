"""Change of path: matched times, scales, velocities and flow maps."""

import itertools

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

EVERY_PATH: dict[str, Path] = {
    **{name: path() for name, path in PATHS.items()},
    "trigflow": TrigPath(noise_std=0.5),
    "imm": LinearPath(noise_std=0.5),
}
PAIRS = list(itertools.permutations(EVERY_PATH, 2))


def gaussian():
    covariance = jnp.array([[0.5, 0.2, 0.0], [0.2, 0.3, -0.1], [0.0, -0.1, 1.4]])
    return GaussianProblem(jnp.array([1.0, -0.5, 0.3]), covariance)


def inside(path, base, n=5):
    """`path` where `base` covers it, and times on it."""
    path = restrict(path, base)
    etas = jnp.geomspace(0.03, 30.0, n) / path.noise_std
    return path, jax.vmap(path.time_of_eta)(etas)


def states(problem, path, times, key):
    """One state for each time, drawn from the path."""
    keys = jr.split(key, len(times))
    x_0 = jax.vmap(problem.sample)(keys)
    z = path.noise(jr.fold_in(key, 1), x_0.shape)
    return jax.vmap(path.interpolate)(x_0, z, times)


def on_pairs(function, x, times):
    """`function(x_s, s, t)` at every pair of times."""
    over_targets = jax.vmap(function, (None, None, 0))
    return jax.vmap(over_targets, (0, 0, None))(x, times, times)


@pytest.mark.parametrize("base, new", PAIRS)
def test_moved_flow_map_is_the_oracle_of_the_other_path(base, new, getkey, x64):
    path, times = inside(EVERY_PATH[new], EVERY_PATH[base])
    problem, base = gaussian(), EVERY_PATH[base]
    x = states(problem, path, times, getkey())
    moved, exact = MovedMap(OracleMap(problem, base), path), OracleMap(problem, path)
    for method in ("average_velocity", "__call__"):
        got, expected = (on_pairs(getattr(F, method), x, times) for F in (moved, exact))
        assert jnp.allclose(got, expected, rtol=1e-9, atol=1e-9)
    velocity = move_velocity(path, base, lambda x, t: problem.velocity(base, x, t))
    expected = jax.vmap(lambda x, t: problem.velocity(path, x, t))(x, times)
    assert jnp.allclose(jax.vmap(velocity)(x, times), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("base, new", PAIRS)
def test_matched_state_is_the_same_mixture_of_data_and_noise(base, new, getkey, x64):
    base, (path, times) = EVERY_PATH[base], inside(EVERY_PATH[new], EVERY_PATH[base])
    x_0, unit = jr.normal(getkey(), (2, 4))

    def both(t):
        t_base = matched_time(path, base, t)
        x_base = base.interpolate(x_0, base.noise_std * unit, t_base)
        x, t_back = move_state(path, base, x_base, t_base)
        return x, t_back, path.interpolate(x_0, path.noise_std * unit, t)

    x, t_back, expected = jax.vmap(both)(times)
    assert jnp.allclose(t_back, times, rtol=1e-9)
    assert jnp.allclose(x, expected, rtol=1e-9)


def test_table_of_matched_times(x64):
    """EDM sigma, angle time under noise std 0.5, linear under 0.5, linear under unit noise."""
    table = [
        (0.002, 0.00255, 0.00398, 0.00200),
        (0.1, 0.1257, 0.1667, 0.0909),
        (0.5, 0.5, 0.5, 0.3333),
        (2.0, 0.8440, 0.8, 0.6667),
        (80.0, 0.99602, 0.99379, 0.98765),
    ]
    targets = CosinePath(noise_std=0.5), LinearPath(noise_std=0.5), LinearPath()
    for sigma, *expected in table:
        got = [matched_time(EDMPath(), target, sigma) for target in targets]
        assert np.allclose(got, expected, atol=6e-5)


def test_table_of_scales(x64):
    for t in (0.1, 0.4, 0.8):
        sigma, angle = t / (1 - t), np.arctan(t / (1 - t))
        linear_to_ve = state_scale(EDMPath(), LinearPath(), sigma)
        assert jnp.allclose(linear_to_ve, 1 / (1 - t))
        linear_to_trig = state_scale(TrigPath(), LinearPath(), angle)
        assert jnp.allclose(linear_to_trig, 1 / np.sqrt((1 - t) ** 2 + t**2))
        ve_to_trigflow = state_scale(TrigPath(noise_std=0.5), EDMPath(), angle)
        assert jnp.allclose(ve_to_trigflow, np.cos(angle))


@pytest.mark.parametrize("base, new", list(itertools.permutations(["linear", "trig", "cosine"], 2)))
@pytest.mark.parametrize("end", ["t_min", "t_max"])
def test_both_ends_of_the_path_are_finite_with_derivatives(base, new, end, x64):
    problem, path, x = gaussian(), EVERY_PATH[new], jnp.array([0.4, -1.0, 0.2])
    moved, exact = MovedMap(OracleMap(problem, EVERY_PATH[base]), path), OracleMap(problem, path)
    s, t = jnp.asarray(getattr(path, end)), jnp.asarray(0.4)

    def derivative(F, start, stop):
        return jax.jvp(F.average_velocity, (x, start, stop), (x, jnp.ones(()), 0.7 * jnp.ones(())))

    for start, stop in ((s, t), (t, s), (s, s)):
        got, expected = (derivative(F, start, stop) for F in (moved, exact))
        assert jnp.allclose(got[0], expected[0], rtol=1e-9)
        assert jnp.allclose(got[1], expected[1], rtol=1e-9)


@pytest.mark.parametrize("base, new", [("edm", "trig"), ("vp", "linear"), ("trigflow", "edm")])
def test_small_gaps_lose_no_digits_in_float32(base, new, getkey):
    path, times = inside(EVERY_PATH[new], EVERY_PATH[base])
    problem = gaussian()
    moved, exact = MovedMap(OracleMap(problem, EVERY_PATH[base]), path), OracleMap(problem, path)
    x = states(problem, path, times, getkey())
    for gap in (1e-2, 1e-4, 1e-6, 0.0):
        V, expected = (
            jax.vmap(F.average_velocity)(x, times, times * (1 - gap)) for F in (moved, exact)
        )
        assert jnp.allclose(V, expected, rtol=2e-5, atol=2e-5)


def test_moved_diagonal_is_the_moved_velocity(getkey, x64):
    problem, path = gaussian(), TrigPath()
    moved = MovedMap(OracleMap(problem, LinearPath()), path)
    x, s, t = jr.normal(getkey(), (3,)), jnp.asarray(0.9), jnp.asarray(0.3)
    V, v = moved.with_velocity(x, s, t)
    assert jnp.allclose(V, moved.average_velocity(x, s, t), rtol=1e-12)
    assert jnp.allclose(v, problem.velocity(path, x, s), rtol=1e-12)
    assert jnp.allclose(moved.velocity(x, s), v, rtol=1e-12)


def test_functions_and_map_agree(getkey, x64):
    problem, path, base = gaussian(), TrigPath(), LinearPath()
    oracle = OracleMap(problem, base)
    x, s, t = jr.normal(getkey(), (3,)), jnp.asarray(0.9), jnp.asarray(0.3)
    V = move_average_velocity(path, base, oracle.average_velocity)(x, s, t)
    assert jnp.allclose(V, MovedMap(oracle, path).average_velocity(x, s, t), rtol=1e-12)


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


@pytest.mark.parametrize("kind", ["closed form", "trained"])
def test_samples_are_the_same_on_every_path(kind, x64, getkey):
    """The same noise, carried along and jumped in four steps at matched times on each path."""
    base = restrict(LinearPath(), EDMPath())
    if kind == "trained":
        flow_map = AverageVelocityMap(trained().net, base)
        noise = jr.normal(getkey(), (64, 2))
    else:
        flow_map, noise = OracleMap(gaussian(), base), jr.normal(getkey(), (64, 3))
    grid = jnp.linspace(base.t_max, base.t_min, 5)
    push = jax.vmap(
        lambda f, x, times: Pushforward()(f, x, times, key=jr.key(0)).x, (None, 0, None)
    )
    expected = push(flow_map, noise, grid)
    for path in (TrigPath(), EDMPath()):
        moved = MovedMap(flow_map, restrict(path, base))
        start = jax.vmap(lambda x: move_state(moved.path, base, x, grid[0])[0])(noise)
        times = jax.vmap(lambda t: matched_time(base, moved.path, t))(grid)
        samples = push(moved, start, times) / state_scale(moved.path, base, times[-1])
        np.testing.assert_allclose(samples, expected, rtol=1e-5, atol=1e-8)
