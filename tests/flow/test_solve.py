"""Solves of the probability-flow ODE: order, direction, cost, derivatives."""

import diffrax
import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from core.flow.path import LinearPath
from core.flow.solve import (
    SOLVERS,
    AdaptiveSteps,
    FixedSteps,
    solve,
    solve_average_velocity,
    solve_grid,
)
from core.oracle import OracleMap, mixture_1d

PATH = LinearPath()
S, T = 0.95, 0.05


def curved():
    """A 1-D mixture: the cheapest velocity field with curvature and an exact flow map."""
    values = [0.3, 0.5, 0.2], [-1.0, 0.4, 1.5], [0.3, 0.25, 0.4]
    return mixture_1d(*(jnp.array(value) for value in values))


def velocity(x, t):
    return curved().velocity(PATH, x, t)


def exact(x, s, t):
    return OracleMap(curved(), PATH)(x, jnp.asarray(s), jnp.asarray(t))


def riccati(x, t):
    return x**2 * jnp.cos(t)


def riccati_exact(x, s, t):
    return 1 / (1 / x - (jnp.sin(t) - jnp.sin(s)))


def starts(key, n=32):
    return jr.normal(key, (n, 1))


@pytest.mark.parametrize(
    "solver, order, s, t",
    [("euler", 1, S, T), ("heun", 2, S, T), ("heun", 2, T, S), ("midpoint", 2, S, T)],
)
def test_error_falls_with_the_order_of_the_solver(solver, order, s, t, getkey, x64):
    x = starts(getkey())
    expected = jax.vmap(exact, (0, None, None))(x, s, t)

    def error(steps):
        method = FixedSteps(solver=solver, steps=steps)
        got = jax.vmap(lambda x: solve(velocity, x, s, t, method=method).x)(x)
        return jnp.sqrt(jnp.mean((got - expected) ** 2))

    slope = jnp.log2(error(60) / error(120))
    assert abs(slope - order) < 0.15, slope


@pytest.mark.parametrize("solver", ["dopri8"])
def test_adaptive_error_follows_the_tolerance(solver, getkey, x64):
    x = starts(getkey(), 16)
    stretch = jnp.max(jax.vmap(jax.jacfwd(exact), (0, None, None))(x, S, T))
    expected = jax.vmap(exact, (0, None, None))(x, S, T)
    for tolerance in (1e-6, 1e-9):
        method = AdaptiveSteps(solver=solver, rtol=tolerance, atol=tolerance)
        got = jax.vmap(lambda x, m=method: solve(velocity, x, S, T, method=m).x)(x)
        assert jnp.max(jnp.abs(got - expected)) < 20 * stretch * tolerance


@pytest.mark.parametrize("method", [AdaptiveSteps(rtol=1e-9, atol=1e-9), FixedSteps("dopri5", 60)])
def test_forward_and_back_returns_the_start(method, getkey, x64):
    x = starts(getkey(), 1)[0]
    y = solve(velocity, x, T, S, method=method).x
    assert jnp.allclose(solve(velocity, y, S, T, method=method).x, x, atol=1e-6)


@pytest.mark.parametrize(
    "method", [AdaptiveSteps(), FixedSteps("euler", 3), FixedSteps("dopri8", 2)]
)
def test_equal_times_return_the_start(method):
    x, t = jnp.asarray(0.8), jnp.asarray(0.4)
    assert jnp.array_equal(solve(riccati, x, t, t, method=method).x, x)


