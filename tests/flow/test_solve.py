"""Solves of the probability-flow ODE: order, direction, cost, derivatives."""

import diffrax
import jax
import jax.numpy as jnp
import numpy as np
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
from tests.compiling import once

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


@pytest.mark.parametrize(
    "solver, order, s, t",
    [("euler", 1, S, T), ("heun", 2, S, T), ("heun", 2, T, S), ("midpoint", 2, S, T)],
)
def test_error_falls_with_the_order_of_the_solver(solver, order, s, t, normal, x64):
    @once
    def run(x):
        def one(x):
            steppings = (FixedSteps(solver=solver, steps=steps) for steps in (60, 120))
            return exact(x, s, t), *(solve(velocity, x, s, t, stepping=m).x for m in steppings)

        return jax.vmap(one)(x)

    expected, coarse, fine = run(normal(32, 1))
    errors = [np.sqrt(np.mean((got - expected) ** 2)) for got in (coarse, fine)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("solver", ["dopri8"])
def test_adaptive_error_follows_the_tolerance(solver, normal, x64):
    @once
    def run(x, tolerance):
        def one(x):
            stepping = AdaptiveSteps(solver=solver, rtol=tolerance, atol=tolerance)
            stretch = jax.jacfwd(exact)(x, S, T)
            return stretch, exact(x, S, T), solve(velocity, x, S, T, stepping=stepping).x

        return jax.vmap(one)(x)

    x = normal(16, 1)
    for tolerance in (1e-6, 1e-9):
        stretch, expected, got = run(x, tolerance)
        assert np.max(np.abs(got - expected)) < 20 * np.max(stretch) * tolerance


@pytest.mark.parametrize(
    "stepping", [AdaptiveSteps(rtol=1e-9, atol=1e-9), FixedSteps("dopri5", 60)]
)
def test_forward_and_back_returns_the_start(stepping, normal, x64):
    @once
    def run(x):
        y = solve(velocity, x, T, S, stepping=stepping).x
        return solve(velocity, y, S, T, stepping=stepping).x

    x = normal(1)
    np.testing.assert_allclose(run(x), x, atol=1e-6)


@pytest.mark.parametrize(
    "stepping", [AdaptiveSteps(), FixedSteps("euler", 3), FixedSteps("dopri8", 2)]
)
def test_equal_times_return_the_start(stepping):
    x, t = np.float32(0.8), np.float32(0.4)
    assert once(lambda x, t: solve(riccati, x, t, t, stepping=stepping).x)(x, t) == x


@pytest.mark.parametrize(
    "run, stepping",
    [(solve, FixedSteps(solver, 7)) for solver in SOLVERS]
    + [(solve, AdaptiveSteps(solver)) for solver in ("heun", "dopri5")]
    + [(solve_average_velocity, AdaptiveSteps(rtol=1e-4, atol=1e-9))],
    ids=lambda value: getattr(value, "__name__", repr(value)),
)
def test_evaluations_are_counted_as_they_happen(run, stepping, normal):
    calls = []

    def counted(x, t):
        jax.debug.callback(lambda _: calls.append(1), t)
        return jnp.cos(20 * t) * x  # uneven enough that adaptive solves reject steps

    solution = once(lambda x: run(counted, x, 1.0, 0.0, stepping=stepping))(normal(1))
    jax.effects_barrier()
    assert int(solution.nfe) == len(calls)


def test_evaluations_of_the_usual_solvers(normal):
    expected = {"euler": 10, "heun": 20, "dopri5": 61}

    @once
    def run(x):
        steppings = (FixedSteps(solver, 10) for solver in expected)
        return [
            solve(lambda x, t: -t * x, x, S, T, stepping=stepping).nfe for stepping in steppings
        ]

    assert [int(nfe) for nfe in run(normal(1))] == list(expected.values())


def test_grid_takes_the_steps_that_it_names(normal, x64):
    """Heun by hand on an uneven grid towards data."""

    @once
    def run(x, times):
        y = x
        for u, w in zip(times[:-1], times[1:]):
            start = velocity(y, u)
            y = y + (w - u) / 2 * (start + velocity(y + (w - u) * start, w))
        return y, solve_grid(velocity, x, times, solver="heun")

    y, solution = run(normal(1), np.array([0.95, 0.7, 0.62, 0.3, 0.05]))
    np.testing.assert_allclose(solution.x, y, rtol=1e-12)
    assert solution.nfe == 8


@pytest.mark.parametrize("solver", ["euler", "dopri5"])
def test_even_grid_equals_fixed_steps(solver, normal, x64):
    @once
    def run(x):
        on_grid = solve_grid(velocity, x, jnp.linspace(S, T, 11), solver=solver)
        return on_grid, solve(velocity, x, S, T, stepping=FixedSteps(solver, 10))

    on_grid, fixed = run(normal(1))
    np.testing.assert_allclose(on_grid.x, fixed.x, rtol=1e-12)
    assert on_grid.nfe == fixed.nfe


def test_each_example_of_a_batch_has_its_own_steps(x64):
    x = np.array([[0.1], [0.9], [2.4]])
    batch = once(jax.vmap(lambda x: solve(riccati, x, S, T)))(x)
    single = once(lambda x: solve(riccati, x, S, T))
    alone = [single(one) for one in x]
    np.testing.assert_allclose(batch.x, [one.x for one in alone], rtol=1e-12)
    assert batch.nfe.tolist() == [int(one.nfe) for one in alone]
    assert len(set(batch.nfe.tolist())) > 1


@pytest.mark.parametrize(
    "stepping", [AdaptiveSteps(rtol=1e-10, atol=1e-10), FixedSteps("dopri5", 80)]
)
def test_forward_derivatives_are_those_of_the_flow(stepping, x64):
    def F(x, s, t):
        return solve(riccati, x, s, t, stepping=stepping).x

    @once
    def run(*at):
        return [jnp.stack(jax.jacfwd(f, (0, 1, 2))(*at)) for f in (F, riccati_exact)]

    np.testing.assert_allclose(*run(np.array(0.8), np.array(S), np.array(T)), rtol=1e-7)


def test_reverse_derivatives_with_the_adjoint_for_them(x64):
    def F(x, s, t):
        stepping = AdaptiveSteps(rtol=1e-10, atol=1e-10)
        adjoint = diffrax.RecursiveCheckpointAdjoint()
        return solve(riccati, x, s, t, stepping=stepping, adjoint=adjoint).x

    @once
    def run(*at):
        return [jnp.stack(jax.grad(f, (0, 1, 2))(*at)) for f in (F, riccati_exact)]

    np.testing.assert_allclose(*run(np.array(0.8), np.array(S), np.array(T)), rtol=1e-7)


def test_average_velocity_is_the_displacement_over_the_time(x64):
    stepping = AdaptiveSteps(rtol=1e-10, atol=1e-10)

    @once
    def run(x):
        V = solve_average_velocity(riccati, x, S, T, stepping=stepping).x
        return V, (riccati_exact(x, S, T) - x) / (T - S)

    np.testing.assert_allclose(*run(np.array(0.8)), rtol=1e-8)


@pytest.mark.parametrize("stepping", [AdaptiveSteps(), FixedSteps("heun", 4)])
def test_average_velocity_is_smooth_where_the_times_meet(stepping, x64):
    """At `t = s`: V is the velocity, and its derivative in t half of that along the flow."""

    @once
    def run(x, s):
        def V(t):
            return solve_average_velocity(riccati, x, s, t, stepping=stepping).x

        v = riccati(x, s)
        _, along = jax.jvp(riccati, (x, s), (v, jnp.ones(())))
        return jnp.stack(jax.jvp(V, (s,), (jnp.ones(()),))), jnp.stack([v, along / 2])

    np.testing.assert_allclose(*run(np.array(0.8), np.array(0.4)), rtol=1e-12)


def test_too_many_steps_is_an_error_not_a_wrong_answer():
    stepping = AdaptiveSteps(rtol=1e-6, atol=1e-6, max_steps=3)
    with pytest.raises(Exception, match="maximum number of solver steps"):
        jax.block_until_ready(solve(riccati, jnp.asarray(0.8), S, T, stepping=stepping))


def test_methods_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="Unknown solver 'rk45'; choose among euler, heun"):
        FixedSteps(solver="rk45")
    with pytest.raises(ValueError, match="try dopri5"):
        AdaptiveSteps(solver="euler")
    with pytest.raises(ValueError, match="steps >= 1"):
        FixedSteps(steps=0)
