"""The checks in spaces that are not flat, and what they must refuse."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance import SPACE_PROBLEMS, check_plugin, gradient_checks
from core.conformance.spaces import OnPath, Uncurved
from core.errors import UserError
from core.flow import rules
from core.flow.interpolant import GeodesicPath
from core.flow.sphere import Sphere
from core.methods.registry import find_plugin, plugins
from core.methods.spaces import check_space
from core.oracle import SpaceMap
from tests.compiling import once

NAMES = [name for name, plugin in plugins().items() if plugin.spaces]
SPACES = ("sphere", "torus", "so3")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.long
def test_every_method_for_spaces_passes(name, space, x64):
    path = SPACE_PROBLEMS[space]().path
    plugin = next(iter(find_plugin(name).variants().values()))
    checks = check_plugin(plugin, path, rows=512, order_rows=8) + gradient_checks(plugin, path)
    assert checks and all(check.passed for check in checks), checks
    assert {"P0", "E0"} <= {check.kind for check in checks} or name in ("ct", "ect")


def rates(exact, key):
    """`dF/ds` at a point, minus the velocity pushed forward by the map, and minus the bare one; and
    how far the Eulerian rule is from holding, with and without curvature."""
    space = exact.path.space
    x, s, t = space.uniform(key, exact.problem.shape), jnp.asarray(0.8), jnp.asarray(0.3)
    v, one = exact.velocity(x, s), jnp.ones(())
    rate = jax.jvp(lambda time: exact(x, time, t), (s,), (one,))[1]
    pushed = jax.jvp(lambda y: exact(y, s, t), (x,), (v,))[1]
    V, dV_ds = rules.eulerian(exact, x, s, t, v)
    bent = space.source_pull(x, (t - s) * V, v) + (t - s) * dV_ds - V
    return rate + pushed, rate + v, bent, v + (t - s) * dV_ds - V


@pytest.mark.parametrize("name", ["sphere", "so3"])
@pytest.mark.slow
def test_a_bare_velocity_and_a_flat_identity_are_wrong_on_curved_spaces(name, x64):
    problem = SPACE_PROBLEMS[name]()
    exact = SpaceMap(problem=problem, path=problem.path)

    def at_points(exact, keys):
        return jax.vmap(lambda key: rates(exact, key))(keys)

    pushed, bare, bent, flat = once(at_points)(exact, jr.split(jr.key(0), 8))
    np.testing.assert_allclose(pushed, 0, atol=1e-8)
    np.testing.assert_allclose(bent, 0, atol=1e-8)
    assert np.abs(bare).max() > 0.05 and np.abs(flat).max() > 1e-3


def test_methods_for_flat_space_are_refused_in_one_line():
    with pytest.raises(UserError, match="imm works in flat space alone, not on sphere; use"):
        check_space(find_plugin("imm"), Sphere())
    check_space(find_plugin("mf"), Sphere())


def test_the_control_without_curvature_keeps_the_points():
    space = Uncurved(Sphere())
    x, u = np.array([0.0, 0.0, 1.0]), np.array([0.5, 0.0, 0.0])

    def both(x, u):
        return space.exp(x, u) - Sphere().exp(x, u), space.source_pull(x, u, u) - u

    assert all(np.all(found == 0) for found in once(both)(x, u))
    assert isinstance(OnPath, type) and GeodesicPath(manifold=space).space == space
