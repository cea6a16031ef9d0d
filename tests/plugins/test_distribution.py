"""Distributional fine-tuning: closed forms of its gradients, and who learns from what."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, TrigPath
from core.flow.teacher import Guided, MapTeacher, frozen
from core.methods.plugin import Task
from core.methods.registry import find_plugin
from core.metrics.frechet import frechet_distance, statistics
from core.nets.perception import Perception
from core.objectives.objective import Batch
from core.objectives.one_step import OneStep
from core.oracle import GaussianProblem, OracleMap, ProductMixture
from core.times.distributions import Uniform
from plugins.distribution.anchor import Anchor
from plugins.distribution.dmd import Matching, direction, fake_of
from plugins.distribution.fdloss import MatchMoments
from plugins.distribution.frechet import Moments, centre_distance, frechet, mixed
from tests.objectives.terms import TinyNet

LINEAR = LinearPath()
DATA = {"mean": (0.5, -0.3), "covariance": ((0.8, 0.0), (0.0, 0.5))}
STUDENT = {"mean": (-1.0, 0.9), "covariance": ((0.4, 0.1), (0.1, 0.9))}


def gaussian(problem):
    return GaussianProblem(**{name: jnp.array(value) for name, value in problem.items()})


def tiny(seed=0):
    return AverageVelocityMap(TinyNet((2,), key=jr.key(seed)), LINEAR)


# --- Samples ---


@pytest.mark.parametrize("middle", [0.0, 0.25])
def test_jumps_start_at_noise_or_in_the_middle_and_end_at_the_data(middle):
    batch = Batch(jnp.full((8, 2), 1e6), jnp.arange(8))
    generate = OneStep(TrigPath(), num_classes=8, middle=middle)
    starts = generate.starts(batch, jr.key(0))
    count = round(8 * middle)
    assert (starts.s[count:] == TrigPath().t_max).all() and (starts.s[:count] < 1.57).all()
    assert (jnp.abs(starts.x_s[count:]) < 10).all() and (jnp.abs(starts.x_s[:count]) > 10).all()
    ends = generate(lambda x, s, t, cond: jnp.stack([s, t]) + cond.label, starts)
    expected = jnp.stack([starts.s, jnp.zeros(8)], 1) + jnp.arange(8)[:, None]
    np.testing.assert_allclose(ends, expected, rtol=1e-6)


# --- Distribution matching ---


@pytest.mark.parametrize("path", [LINEAR, TrigPath()])
def test_the_direction_is_the_difference_of_scores(path, x64):
    """`(D_f - D_r) = sigma^2 / alpha (score_f - score_r)`, the scores by differentiation."""
    student, data = gaussian(STUDENT), gaussian(DATA)
    x, x_tau, tau = jnp.array([0.2, -0.4]), jnp.array([0.6, 0.1]), jnp.asarray(0.4)
    v_fake, v_real = (problem.velocity(path, x_tau, tau) for problem in (student, data))
    delta = direction(path, x, x_tau, tau, v_fake, v_real)
    score = [
        jax.grad(lambda y: problem.log_prob(path, y, tau))(x_tau) for problem in (student, data)
    ]
    gap = path.sigma(tau) ** 2 / path.alpha(tau) * (score[0] - score[1])
    scale = jnp.mean(jnp.abs(x - data.x_0_mean(path, x_tau, tau)))
    np.testing.assert_allclose(delta, gap / scale, rtol=1e-9)
    plain = direction(path, x, x_tau, tau, v_fake, v_real, normalise=False)
    np.testing.assert_allclose(plain, gap, rtol=1e-9)


def matching(fake, teacher, every=1, wait=0, levels=(0.02, 0.98)):
    generate = OneStep(LINEAR)
    objective = Matching(
        generate, MapTeacher(teacher), Anchor(0.0, generate), Uniform(*levels), every, wait
    )
    return objective, {"model": tiny(), "fake": fake}


def pushed(student, data, n=256):
    """The directions at samples of the student's distribution, with both denoisers exact; the
    samples."""
    fake, teacher = (OracleMap(problem=problem, path=LINEAR) for problem in (student, data))
    objective, _ = matching(fake, teacher)
    x = jax.vmap(student.sample)(jr.split(jr.key(1), n))
    x_tau, tau, _ = objective.noised(x, jr.key(2))
    v_fake, v_real = (jax.vmap(field.velocity)(x_tau, tau) for field in (fake, teacher))
    return objective.directions(x, x_tau, tau, v_fake, v_real), x


def test_a_student_with_the_distribution_of_the_data_is_left_alone(x64):
    """Sample by sample, with the same distribution from the code of another problem."""
    same = ProductMixture(
        weights=jnp.ones((2, 1)),
        means=jnp.array([[0.5], [-0.3]]),
        stds=jnp.sqrt(jnp.array([[0.8], [0.5]])),
    )
    delta, _ = pushed(gaussian(DATA), same)
    np.testing.assert_allclose(delta, 0.0, atol=1e-9)


def test_samples_of_another_distribution_are_moved_towards_the_data(x64):
    data = gaussian(DATA)
    delta, x = pushed(gaussian(STUDENT), data)
    towards = data.mean - jnp.mean(x, axis=0)
    assert float(jnp.mean(-delta, axis=0) @ towards) > 0.1
    for axis in range(2):
        assert float(jnp.mean(-delta, axis=0)[axis] * towards[axis]) > 0


def gradients(objective, players, step):
    trained, static = eqx.partition(players, eqx.is_inexact_array)
    batch, key = Batch(jnp.zeros((16, 2))), jr.key(3)

    def losses(trained):
        now = eqx.combine(trained, static)
        return objective(now, frozen(now), None, batch, key, jnp.asarray(step))[0]

    jacobian = jax.jacrev(losses)(trained)
    return {
        (loss, name): float(sum(jnp.sum(jnp.abs(leaf)) for leaf in jax.tree.leaves(part)))
        for loss, parts in jacobian.items()
        for name, part in parts.items()
    }


@pytest.mark.parametrize("step, trained", [(0, False), (2, False), (5, True), (6, False)])
def test_the_fake_learns_in_every_step_and_the_map_in_every_third_after_the_wait(step, trained):
    sizes = gradients(*matching(tiny(1), tiny(2), every=3, wait=3), step)
    assert sizes["fake", "fake"] > 0 and (sizes["model", "model"] > 0) == trained
    assert sizes["model", "fake"] == sizes["fake", "model"] == 0


class OneTime(eqx.Module):
    """A network that is not a number at any times but noise and data."""

    scale: jax.Array

    def __call__(self, x, s, t, cond=None):
        return jnp.where((s == 1) & (t == 0), self.scale * x, jnp.nan)


def test_the_map_is_independent_of_the_noise_level():
    objective, players = matching(tiny(1), tiny(2))
    players["model"] = AverageVelocityMap(OneTime(jnp.asarray(0.7)), LINEAR)
    sizes = gradients(objective, players, 0)
    assert sizes["model", "model"] > 0 and np.isfinite(list(sizes.values())).all()


def test_the_fake_starts_from_the_teacher_without_its_guidance():
    net = TinyNet((2,), key=jr.key(5))
    taught, x, t = tiny(6), jnp.array([0.3, 0.4]), jnp.asarray(0.6)
    guided = Guided(MapTeacher(taught), 3.0, 10)
    assert (fake_of(guided, net, LINEAR).velocity(x, t) == taught.velocity(x, t)).all()
    exact = MapTeacher(OracleMap(problem=gaussian(DATA), path=LINEAR))
    own = AverageVelocityMap(net, LINEAR)
    assert (fake_of(exact, net, LINEAR).velocity(x, t) == own.velocity(x, t)).all()


# --- The Frechet loss ---

FLAT = jnp.array([1.0, 0.7, 0.1, 0.0])  # the last feature does not vary
SPREAD = jnp.array([0.5, 1.0, 0.3, 0.2])


def features(seed, scale, n=200, shift=0.0):
    mix = jnp.eye(4) + 0.3 * jnp.ones((4, 4)) * (scale[-1] > 0)
    return scale[None] * jr.normal(jr.key(seed), (n, 4)) @ mix + shift


def of(x, label=None, classes=0):
    return Moments.of(x, label, classes)


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("data, samples", [(FLAT, SPREAD), (SPREAD, FLAT), (FLAT, FLAT)])
def test_the_distance_is_that_of_the_metric(double, data, samples):
    """Both with the divisor n; in float32 to what its eigenvalues allow."""
    with jax.enable_x64(double):
        dtype = jnp.float64 if double else jnp.float32
        x, y = features(0, samples, shift=0.3).astype(dtype), features(1, data).astype(dtype)
        ours = float(frechet(of(x), of(y)))
    theirs = frechet_distance(*(biased(np.asarray(a, np.float64)) for a in (x, y)))
    assert ours == pytest.approx(theirs, rel=1e-6 if double else 2e-3, abs=1e-4)


@pytest.mark.parametrize("data, samples", [(FLAT, SPREAD), (SPREAD, FLAT), (FLAT, FLAT)])
def test_the_gradient_in_float32_is_that_in_float64(data, samples):
    """Also along features that do not vary, where the root of an eigenvalue has no slope."""
    found = []
    with jax.enable_x64(True):
        turn = jnp.linalg.qr(jr.normal(jr.key(7), (4, 4)))[0]
        x, y = features(0, samples, shift=0.3) @ turn, features(1, data) @ turn
        for dtype in (jnp.float64, jnp.float32):
            slope = jax.grad(lambda x: frechet(of(x), of(y.astype(x.dtype))))(x.astype(dtype))
            found.append(np.asarray(slope, np.float64))
    np.testing.assert_allclose(found[1], found[0], atol=2e-3 * np.abs(found[0]).max())


def biased(x):
    found = statistics(x)
    return found._replace(cov=found.cov * (len(x) - 1) / len(x))


def test_the_distance_is_zero_at_equal_moments_only(x64):
    x = features(0, SPREAD)
    here = of(x)
    assert abs(float(frechet(here, here))) < 1e-9
    mirrored = 2 * jnp.mean(x, axis=0, keepdims=True) - x  # other points with the same moments
    assert abs(float(frechet(of(mirrored), here))) < 1e-9
    for other in (x + 0.1, 1.1 * x, x.at[:, 0].multiply(-1)):
        assert float(frechet(of(other), here)) > 1e-3


@pytest.mark.parametrize("classes", [0.0, 0.5])
def test_the_gradient_is_that_of_finite_differences_with_a_frozen_population(classes, x64):
    generate = OneStep(LINEAR, num_classes=2)
    objective = MatchMoments(generate, Anchor(0.0, generate), (4,), classes=classes)
    label = jnp.arange(20) % 2
    population = of(features(0, SPREAD), jnp.arange(200) % 2, 2)
    data = of(features(1, SPREAD, shift=0.4), jnp.arange(200) % 2, 2)
    x = features(2, SPREAD, n=20)
    frozen_batch = of(x, label, 2)
    scales = [frechet(population, data), centre_distance(population, data)]

    def loss(x):
        new = objective.moments(x, label)
        here = jax.tree.map(lambda p, now: p + now - jax.lax.stop_gradient(now), population, new)
        return objective.loss(here, data)[0]

    def value(x):
        """The distances over fixed denominators, the population moved by the samples' change."""
        moved = jax.tree.map(lambda p, a, b: p + a - b, population, of(x, label, 2), frozen_batch)
        first = frechet(moved, data) / (scales[0] + 0.01)
        return first + classes * centre_distance(moved, data) / (scales[1] + 0.01)

    towards = jr.normal(jr.key(3), x.shape, x.dtype)
    quotient = (value(x + 1e-5 * towards) - value(x - 1e-5 * towards)) / 2e-5
    np.testing.assert_allclose(jnp.sum(jax.grad(loss)(x) * towards), quotient, rtol=1e-6)


