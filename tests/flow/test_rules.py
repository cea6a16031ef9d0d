"""The three rules vanish on exact maps, and their derivatives are right."""

import jax
import jax.numpy as jnp
import jax.random as jr
import pytest

from core.conformance import problems
from core.flow import rules
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import PATHS, LinearPath
from core.oracle import OracleMap

PAIRS = [(0.9, 0.2), (0.6, 0.55), (0.3, 0.7)]


@pytest.fixture(params=["mixture", "gaussian"])
def exact(request, x64):
    return OracleMap(problems()[request.param], LinearPath())


def points(exact, getkey):
    for s, t in PAIRS:
        yield jr.normal(getkey(), exact.problem.shape), jnp.asarray(s), jnp.asarray(t)


def test_eulerian_rule_holds_with_the_marginal_velocity(exact, getkey):
    for x, s, t in points(exact, getkey):
        v = exact.velocity(x, s)
        V, dV_ds = rules.eulerian(exact, x, s, t, v)
        assert jnp.allclose(V, v + (t - s) * dV_ds, rtol=1e-9, atol=1e-10)
        assert not jnp.allclose(V, v - (t - s) * dV_ds, rtol=1e-3)


def test_lagrangian_rule_holds_in_both_directions(exact, getkey):
    for x, s, t in points(exact, getkey):
        V, dV_dt = rules.lagrangian(exact, x, s, t)
        v = exact.velocity(x + (t - s) * V, t)
        assert jnp.allclose(V, v - (t - s) * dV_dt, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_compositional_rule_holds_for_any_split(exact, getkey, fraction):
    for x, s, t in points(exact, getkey):
        V = rules.compositional(exact, x, s, t, jnp.asarray(fraction))
        assert jnp.allclose(V, exact.average_velocity(x, s, t), rtol=1e-9, atol=1e-10)


def test_residual_with_the_conditional_velocity_is_the_gradient_of_the_map(exact, getkey):
    for x, s, t in points(exact, getkey):
        v = exact.velocity(x, s)
        other = v + jr.normal(getkey(), v.shape)
        V, dV_ds = rules.eulerian(exact, x, s, t, other)
        pushed = jax.jvp(lambda y: exact(y, s, t), (x,), (v - other,))[1]
        assert jnp.allclose(V - other - (t - s) * dV_ds, pushed, rtol=1e-8, atol=1e-9)


def smooth(path):
    return AverageVelocityMap(lambda x, s, t, cond: jnp.sin(2 * x + s) * jnp.cos(t) + s * t, path)


def test_finite_difference_has_first_order_and_agrees_with_the_jvp(x64, getkey):
    flow_map = smooth(PATHS["linear"]())
    x, v = jr.normal(getkey(), (3,)), jr.normal(getkey(), (3,))
    s, t = jnp.asarray(0.7), jnp.asarray(0.2)
    V, exact = rules.eulerian(flow_map, x, s, t, v)
    errors = []
    for step in (-1e-2, -5e-3, -2.5e-3):
        V_fd, value = rules.eulerian(flow_map, x, s, t, v, derivative=rules.FiniteDifference(step))
        assert jnp.array_equal(V_fd, V)
        errors.append(float(jnp.linalg.norm(value - exact)))
    slopes = [jnp.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(slope == pytest.approx(1.0, abs=0.05) for slope in slopes)


def test_head_rule_returns_the_same_derivative_and_the_head(x64, getkey):
    flow_map = smooth(PATHS["linear"]())
    x, v = jr.normal(getkey(), (3,)), jr.normal(getkey(), (3,))
    s, t = jnp.asarray(0.7), jnp.asarray(0.2)
    V, dV_ds = rules.eulerian(flow_map, x, s, t, v)
    V_h, dV_h, head = rules.eulerian_with_head(flow_map, x, s, t, v)
    assert jnp.array_equal(V, V_h) and jnp.array_equal(dV_ds, dV_h)
    assert jnp.array_equal(head, flow_map.velocity(x, s))


def test_the_two_parts_of_the_eulerian_derivative_add_up(x64, getkey):
    model = smooth(LinearPath())
    x, v = jr.normal(getkey(), (2, 3))
    s, t = jnp.asarray(0.8), jnp.asarray(0.3)
    V, dV_ds, along_v = rules.eulerian_parts(model, x, s, t, v)
    whole = rules.eulerian(model, x, s, t, v)
    assert jnp.allclose(V, whole[0]) and jnp.allclose(dV_ds + along_v, whole[1])
    at_rest = rules.eulerian(model, x, s, t, jnp.zeros_like(v))
    assert jnp.allclose(dV_ds, at_rest[1]) and not jnp.allclose(dV_ds, whole[1])


def test_euler_legs_are_steps_along_the_diagonal(x64, getkey):
    model = smooth(LinearPath())
    x, s, t = jr.normal(getkey(), (3,)), jnp.asarray(0.8), jnp.asarray(0.2)
    u = 0.25 * s + 0.75 * t
    middle = x + (u - s) * model.velocity(x, s)
    end = middle + (t - u) * model.velocity(middle, u)
    two = rules.compositional(model, x, s, t, jnp.asarray(0.25), euler=jnp.asarray(True))
    assert jnp.allclose(x + (t - s) * two, end)
    jumps = rules.compositional(model, x, s, t, jnp.asarray(0.25), euler=jnp.asarray(False))
    assert jnp.allclose(jumps, rules.compositional(model, x, s, t, jnp.asarray(0.25)))
    assert not jnp.allclose(jumps, two)
