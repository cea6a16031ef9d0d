"""What published networks predict, in every map and on every path: on data whose velocity is known,
it is that velocity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.flow_map import AverageVelocityMap, EndpointMap, RotationMap
from core.flow.network import Asked, DenoisedNetwork, Network
from core.flow.path import CosinePath, EDMPath, LinearPath, TrigPath, VPPath
from core.nets.native import in_native_times, unit_interval
from core.nets.suited import EDM_LEVELS, core_of, on_path, prediction_of, suited
from core.nets.warped import WarpedTimes
from tests.compiling import once
from tests.nets.test_native import DIT, clean, dit, sit, velocity
from tests.sets import some

PATHS = [LinearPath(), TrigPath(), CosinePath(), VPPath(), EDMPath()]


def gvp(x, tau, other, cond):
    """SiT's network on the cosine path, whose time runs from noise to data."""
    alpha, sigma = jnp.sin(jnp.pi / 2 * tau), jnp.cos(jnp.pi / 2 * tau)
    x_0 = clean(x, alpha, sigma)
    return jnp.pi / 2 * (sigma * x_0 - alpha * (x - alpha * x_0) / sigma)


def edm(y, u, other, cond):
    """EDM's network behind its preconditioning for data of deviation 1/2, at the state `y`."""
    sigma = u / (1 - u)
    x = y * jnp.sqrt(sigma**2 + 0.25)
    skip, out = 0.25 / (sigma**2 + 0.25), 0.5 * sigma / jnp.sqrt(sigma**2 + 0.25)
    return (clean(x, 1.0, sigma) - skip * x) / out


def discrete(kind):
    return in_native_times(lambda y, k, _, cond: dit(y, k, kind), DIT)


WHOLE, STEPS = (0.0, 1.0), unit_interval(DIT)
KINDS = {
    "linear-velocity": (in_native_times(sit, "reversed"), WHOLE),
    "cosine-velocity": (in_native_times(gvp, "reversed_cosine"), WHOLE),
    "noise": (discrete("noise"), STEPS),
    "x_0": (discrete("x_0"), STEPS),
    "v": (discrete("velocity"), STEPS),
    "edm": (edm, EDM_LEVELS),
}


class Published(Network):
    """A network that says what its output is."""

    kind: str

    def __call__(self, x, s, t, cond=None):
        return KINDS[self.kind][0](x, s, t, cond)

    def suited(self, asked):
        return suited(self, self.kind, KINDS[self.kind][1], asked)


def average(net, path):
    return AverageVelocityMap(net=net, path=path)


def others(net, path):
    return [
        AverageVelocityMap(net=WarpedTimes(net), path=path),
        RotationMap(net=net, path=path, data_std=0.7),
        EndpointMap(net=net, path=path),
        EndpointMap(net=DenoisedNetwork(net, path, 0.3), path=path),
        EndpointMap(net=DenoisedNetwork(net, path, 0.5), path=path),
    ]


def test_edm_is_the_velocity_on_another_path(normal, rng, x64):
    units, x = rng.uniform(0.02, 0.98, 8), normal(8, 3)
    one = average(Published("edm"), TrigPath())

    def run(x, u):
        t = one.path.time_of_unit(u)
        return one.velocity(x, t), velocity(one.path, x, t)

    np.testing.assert_allclose(*once(jax.vmap(run))(x, units), rtol=1e-9, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_diagonal_of_every_map_on_every_path_is_the_velocity(kind, rng, normal, x64):
    units, x = rng.uniform(0.02, 0.98, 16), normal(16, 3)
    net = Published(kind)

    def run(x, u):
        found = []
        for one in (*(average(net, path) for path in PATHS), *others(net, VPPath())):
            t = one.path.time_of_unit(u)
            exact = velocity(one.path, x, t)
            found.append((one.velocity(x, t) - exact) / (1 + abs(exact)))
        return found

    assert np.abs(once(jax.vmap(run))(x, units)).max() < 1e-9


@pytest.mark.slow
def test_jumps_are_those_of_ddim_on_every_path(rng, normal, x64):
    """`F = alpha_t x_0 + sigma_t z` with the clean state and the noise that are predicted."""
    s, t, x = rng.uniform(0.3, 0.9, 16), rng.uniform(0.05, 0.9, 16), normal(16, 3)

    def run(x, s, t):
        net, found = Published("edm"), []
        for one in (*(average(net, path) for path in PATHS), *others(net, VPPath())):
            path = one.path
            start, end = path.time_of_unit(s), path.time_of_unit(t)
            x_0 = clean(x, path.alpha(start), path.sigma(start))
            z = (x - path.alpha(start) * x_0) / path.sigma(start)
            exact = path.alpha(end) * x_0 + path.sigma(end) * z
            found.append((one(x, start, end) - exact) / (1 + abs(exact)))
        return found

    assert np.abs(once(jax.vmap(run))(x, s, t)).max() < 1e-9


@pytest.mark.parametrize("kind", some(KINDS, "noise"))
def test_velocity_and_derivatives_are_finite_up_to_both_ends(kind, normal):
    x, ends = normal(4, 2), np.float32([0.0, 1.0, 1e-6, 1 - 1e-6])
    others = np.float32([1.0, 0.0, 1e-6, 1.0])

    class Smooth(Network):
        """Bounded, as a trained network is."""

        def __call__(self, x, s, t, cond=None):
            return jnp.tanh(x) + jnp.sin(s + 2 * t)

    def run(x, s, t):
        found = []
        for path in (LinearPath(), EDMPath()):
            net = suited(Smooth(), kind, KINDS[kind][1], Asked("average", path))
            call = AverageVelocityMap(net=net, path=path).average_velocity
            at = path.time_of_unit(s), path.time_of_unit(t)
            tangent = jnp.ones_like(x), jnp.ones_like(s), jnp.ones_like(t)
            found += jax.jvp(call, (x, *at), tangent)
        return found

    assert np.isfinite(once(jax.vmap(run))(x, ends, others)).all()


@pytest.mark.slow
def test_a_published_map_is_moved_whole(rng, normal):
    x, units = normal(8, 3), np.float32(rng.uniform(0.1, 0.9, 8))
    sources = {kind: average(Published(kind), LinearPath()) for kind in KINDS}
    assert {kind: prediction_of(one) for kind, one in sources.items()} == {k: k for k in KINDS}
    assert all(isinstance(core_of(one), Published) for one in sources.values())

    def run(x, u):
        path = TrigPath()
        moved = [on_path(one, path, KINDS[kind][1]) for kind, one in sources.items()]
        exact = velocity(path, x, path.time_of_unit(u))
        return [one.velocity(x, path.time_of_unit(u)) - exact for one in moved]

    assert np.abs(once(jax.vmap(run))(x, units)).max() < 2e-3


def test_a_plain_network_is_put_into_maps_as_it_is():
    class Plain(Network):
        def __call__(self, x, s, t, cond=None):
            return x

        def suited(self, asked):
            return suited(self, "plain", WHOLE, asked)

    net, path = Plain(), TrigPath()
    assert AverageVelocityMap(net=net, path=path).net is net
    assert RotationMap(net=net, path=path).net is net
