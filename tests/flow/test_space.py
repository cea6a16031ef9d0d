"""Geodesics of the spaces, their derivatives, and what a network sees."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.interpolant import GeodesicPath
from core.flow.path import LinearPath, gaussian
from core.flow.product_space import ProductSpace
from core.flow.rotations import SO3, matrix, multiply, quaternion
from core.flow.space import Euclidean, Space
from core.flow.sphere import Sphere
from core.flow.torus import Torus
from core.objectives.row import make_row
from plugins.compositional.psd import SplitJump
from plugins.lagrangian.lsd import LagrangianJump
from plugins.meanflow.imf import BoundaryJump
from plugins.meanflow.mf import MeanFlowJump
from tests.compiling import device, once

MOTIONS = ProductSpace((SO3(), Euclidean()), (4, 3))
CASES = {"sphere": (Sphere(), 3), "torus": (Torus(), 2), "so3": (SO3(), 4), "motions": (MOTIONS, 7)}


def geometry(space: Space, x, u, g, w, t):
    """What must agree, as pairs: the closed forms of derivatives with automatic ones, and the
    velocity of a pair with the slope of its curve and the way back to its example."""
    x = space.project(x)
    u, g = 0.3 * space.tangent(x, u), space.tangent(x, g)
    y = space.exp(x, u)
    w = space.tangent(y, w)
    pulled = space.target_pull(x, u, w)
    yield space.log(x, y), u
    yield space.push(x, u, g), Space.push(space, x, u, g)
    yield space.source_pull(x, u, g), Space.source_pull(space, x, u, g)
    yield pulled, Space.target_pull(space, x, u, w)
    yield space.push(x, u, pulled), w
    yield space.join(x, u, w / 9), Space.join(space, x, u, w / 9)
    yield space.join(x, 1e-9 * u, 1e-9 * g) * 1e9, u + g
    yield space.distance(x, y) ** 2, jnp.sum(u**2)
    path = GeodesicPath(manifold=space)
    state, slope = jax.jvp(lambda time: path.interpolate(x, y, time), (t,), (jnp.ones_like(t),))
    v = path.conditional_velocity(x, y, t)
    yield v, slope
    yield -t * v, space.log(state, x)
    yield jnp.sum(v**2), jnp.sum(u**2)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_closed_forms_are_the_derivatives_of_geodesics(name, normal, x64):
    """At the data end, on the way and at the noise end, and for equal factors on a leading axis."""
    space, n = CASES[name]
    vectors = normal(4, 3, 2, n)

    def all_times(vectors, times):
        return jax.vmap(lambda *row: list(geometry(space, *row)))(*vectors, times)

    for found, expected in once(all_times)(vectors, np.array([0.0, 0.6, 1.0])):
        np.testing.assert_allclose(found, expected, atol=4e-15)


def test_rotations_agree_with_scipy(rng, x64):
    x, y = (Rotation.random(5, random_state=rng) for _ in range(2))
    half_turns = Rotation.from_rotvec(np.pi * np.eye(3)).as_matrix()

    def all_of_it(a, b, matrices):
        again = matrix(quaternion(matrices))
        return matrix(a), matrix(multiply(a, b)), SO3().log(a, -b), again

    a, b = (R.as_quat(scalar_first=True) for R in (x, y))
    alone, product, way, again = once(all_of_it)(a, b, half_turns)
    np.testing.assert_allclose(alone, x.as_matrix(), atol=1e-15)
    np.testing.assert_allclose(product, (x * y).as_matrix(), atol=1e-15)
    angle = 2 * np.linalg.norm(way, axis=-1)
    np.testing.assert_allclose(angle, (x.inv() * y).magnitude(), rtol=1e-13)
    np.testing.assert_allclose(again, half_turns, atol=1e-15)


def test_a_network_sees_a_rotation_without_its_sign(rng, x64):
    """Its output is the angular velocity in the body's frame: `R' = R [omega]_x`."""
    x, omega = Rotation.random(random_state=rng), rng.normal(size=3)

    def seen(q, omega):
        V = SO3().from_network(q, omega)
        rate = jax.jvp(matrix, (q,), (V,))[1]
        return SO3().features(q), V, rate

    q = x.as_quat(scalar_first=True)
    features, V, rate = once(seen)(q, omega)
    mirrored, W, _ = once(seen)(-q, omega)
    np.testing.assert_array_equal(features, mirrored)
    np.testing.assert_array_equal(W, -V)
    body = np.stack([np.cross(omega, axis) for axis in np.eye(3)], axis=1)
    np.testing.assert_allclose(rate, x.as_matrix() @ body, atol=1e-14)


def test_jumps_on_a_torus_add_up_beyond_a_turn(x64):
    def ends(u, w):
        return Torus().join(0 * u, u, w), Torus().exp(0 * u, u + w)

    joined, end = once(ends)(np.array([3.0]), np.array([3.5]))
    np.testing.assert_allclose(joined, 6.5)
    np.testing.assert_allclose(end, 6.5 - 2 * np.pi)


def test_what_is_flat_only_says_so():
    with pytest.raises(UserError, match="euclidean has no uniform distribution"):
        Euclidean().uniform(jr.key(0), (3,))
    with pytest.raises(UserError, match="geodesics of sphere"):
        gaussian(GeodesicPath(manifold=Sphere()))
    assert gaussian(LinearPath()) == LinearPath()


def net(x, s, t, cond):
    del cond
    return jnp.sin(x * s) + jnp.cos(t * x)


def as_in_papers(model, row):
    """The residuals of mf, imf, lsd and psd in flat space."""
    stop, gap, value = jax.lax.stop_gradient, row.t - row.s, model.average_velocity

    def slope(tangent):
        def at(x, s):
            return value(x, s, row.t)

        return jax.jvp(at, (row.x_s, row.s), (tangent, jnp.ones_like(row.s)))

    V, dV_ds = slope(row.v)
    mf = V - stop(row.v + gap * dV_ds)
    V, dV_ds = slope(stop(value(row.x_s, row.s, row.s)))
    imf = V - gap * stop(dV_ds) - row.v
    V, dV_dt = jax.jvp(lambda t: value(row.x_s, row.s, t), (row.t,), (jnp.ones_like(row.t),))
    lsd = V + gap * dV_dt - stop(value(row.x_s + gap * V, row.t, row.t))
    half = jnp.full_like(row.s, 0.5)
    u = half * row.s + (1 - half) * row.t
    first = value(row.x_s, row.s, u)
    second = value(row.x_s + (u - row.s) * first, u, row.t)
    psd = value(row.x_s, row.s, row.t) - stop((1 - half) * first + half * second)
    return mf, imf, lsd, psd


def compiled(function, *arguments):
    """The instructions of the compiled program, without their names and where in the source they
    come from."""
    text = jax.jit(function).lower(*arguments).compile().as_text()
    assert text is not None
    lines = re.sub(r",? metadata=\{[^}]*\}", "", text).splitlines()
    return sorted(re.sub(r"%[\w.\-]+", "%", line) for line in lines if " = " in line)


def test_flat_space_compiles_to_the_programs_of_the_papers(normal):
    terms = MeanFlowJump(), BoundaryJump(), LagrangianJump(), SplitJump(midpoint=True)
    model = AverageVelocityMap(net=net, path=LinearPath())

    def row_of(x_0, z, s, t):
        return make_row(LinearPath(), x_0, z, s, t, None, jr.key(0))

    def ours(*parts):
        row = row_of(*parts)
        return tuple(term(model, model, row) for term in terms)

    parts = device((normal(8), normal(8), np.float32(0.8), np.float32(0.3)))
    assert compiled(ours, *parts) == compiled(lambda *p: as_in_papers(model, row_of(*p)), *parts)


def test_a_product_refuses_other_lengths():
    with pytest.raises(ValueError, match="has 7 coordinates, but got 8"):
        MOTIONS.project(device(np.ones(8, np.float32)))
