"""Many samples: keys, batches, labels, one program."""

from dataclasses import replace

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.sampling import SAMPLERS, Drawing, drawing_of, generate
from core.sampling.ode import AdaptiveOde
from tests.sampling.distributions import gaussian

ONE_STEP = drawing_of(SAMPLERS["pushforward"], LinearPath())


def still(path=LinearPath()):
    return AverageVelocityMap(lambda x, s, t, cond: jnp.zeros_like(x), path)


def test_every_sample_has_noise_of_its_own():
    noise = generate(still(), ONE_STEP, (3,), 1000, key=jr.key(0), batch=256).x
    assert noise.shape == (1000, 3)
    assert len(np.unique(noise)) == noise.size
    assert abs(noise.mean()) < 4 / 3000**0.5 and abs(noise.std() - 1) < 4 / 6000**0.5


def test_sampling_starts_with_the_noise_of_the_first_time():
    drawing = Drawing(SAMPLERS["pushforward"], np.array([0.9, 0.0]))
    start = generate(still(), drawing, (3,), 1000, key=jr.key(0)).x
    assert abs(start.std() / 0.9 - 1) < 4 / 6000**0.5


def test_batches_change_neither_shape_nor_repeatability_and_report_progress():
    flow_map, drawing = gaussian(), drawing_of(SAMPLERS["restart"], LinearPath(), 2)
    seen = []

    def draw(n, key, batch):
        return generate(flow_map, drawing, (2,), n, key=key, batch=batch, progress=seen.append).x

    first = draw(70, jr.key(0), 32)
    assert first.shape == (70, 2) and seen == [32, 32, 6]
    assert np.array_equal(first, draw(70, jr.key(0), 32))
    assert np.array_equal(first[:40], draw(40, jr.key(0), 32))
    assert not np.array_equal(first, draw(70, jr.key(1), 32))


def test_few_samples_are_the_first_of_many_in_smaller_programs():
    traced = []

    def net(x, s, t, cond):
        traced.append(1)
        return jnp.sin(3 * x) + s

    flow_map = AverageVelocityMap(net, LinearPath())
    drawing = drawing_of(SAMPLERS["restart"], flow_map.path, 2)
    many = generate(flow_map, drawing, (2,), 40, key=jr.key(0), batch=32).x
    per_program, programs = len(traced), []
    for n in (1, 2, 16, 17, 33):
        few = generate(flow_map, drawing, (2,), n, key=jr.key(0), batch=32).x
        programs.append(len(traced) // per_program)
        np.testing.assert_allclose(few, many[:n], rtol=1e-5, atol=1e-6)
    assert programs == [2, 3, 3, 3, 3]


def test_labels_reach_their_own_samples():
    def net(x, s, t, cond):
        return x - cond.label  # V such that F(x, 1, 0) is the label

    flow_map, labels = AverageVelocityMap(net, LinearPath()), np.arange(70) % 7
    out = generate(flow_map, ONE_STEP, (2,), labels, key=jr.key(0), batch=32)
    assert np.allclose(out.x, np.stack([labels, labels], axis=1), atol=1e-5)


def test_the_guidance_scale_reaches_the_network():
    def net(x, s, t, cond):
        return x - cond.guidance[0]  # V such that F(x, 1, 0) is the scale

    flow_map = AverageVelocityMap(net, LinearPath())
    guided = replace(ONE_STEP, guidance=(2.5, 0.0, 1.0))
    for labels in (5, np.arange(5)):
        out = generate(flow_map, guided, (2,), labels, key=jr.key(0))
        assert np.allclose(out.x, 2.5, atol=1e-5)


def test_one_program_serves_any_number_of_samples_and_any_grid_of_a_length():
    traced = []

    def net(x, s, t, cond):
        traced.append(1)
        return -x

    def draw(n, *times):
        drawing = Drawing(SAMPLERS["pushforward"], np.array(times))
        generate(flow_map, drawing, (2,), n, key=jr.key(n), batch=16)
        return len(traced)

    flow_map = AverageVelocityMap(net, LinearPath())
    first = draw(5, 1.0, 0.5, 0.0)
    assert first == draw(40, 1.0, 0.2, 0.0) == draw(32, 0.9, 0.2, 0.1)


def test_adaptive_samples_cost_each_their_own_and_the_mean_is_reported():
    def net(x, s, t, cond):
        return x**3 - 2 * x

    flow_map, drawing = (
        AverageVelocityMap(net, LinearPath()),
        drawing_of(AdaptiveOde(), LinearPath()),
    )
    samples = generate(flow_map, drawing, (1,), 20, key=jr.key(0), batch=16)
    assert samples.counts.shape == (20,) and len(np.unique(samples.counts)) > 1
    assert samples.nfe == round(samples.counts.mean(), 2)