def test_populations_are_running_means_and_then_averages():
    generate = OneStep(LINEAR)
    objective = MatchMoments(generate, Anchor(0.0, generate), (4,), decay=0.75)
    parts = [features(seed, SPREAD) for seed in range(6)]
    seen = objective.init({"model": None})[0]
    for count, part in enumerate(parts):
        seen = objective.after(seen, of(part), of(part))
        if count < 4:
            assert jnp.allclose(seen.samples.second, of(jnp.concatenate(parts[: count + 1])).second)
    last = of(jnp.concatenate(parts[:4]))
    for part in parts[4:]:
        last = mixed(last, of(part), jnp.asarray(0.25))
    assert jnp.allclose(seen.samples.second, last.second, rtol=1e-5)
    assert jnp.allclose(seen.data.second, of(jnp.concatenate(parts)).second, rtol=1e-5)


def test_class_means_are_means_over_the_class():
    x, label = features(0, SPREAD), jnp.arange(200) % 3
    moments = of(x, label, 4)
    for c in range(3):
        np.testing.assert_allclose(moments.centres[c], x[label == c].mean(axis=0), rtol=1e-4)
    assert not jnp.any(moments.centres[3])
    assert float(centre_distance(moments, moments)) == 0
    assert float(centre_distance(of(x, (label + 1) % 3, 4), moments)) > 0


