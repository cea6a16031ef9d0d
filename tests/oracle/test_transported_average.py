"""The mean of velocities that are transported back along a trajectory is not the jump to its end:
an identity that was published as that of a flow map holds on flat tori alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.flow.sphere import Sphere
from core.oracle import Fisher, SpaceMixture
from tests.compiling import once

SPHERE = Sphere()
BLOBS = np.array([[0.0, 0.0, 1.0], [0.0, np.sin(1.8), np.cos(1.8)]])


def miss(problem, x, s, t, steps=100):
    """How far from the end of the trajectory the geodesic along that mean ends, in radians."""

    def rate(state, time):
        point, frame = state[0], state[1:3]
        v = problem.velocity(SPHERE.project(point), time)
        # The frame is transported along the trajectory; the last row holds the parts of v in it.
        parts = jnp.append(frame @ v, 0.0)
        return jnp.concatenate([v[None], -(frame @ v)[:, None] * point[None], parts[None]])

    def step(state, i):
        h, time = (t - s) / steps, s + i * (t - s) / steps
        a = rate(state, time)
        b = rate(state + h / 2 * a, time + h / 2)
        c = rate(state + h / 2 * b, time + h / 2)
        d = rate(state + h * c, time + h)
        return state + h / 6 * (a + 2 * b + 2 * c + d), None

    first = SPHERE.tangent(x, jnp.array([1.0, 0.0, 0.0]))
    first /= jnp.linalg.norm(first)
    frame = jnp.stack([first, jnp.cross(x, first)])
    start = jnp.concatenate([x[None], frame, jnp.zeros((1, 3))])
    end, _ = jax.lax.scan(step, start, jnp.arange(steps))
    mean = end[3, :2] @ frame  # of the transported velocity, times t - s
    return SPHERE.distance(SPHERE.project(end[0]), SPHERE.exp(x, mean))


@pytest.mark.long
def test_the_transported_average_misses_by_about_the_fourth_power_of_the_gap(x64, rng):
    x = rng.normal(size=(40, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)

    def misses(x):
        problem = SpaceMixture(jnp.array([0.35, 0.65]), Fisher(jnp.array(BLOBS), [8.0, 4.0]))
        spans = ((1.0, 0.05), (0.6, 0.35), (0.6, 0.475))
        return [jax.vmap(lambda one: miss(problem, one, *span))(x) for span in spans]

    whole, gap, half = (np.median(one) for one in once(misses)(x))
    assert 0.003 < whole < 0.05
    assert 3 < np.log2(gap / half) < 4.5
