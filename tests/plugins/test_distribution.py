"""Distributional fine-tuning: closed forms of its gradients, and who learns from what."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance.emulation import with_tf32
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
from plugins.distribution.dmd import Matching, direction
from plugins.distribution.fdloss import MatchMoments
from plugins.distribution.frechet import Moments, centre_distance, frechet, mixed
from plugins.distribution.game import fake_of
from tests.compiling import once
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
    generate, end = OneStep(TrigPath(), num_classes=8, middle=middle), TrigPath().t_max

    @once
    def run(x_0, label, key):
        starts = generate.starts(Batch(x_0, label), key)
        return starts, generate(lambda x, s, t, cond: jnp.stack([s, t]) + cond.label, starts)

    label = np.arange(8, dtype=np.int32)
    starts, given = run(np.full((8, 2), 1e6, np.float32), label, jr.key(0))
    count = round(8 * middle)
    assert (starts.s[count:] == np.float32(end)).all() and (starts.s[:count] < 1.57).all()
    assert (np.abs(starts.x_s[count:]) < 10).all() and (np.abs(starts.x_s[:count]) > 10).all()
    expected = np.stack([starts.s, np.zeros(8)], 1) + label[:, None]
    np.testing.assert_allclose(given, expected, rtol=1e-6)


# --- Distribution matching ---


@pytest.mark.parametrize("path", [LINEAR, TrigPath()])
def test_the_direction_is_the_difference_of_scores(path, x64):
    """`(D_f - D_r) = sigma^2 / alpha (score_f - score_r)`, the scores by differentiation."""

    @once
    def run(x, x_tau, tau):
        both = student, data = gaussian(STUDENT), gaussian(DATA)
        given = path, x, x_tau, tau, *(one.velocity(path, x_tau, tau) for one in both)
        score = [jax.grad(lambda y, p=p: p.log_prob(path, y, tau))(x_tau) for p in both]
        gap = path.sigma(tau) ** 2 / path.alpha(tau) * (score[0] - score[1])
        scale = jnp.mean(jnp.abs(x - data.x_0_mean(path, x_tau, tau)))
        return direction(*given), gap / scale, direction(*given, normalise=False), gap

    delta, scaled, plain, gap = run(np.array([0.2, -0.4]), np.array([0.6, 0.1]), np.array(0.4))
    np.testing.assert_allclose(delta, scaled, rtol=1e-9)
    np.testing.assert_allclose(plain, gap, rtol=1e-9)


def matching_to(teacher, every=1, wait=0, levels=(0.02, 0.98)):
    generate = OneStep(LINEAR)
    return Matching(
        generate, MapTeacher(teacher), Anchor(0.0, generate), Uniform(*levels), every, wait
    )


def matching(fake, teacher, **flags):
    return matching_to(teacher, **flags), {"model": tiny(), "fake": fake}


def pushed(student, data, n=256):
    """The directions at samples of the student, with both denoisers exact; the samples."""

    @once
    def run(student, data):
        fake, teacher = (OracleMap(problem=problem, path=LINEAR) for problem in (student, data))
        objective = matching_to(teacher)
        x = jax.vmap(student.sample)(jr.split(jr.key(1), n))
        x_tau, tau, _ = objective.noised(x, jr.key(2))
        v_fake, v_real = (jax.vmap(field.velocity)(x_tau, tau) for field in (fake, teacher))
        return objective.directions(x, x_tau, tau, v_fake, v_real), x

    return run(student, data)


def test_a_student_with_the_distribution_of_the_data_is_left_alone(x64):
    """Sample by sample, with the same distribution from the code of another problem."""
    same = ProductMixture(
        weights=jnp.ones((2, 1)),
        means=jnp.array([[0.5], [-0.3]]),
        stds=jnp.array(np.sqrt([[0.8], [0.5]])),
    )
    delta, _ = pushed(gaussian(DATA), same)
    np.testing.assert_allclose(delta, 0.0, atol=1e-9)


def test_samples_of_another_distribution_are_moved_towards_the_data(x64):
    delta, x = pushed(gaussian(STUDENT), gaussian(DATA))
    towards, moved = np.array(DATA["mean"]) - x.mean(axis=0), -delta.mean(axis=0)
    assert moved @ towards > 0.1
    assert np.all(moved * towards > 0)


def gradients(objective, players, step):
    trained, static = eqx.partition(players, eqx.is_inexact_array)

    @once
    def run(trained, x_0, step):
        def losses(trained):
            now = eqx.combine(trained, static)
            return objective(now, frozen(now), None, Batch(x_0), jr.key(3), step)[0]

        return jax.jacrev(losses)(trained)

    jacobian = run(trained, np.zeros((16, 2), np.float32), np.int32(step))
    return {
        (loss, name): sum(np.sum(np.abs(leaf)) for leaf in jax.tree.leaves(part))
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
    taught = tiny(6)
    guided = Guided(MapTeacher(taught), 3.0, 10)
    exact = MapTeacher(OracleMap(problem=gaussian(DATA), path=LINEAR))
    own = AverageVelocityMap(net, LINEAR)
    pairs = (fake_of(guided, net, LINEAR), taught), (fake_of(exact, net, LINEAR), own)
    velocities = once(lambda fields, x, t: [field.velocity(x, t) for field in fields])
    for pair in pairs:
        fake, expected = velocities(pair, np.float32([0.3, 0.4]), np.float32(0.6))
        np.testing.assert_array_equal(fake, expected)


# --- The Frechet loss ---

FLAT = np.array([1.0, 0.7, 0.1, 0.0])  # the last feature does not vary
SPREAD = np.array([0.5, 1.0, 0.3, 0.2])


def features(seed, scale, n=200, shift=0.0):
    mix = np.eye(4) + 0.3 * np.ones((4, 4)) * (scale[-1] > 0)
    return scale * np.random.default_rng(seed).standard_normal((n, 4)) @ mix + shift


def of(x, label=None, classes=0):
    return Moments.of(x, label, classes)


@once
def distance(x, y):
    return frechet(of(x), of(y))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("data, samples", [(FLAT, SPREAD), (SPREAD, FLAT), (FLAT, FLAT)])
def test_the_distance_is_that_of_the_metric(double, data, samples):
    """Both with the divisor n; in float32 to what its eigenvalues allow."""
    x, y = features(0, samples, shift=0.3), features(1, data)
    with jax.enable_x64(double):
        ours = float(distance(x, y) if double else distance(np.float32(x), np.float32(y)))
    theirs = frechet_distance(biased(x), biased(y))
    assert ours == pytest.approx(theirs, rel=1e-6 if double else 2e-3, abs=1e-4)


@pytest.mark.parametrize("data, samples", [(FLAT, SPREAD), (SPREAD, FLAT), (FLAT, FLAT)])
def test_the_gradient_in_float32_is_that_in_float64(data, samples, rng):
    """Also along features that do not vary, where the root of an eigenvalue has no slope."""
    turn = np.linalg.qr(rng.standard_normal((4, 4)))[0]
    x, y = features(0, samples, shift=0.3) @ turn, features(1, data) @ turn
    slope, found = once(jax.grad(lambda x, y: frechet(of(x), of(y)))), []
    with jax.enable_x64(True):
        for dtype in (np.float64, np.float32):
            found.append(slope(x.astype(dtype), y.astype(dtype)).astype(np.float64))
    np.testing.assert_allclose(found[1], found[0], atol=2e-3 * np.abs(found[0]).max())


def biased(x):
    found = statistics(x)
    return found._replace(cov=found.cov * (len(x) - 1) / len(x))


def test_the_distance_is_zero_at_equal_moments_only(x64):
    x = features(0, SPREAD)
    assert abs(distance(x, x)) < 1e-9
    mirrored = 2 * x.mean(axis=0, keepdims=True) - x  # other points with the same moments
    assert abs(distance(mirrored, x)) < 1e-9
    for other in (x + 0.1, 1.1 * x, x * [-1, 1, 1, 1]):
        assert distance(other, x) > 1e-3


@pytest.mark.parametrize("classes", [0.0, 0.5])
def test_the_gradient_is_that_of_finite_differences_with_a_frozen_population(classes, x64, normal):
    generate = OneStep(LINEAR, num_classes=2)
    objective = MatchMoments(generate, Anchor(0.0, generate), (4,), classes=classes)

    @once
    def run(samples, examples, x, label, population_label, towards):
        population, data = (of(a, population_label, 2) for a in (samples, examples))
        frozen_batch = of(x, label, 2)
        scales = [frechet(population, data), centre_distance(population, data)]

        def loss(x):
            new = objective.moments(x, label)
            here = jax.tree.map(
                lambda p, now: p + now - jax.lax.stop_gradient(now), population, new
            )
            return objective.loss(here, data)[0]

        def value(x):
            """The distances over fixed denominators; the population moves with the samples."""
            moved = jax.tree.map(
                lambda p, a, b: p + a - b, population, of(x, label, 2), frozen_batch
            )
            first = frechet(moved, data) / (scales[0] + 0.01)
            return first + classes * centre_distance(moved, data) / (scales[1] + 0.01)

        quotient = (value(x + 1e-5 * towards) - value(x - 1e-5 * towards)) / 2e-5
        return jnp.sum(jax.grad(loss)(x) * towards), quotient

    data = features(0, SPREAD), features(1, SPREAD, shift=0.4), features(2, SPREAD, n=20)
    slope, quotient = run(*data, np.arange(20) % 2, np.arange(200) % 2, normal(20, 4))
    np.testing.assert_allclose(slope, quotient, rtol=1e-6)


def test_populations_are_running_means_and_then_averages():
    generate = OneStep(LINEAR)
    objective = MatchMoments(generate, Anchor(0.0, generate), (4,), decay=0.75)
    parts = np.float32([features(seed, SPREAD) for seed in range(6)])

    @once
    def run(parts):
        seen, found = objective.init({"model": None})[0], []
        for part in parts:
            seen = objective.after(seen, of(part), of(part))
            found.append(seen)
        last = of(jnp.concatenate(parts[:4]))
        for part in parts[4:]:
            last = mixed(last, of(part), jnp.asarray(0.25))
        return found, last

    found, last = run(list(parts))
    for count in range(4):
        points = np.concatenate(parts[: count + 1]).astype(np.float64)
        second = points.T @ points / len(points)
        np.testing.assert_allclose(found[count].samples.second, second, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[-1].samples.second, last.second, rtol=1e-5)
    points = np.concatenate(parts).astype(np.float64)
    second = points.T @ points / len(points)
    np.testing.assert_allclose(found[-1].data.second, second, rtol=1e-4, atol=1e-5)


def test_class_means_are_means_over_the_class():
    x, label = np.float32(features(0, SPREAD)), np.arange(200, dtype=np.int32) % 3

    @once
    def run(x, label):
        moments, other = of(x, label, 4), of(x, (label + 1) % 3, 4)
        return moments.centres, centre_distance(moments, moments), centre_distance(other, moments)

    centres, same, apart = run(x, label)
    for c in range(3):
        np.testing.assert_allclose(centres[c], x[label == c].mean(axis=0), rtol=1e-4)
    assert not np.any(centres[3])
    assert same == 0 and apart > 0


# --- What they share ---


class Doubled(Perception):
    """Features that are not the values."""

    def maps(self, x):
        return (self.vector(x)[None],)

    def vector(self, x):
        return jnp.concatenate([x.reshape(-1), 2 * x.reshape(-1)])


def test_features_are_those_of_the_perception(monkeypatch, normal):
    task, net = Task((2,)), TinyNet((2,), key=jr.key(0))
    for name in ("fdloss", "adversarial"):
        cls = find_plugin(name)
        opened = f"{cls.__module__}.open_perception"
        monkeypatch.setattr(opened, lambda run, shape: {("some/run", (2,)): Doubled()}[run, shape])
        plugin = dataclasses.replace(cls.preset("points"), wait=0.0, features="some/run")
        method = plugin.method(net, LINEAR, None, task, key=jr.key(1))
        players = {"model": method.flow_map, **method.players}

        @once
        def after_a_step(players, x_0, objective=method.objective):
            given = objective.init(players), Batch(x_0), jr.key(3), jnp.asarray(0)
            return objective(players, frozen(players), *given)[1]

        carry = after_a_step(players, normal(6, 2))
        if name == "fdloss":
            seen = carry[0].data.mean
            np.testing.assert_allclose(seen[2:], 2 * seen[:2], rtol=1e-6)
        else:
            assert players["discriminator"].hidden[0].weight.shape[1] == 4


def test_the_anchor_pulls_the_map_back_to_where_it_was():
    generate = OneStep(LINEAR)
    anchor, model = Anchor(2.0, generate), tiny()

    @once
    def run(model, x_0):
        start = anchor.init(model)
        starts = generate.starts(Batch(x_0), jr.key(0))
        moved = eqx.tree_at(lambda m: m.net.second, model, model.net.second + 0.1)

        def pull(model):
            return anchor(model, start, starts, generate(model, starts))

        gap = generate(moved, starts) - generate(model, starts)
        back = eqx.filter_grad(pull)(moved).net.second
        return pull(model), pull(moved), jnp.mean(gap**2), back

    still, pulled, gap, back = run(model, np.zeros((9, 2), np.float32))
    assert still == 0 and pulled == pytest.approx(2 * gap, rel=1e-5)
    assert np.sum(back) > 0
    assert Anchor(0.0, generate).init(model) is None


def test_the_frechet_gradient_does_not_suffer_from_rounded_products(normal):
    """Of few examples, so that small eigenvalues matter. In float64 as a reference."""
    mix = np.linspace(0.02, 1, 16)
    x, y = (np.asarray(normal(24, 16)) * mix for _ in range(2))

    def slope(x, y):
        given = Moments.of(y, None, 0)
        return jax.grad(lambda x: frechet(Moments.of(x, None, 0), given))(x)

    with jax.enable_x64(True):
        exact = np.asarray(jax.jit(slope)(*(np.asarray(a, np.float64) for a in (x, y))))
    rounded = jax.jit(with_tf32(slope))(*(jnp.asarray(a, jnp.float32) for a in (x, y)))
    assert np.linalg.norm(rounded - exact) < 1e-3 * np.linalg.norm(exact)