# --- What they share ---


class Doubled(Perception):
    """Features that are not the values."""

    def maps(self, x):
        return (self.vector(x)[None],)

    def vector(self, x):
        return jnp.concatenate([x.reshape(-1), 2 * x.reshape(-1)])


def test_features_are_those_of_the_perception(monkeypatch):
    task, net = Task((2,)), TinyNet((2,), key=jr.key(0))
    for name in ("fdloss", "adversarial"):
        cls = find_plugin(name)
        opened = f"{cls.__module__}.open_perception"
        monkeypatch.setattr(opened, lambda run, shape: {("some/run", (2,)): Doubled()}[run, shape])
        plugin = dataclasses.replace(cls.preset("points"), wait=0.0, features="some/run")
        method = plugin.method(net, LINEAR, None, task, key=jr.key(1))
        players = {"model": method.flow_map, **method.players}
        carry = method.objective.init(players)
        batch = Batch(jr.normal(jr.key(2), (6, 2)))
        _, carry, _ = method.objective(
            players, frozen(players), carry, batch, jr.key(3), jnp.asarray(0)
        )
        if name == "fdloss":
            seen = carry[0].data.mean
            np.testing.assert_allclose(seen[2:], 2 * seen[:2], rtol=1e-6)
        else:
            assert players["discriminator"].hidden[0].weight.shape[1] == 4


def test_the_anchor_pulls_the_map_back_to_where_it_was():
    generate = OneStep(LINEAR)
    anchor, model, batch = Anchor(2.0, generate), tiny(), Batch(jnp.zeros((9, 2)))
    start = anchor.init(model)
    starts = generate.starts(batch, jr.key(0))
    moved = eqx.tree_at(lambda m: m.net.second, model, model.net.second + 0.1)

    def pull(model):
        return anchor(model, start, starts, generate(model, starts))

    assert float(pull(model)) == 0
    gap = generate(moved, starts) - generate(model, starts)
    assert float(pull(moved)) == pytest.approx(2 * float(jnp.mean(gap**2)), rel=1e-5)
    back = eqx.filter_grad(pull)(moved).net.second
    assert float(jnp.sum(back)) > 0
    assert Anchor(0.0, generate).init(model) is None