@pytest.mark.parametrize(
    "run, method",
    [(solve, FixedSteps(solver, 7)) for solver in SOLVERS]
    + [(solve, AdaptiveSteps(solver)) for solver in ("heun", "dopri5")]
    + [(solve_average_velocity, AdaptiveSteps(rtol=1e-4, atol=1e-9))],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_evaluations_are_counted_as_they_happen(run, method, getkey):
    calls = []

    def counted(x, t):
        jax.debug.callback(lambda _: calls.append(1), t)
        return jnp.cos(20 * t) * x  # uneven enough that adaptive solves reject steps

    solution = jax.block_until_ready(run(counted, starts(getkey(), 1)[0], 1.0, 0.0, method=method))
    jax.effects_barrier()
    assert int(solution.nfe) == len(calls)


def test_evaluations_of_the_usual_solvers(getkey):
    x = starts(getkey(), 1)[0]
    for solver, expected in {"euler": 10, "heun": 20, "dopri5": 61}.items():
        solution = solve(lambda x, t: -t * x, x, S, T, method=FixedSteps(solver, 10))
        assert solution.nfe == expected


def test_grid_takes_the_steps_that_it_names(getkey, x64):
    """Heun by hand on an uneven grid towards data."""
    x, times = starts(getkey(), 1)[0], jnp.array([0.95, 0.7, 0.62, 0.3, 0.05])
    y = x
    for u, w in zip(times[:-1], times[1:]):
        start = velocity(y, u)
        y = y + (w - u) / 2 * (start + velocity(y + (w - u) * start, w))
    solution = solve_grid(velocity, x, times, solver="heun")
    assert jnp.allclose(solution.x, y, rtol=1e-12)
    assert solution.nfe == 8


@pytest.mark.parametrize("solver", ["euler", "dopri5"])
def test_even_grid_equals_fixed_steps(solver, getkey, x64):
    x = starts(getkey(), 1)[0]
    on_grid = solve_grid(velocity, x, jnp.linspace(S, T, 11), solver=solver)
    fixed = solve(velocity, x, S, T, method=FixedSteps(solver, 10))
    assert jnp.allclose(on_grid.x, fixed.x, rtol=1e-12)
    assert on_grid.nfe == fixed.nfe


def test_each_example_of_a_batch_has_its_own_steps(x64):
    x = jnp.array([[0.1], [0.9], [2.4]])
    alone = jax.jit(lambda x: solve(riccati, x, S, T))
    batch, single = jax.vmap(alone)(x), [alone(x_i) for x_i in x]
    assert jnp.allclose(batch.x, jnp.stack([one.x for one in single]), rtol=1e-12)
    assert batch.nfe.tolist() == [int(one.nfe) for one in single]
    assert len(set(batch.nfe.tolist())) > 1


@pytest.mark.parametrize(
    "method", [AdaptiveSteps(rtol=1e-10, atol=1e-10), FixedSteps("dopri5", 80)]
)
def test_forward_derivatives_are_those_of_the_flow(method, x64):
    x, s, t = jnp.asarray(0.8), jnp.asarray(S), jnp.asarray(T)

    def F(x, s, t):
        return solve(riccati, x, s, t, method=method).x

    got = jax.jit(jax.jacfwd(F, (0, 1, 2)))(x, s, t)
    expected = jax.jacfwd(riccati_exact, (0, 1, 2))(x, s, t)
    assert jnp.allclose(jnp.stack(got), jnp.stack(expected), rtol=1e-7)


def test_reverse_derivatives_with_the_adjoint_for_them(x64):
    x, s, t = jnp.asarray(0.8), jnp.asarray(S), jnp.asarray(T)

    def F(x, s, t):
        method = AdaptiveSteps(rtol=1e-10, atol=1e-10)
        adjoint = diffrax.RecursiveCheckpointAdjoint()
        return solve(riccati, x, s, t, method=method, adjoint=adjoint).x

    got = jax.jit(jax.grad(F, (0, 1, 2)))(x, s, t)
    expected = jax.grad(riccati_exact, (0, 1, 2))(x, s, t)
    assert jnp.allclose(jnp.stack(got), jnp.stack(expected), rtol=1e-7)


def test_average_velocity_is_the_displacement_over_the_time(x64):
    x, method = jnp.asarray(0.8), AdaptiveSteps(rtol=1e-10, atol=1e-10)
    V = solve_average_velocity(riccati, x, S, T, method=method).x
    assert jnp.allclose(V, (riccati_exact(x, S, T) - x) / (T - S), rtol=1e-8)


@pytest.mark.parametrize("method", [AdaptiveSteps(), FixedSteps("heun", 4)])
def test_average_velocity_is_smooth_where_the_times_meet(method, x64):
    """At `t = s`: V is the velocity, and its derivative in t half of that along the flow."""
    x, s = jnp.asarray(0.8), jnp.asarray(0.4)
    got = jax.jvp(
        lambda t: solve_average_velocity(riccati, x, s, t, method=method).x, (s,), (jnp.ones(()),)
    )
    _, along = jax.jvp(riccati, (x, s), (riccati(x, s), jnp.ones(())))
    assert jnp.allclose(jnp.stack(got), jnp.stack([riccati(x, s), along / 2]), rtol=1e-12)


def test_too_many_steps_is_an_error_not_a_wrong_answer():
    method = AdaptiveSteps(rtol=1e-6, atol=1e-6, max_steps=3)
    with pytest.raises(Exception, match="maximum number of solver steps"):
        jax.block_until_ready(solve(riccati, jnp.asarray(0.8), S, T, method=method))


def test_methods_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Unknown solver 'rk45'; choose among euler, heun"):
        FixedSteps(solver="rk45")
    with pytest.raises(ValueError, match="try dopri5"):
        AdaptiveSteps(solver="euler")
    with pytest.raises(ValueError, match="steps >= 1"):
        FixedSteps(steps=0)
