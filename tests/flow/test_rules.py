"""The three rules vanish on exact maps, and their derivatives are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.conformance import problems
from core.flow import rules
from core.flow.flow_map import AverageVelocityMap
from core.flow.network import Network
from core.flow.path import LinearPath
from core.oracle import OracleMap
from tests.compiling import once

S, T = np.array([0.9, 0.6, 0.3]), np.array([0.2, 0.55, 0.7])
PATH = LinearPath()


def at_points(name, check, *draws):
    """`check(exact, x, s, t, *draws)` at three points, in one program."""

    def all_points(problem, *rows):
        exact = OracleMap(problem, PATH)
        return jax.vmap(lambda *row: check(exact, *row))(*rows)

    problem = problems()[name]
    rng = np.random.default_rng(1)
    x = rng.standard_normal((3, *problem.shape))
    return once(all_points)(problem, x, S, T, *draws)


def three_rules(exact, x, s, t, other):
    v = exact.velocity(x, s)
    V, dV_ds = rules.eulerian(exact, x, s, t, v)
    yield "eulerian", V, v + (t - s) * dV_ds
    V, dV_dt = rules.lagrangian(exact, x, s, t)
    yield "lagrangian", V, exact.velocity(x + (t - s) * V, t) - (t - s) * dV_dt
    V = exact.average_velocity(x, s, t)
    for fraction in (0.2, 0.5, 0.9):
        composed = rules.compositional(exact, x, s, t, jnp.asarray(fraction))
        yield f"compositional, {fraction}", composed, V
    V, dV_ds = rules.eulerian(exact, x, s, t, v + other)
    pushed = jax.jvp(lambda y: exact(y, s, t), (x,), (-other,))[1]
    yield "pushed", V - v - other - (t - s) * dV_ds, pushed
    V, dV_ds = rules.eulerian(exact, x, s, t, v)
    yield "wrong sign", V, v - (t - s) * dV_ds


@pytest.mark.parametrize("name", ["mixture", "gaussian"])
def test_the_rules_hold_on_an_exact_map(name, x64, normal):
    """Eulerian with the marginal velocity; Lagrangian in both directions; compositional for any
    split; and the Eulerian residual with another velocity is the gradient of the map along it."""

    def check(*arguments):
        return {name: sides for name, *sides in three_rules(*arguments)}

    found = at_points(name, check, normal(3, *problems()[name].shape))
    wrong = found.pop("wrong sign")
    assert len(found) == 6 and np.abs(wrong[0] - wrong[1]).min() > 1e-3
    for rule, (left, right) in found.items():
        tolerance = 1e-8 if rule == "pushed" else 1e-9
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance / 10, err_msg=rule)


def smooth(path):
    return AverageVelocityMap(lambda x, s, t, cond: jnp.sin(2 * x + s) * jnp.cos(t) + s * t, path)


def by_hand(x, s, t, dx, ds):
    """`V` of the smooth map, and its derivative along `(dx, ds)` worked out."""
    V = np.sin(2 * x + s) * np.cos(t) + s * t
    return V, np.cos(2 * x + s) * np.cos(t) * (2 * dx + ds) + ds * t


def test_finite_difference_has_first_order_and_agrees_with_the_jvp(x64, normal):
    @once
    def run(x, v, s, t):
        steps = [rules.FiniteDifference(step) for step in (-1e-2, -5e-3, -2.5e-3)]
        given = smooth(PATH), x, s, t, v
        quotients = [rules.eulerian(*given, derivative=step) for step in steps]
        return rules.eulerian(*given), quotients

    (V, exact), quotients = run(normal(3), normal(3), np.array(0.7), np.array(0.2))
    errors = []
    for V_fd, value in quotients:
        np.testing.assert_allclose(V_fd, V, rtol=1e-15)
        errors.append(np.linalg.norm(value - exact))
    slopes = np.log2(np.divide(errors[:-1], errors[1:]))
    np.testing.assert_allclose(slopes, 1.0, atol=0.05)


class WithHead(Network):
    """The smooth network, with a head that is not its diagonal."""

    @property
    def has_head(self):
        return True

    def __call__(self, x, s, t, cond=None):
        return jnp.sin(2 * x + s) * jnp.cos(t) + s * t

    def with_head(self, x, s, t, cond=None):
        return self(x, s, t), x + 10 * s


def test_head_rule_returns_the_derivative_and_the_head_of_the_network(x64, normal):
    """A map without a head has its own diagonal for it."""
    x, v, s, t = normal(3), normal(3), np.array(0.7), np.array(0.2)

    @once
    def run(*given):
        maps = smooth(PATH), AverageVelocityMap(WithHead(), PATH)
        return [rules.eulerian_with_head(flow_map, *given) for flow_map in maps]

    heads = by_hand(x, s, s, 0.0, 0.0)[0], x + 10 * s
    for (V, dV_ds, head), expected in zip(run(x, s, t, v), heads):
        np.testing.assert_allclose((V, dV_ds), by_hand(x, s, t, v, 1.0), rtol=1e-12)
        np.testing.assert_allclose(head, expected, rtol=1e-12)


def test_the_two_parts_of_the_eulerian_derivative_are_at_rest_and_along_the_velocity(x64, normal):
    x, v, s, t = normal(3), normal(3), np.array(0.8), np.array(0.3)
    V, dV_ds, along_v = once(lambda *given: rules.eulerian_parts(smooth(PATH), *given))(x, s, t, v)
    np.testing.assert_allclose((V, dV_ds), by_hand(x, s, t, 0.0, 1.0), rtol=1e-12)
    np.testing.assert_allclose((V, along_v), by_hand(x, s, t, v, 0.0), rtol=1e-12)


def test_euler_legs_are_steps_along_the_diagonal(x64, normal):
    x, s, t = normal(3), np.array(0.8), np.array(0.2)

    @once
    def run(x, s, t):
        given = smooth(PATH), x, s, t, jnp.asarray(0.25)
        switches = {"euler": jnp.asarray(True)}, {"euler": jnp.asarray(False)}, {}
        return [rules.compositional(*given, **switch) for switch in switches]

    def V(x, s, t):
        return by_hand(x, s, t, 0.0, 0.0)[0]

    steps, jumps, plain = run(x, s, t)
    u = 0.25 * s + 0.75 * t
    ends = []
    for first in (s, u):  # a leg's velocity: that of its start, or the average
        middle = x + (u - s) * V(x, s, first)
        ends.append(middle + (t - u) * V(middle, u, u if first == s else t))
    np.testing.assert_allclose(x + (t - s) * steps, ends[0], rtol=1e-12)
    np.testing.assert_allclose(x + (t - s) * jumps, ends[1], rtol=1e-12)
    np.testing.assert_allclose(jumps, plain, rtol=1e-12)
    assert np.abs(jumps - steps).max() > 1e-3
