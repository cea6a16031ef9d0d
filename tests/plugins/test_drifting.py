"""Drifting: the field's symmetries, samples that follow it, queues and guidance."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import softmax
from scipy.stats import norm

from core.data import EIGHT_STD, eight_centres
from core.flow.path import LinearPath
from core.nets.perception import Identity, Perception
from core.objectives.objective import Batch
from plugins.drifting.field import (
    LEAST,
    FieldKernel,
    distances,
    gaussian,
    joint_field,
    laplace,
    mean_shift_field,
)
from plugins.drifting.loss import FieldPoints, drift_loss
from plugins.drifting.objective import DriftObjective, Guidance, Sizes
from plugins.drifting.queue import draw, empty, push
from tests.compiling import once

RNG = np.random.default_rng(0)
X = RNG.standard_normal((7, 2))
P, Q = RNG.standard_normal((12, 2)) + 1.0, RNG.standard_normal((9, 2))
X32, P32 = X.astype(np.float32), P.astype(np.float32)
KERNELS = {
    "both": FieldKernel(),
    "rows": FieldKernel(columns=False),
    "columns": FieldKernel(rows=False),
    "none": FieldKernel(rows=False, columns=False),
}


def joint(x, positive, negative, kernel=KERNELS["both"], weight=None):
    targets = jnp.concatenate([positive, negative])
    attracts = jnp.arange(len(targets)) < len(positive)
    weight = jnp.ones((len(x), len(targets))) if weight is None else weight
    return joint_field(x, targets, attracts, weight, distances(x, targets), 0.5, kernel)


def shift(x, positive, negative):
    return mean_shift_field(x, positive, negative, laplace(0.5))


FIELDS = {"shift": shift} | {
    name: lambda x, p, q, kernel=kernel: joint(x, p, q, kernel) for name, kernel in KERNELS.items()
}


@pytest.mark.parametrize("name", FIELDS)
def test_the_field_s_symmetries(name, x64):
    """It is antisymmetric and zero between equal samples, and turns and moves with the points."""
    field = once(FIELDS[name])
    here = field(X, P, Q)
    swapped = once(FIELDS[name])(X, Q, P)
    np.testing.assert_allclose(here, -swapped, atol=1e-13)
    np.testing.assert_allclose(once(lambda x, p: FIELDS[name](x, p, p))(X, P), 0.0, atol=1e-13)
    assert np.abs(here).max() > 0.1
    turn, move = np.array([[0.6, -0.8], [0.8, 0.6]]), np.array([[3.0, -1.0]])
    moved = field(*(a @ turn.T + move for a in (X, P, Q)))
    np.testing.assert_allclose(moved, here @ turn.T, atol=1e-12)


def test_with_a_gaussian_kernel_it_is_the_score_of_the_ratio_of_the_blurred_distributions(x64):
    """`V = h^2 grad log(p_h / q_h)`, for equal mass on each of the points."""
    width = 0.7

    def log_blurred(x, points):
        densities = jax.scipy.stats.norm.logpdf(points, x[None, :], width).sum(axis=1)
        return jax.scipy.special.logsumexp(densities)

    @once
    def both(x, p, q):
        score = jax.vmap(jax.grad(lambda x: log_blurred(x, p) - log_blurred(x, q)))(x)
        return mean_shift_field(x, p, q, gaussian(width)), width**2 * score

    np.testing.assert_allclose(*both(X, P, Q), atol=1e-12)


def test_between_gaussians_it_is_linear_in_the_point(x64):
    """For many points of N(m, a) and N(0, b): `V = h^2 (x / (b + h^2) - (x - m) / (a + h^2))`."""
    x = np.linspace(-1.0, 1.0, 5)[:, None]
    grid = norm.ppf((np.arange(4000) + 0.5) / 4000)[:, None]
    p, q = 0.4 + 0.5 * grid, 0.8 * grid
    exact = 0.36 * (x / (0.64 + 0.36) - (x - 0.4) / (0.25 + 0.36))
    found = once(lambda x, p, q: mean_shift_field(x, p, q, gaussian(0.6)))(x, p, q)
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_the_joint_field_is_the_difference_of_means_damped_by_their_masses(x64):
    logits = -cdist(X, np.concatenate([P, Q])) / 0.5
    A = np.sqrt(softmax(logits, 1) * softmax(logits, 0))
    A = np.maximum(A, LEAST / (7 * 21) ** 0.5)
    plus, minus = A[:, :12], A[:, 12:]
    S, T = plus.sum(1, keepdims=True), minus.sum(1, keepdims=True)
    expected = S * T * (plus @ P / S - minus @ Q / T)
    np.testing.assert_allclose(once(joint)(X, P, Q), expected, atol=1e-12)


def test_a_sample_is_not_repelled_by_itself(x64, monkeypatch):
    """With itself among the repelling points, the field is that without: weight 0 is absence."""
    monkeypatch.setattr("plugins.drifting.field.LEAST", 0.0)  # it depends on the batch's size
    weight = np.ones((7, 19))
    weight[np.arange(7), 12 + np.arange(7)] = 0.0
    kernel = KERNELS["rows"]  # a row of this kernel does not depend on the other samples
    found = once(lambda x, p, weight: joint(x, p, x, kernel, weight))(X, P, weight)

    @once
    def alone_field(here, targets):
        attracts, ones = jnp.arange(18) < 12, jnp.ones((1, 18))
        return joint_field(here, targets, attracts, ones, distances(here, targets), 0.5, kernel)

    for i in range(7):
        alone = alone_field(X[i : i + 1], np.concatenate([P, np.delete(X, i, axis=0)]))
        np.testing.assert_allclose(found[i], alone[0], atol=1e-12)
        assert np.abs(alone).max() > 0.01


def everything(data):
    return FieldPoints(data[None], jnp.ones(len(data), bool), jnp.ones((1, len(data))))


def loss_step(x, data):
    """A step of the loss, its mean over points undone."""
    kernel = FieldKernel((0.05, 0.2))
    pull = jax.grad(lambda x: drift_loss(x[None], everything(data), kernel, Identity())[0])
    return -len(x) * pull(x)


def shift_step(x, data):
    return mean_shift_field(x, data, x, laplace(0.4))


RATES = {loss_step: (0.05, 0.8), shift_step: (0.4, 0.95)}
"""Rate of a drift, and share of points that it brings home: the loss's damping by the masses leaves
some in between."""


@pytest.mark.parametrize("drift", [loss_step, shift_step])
def test_a_cloud_of_free_points_drifts_onto_eight_gaussians(drift):
    """Without a network, from about one place: each Gaussian gets its share."""
    points = np.asarray(eight_centres(), np.float32)
    rate, close = RATES[drift]

    @once
    def run(centres):
        def step(x, at):
            key, left = at
            key_centre, key_noise = jr.split(key)
            data = centres[jr.randint(key_centre, (200,), 0, 8)]
            data += EIGHT_STD * jr.normal(key_noise, (200, 2))
            return x + left * rate * drift(x, data), None

        x = 0.01 * jr.normal(jr.key(4), (200, 2))
        return jax.lax.scan(step, x, (jr.split(jr.key(5), 400), jnp.linspace(1.0, 0.0, 400)))[0]

    near = cdist(run(points), points)
    assert np.mean(near.min(axis=1) < 3 * EIGHT_STD) > close
    share = np.bincount(np.argmin(near, axis=1), minlength=8) / 200
    assert share.min() > 0.08 and share.max() < 0.17


@once
def loss_of(x, data, kernel, perception):
    """The loss of samples against data, and its metrics."""
    return drift_loss(x[None], everything(data), kernel, perception)


def test_a_sample_is_no_target_of_itself():
    """The weights that the field gets are those of the spread: all pairs but a sample's own."""
    metrics = loss_of(X32, P32, FieldKernel(), Identity())[1]
    others = cdist(X, X)[~np.eye(7, dtype=bool)]
    expected = np.concatenate([others, cdist(X, P).ravel()]).mean()
    np.testing.assert_allclose(metrics["spread/raw"], expected, rtol=1e-5)


class Scaled(Perception):
    """The values, and twice two maps of two places: a stand-in for an encoder."""

    def maps(self, x):
        return x.reshape(1, -1), jnp.stack([x, 2 * x]), jnp.stack([x**2, -x])

    def vector(self, x):
        return x


def test_every_map_of_a_perception_adds_its_places_mean_and_deviation():
    loss, metrics = loss_of(X32, P32, FieldKernel((0.1, 0.5)), Scaled())
    names = {"raw", "map1", "mean1", "std1", "map2", "mean2", "std2"}
    assert {name.split("/")[1] for name in metrics} == names
    assert {name for name in metrics if "raw" in name} == {
        "spread/raw", "energy/raw/0.1", "energy/raw/0.5",
    }  # fmt: skip
    alone = loss_of(X32, P32, FieldKernel((0.1, 0.5)), Identity())[0]
    assert float(alone) < 4.01 and float(loss) > 5 * float(alone)  # 2 to 4 a feature


def test_the_loss_is_the_number_of_temperatures_at_least_and_its_square_at_most():
    for temperatures in ((0.1,), (0.05, 0.2), (0.02, 0.05, 0.2)):
        count = len(temperatures)
        loss, _ = loss_of(X32, P32, FieldKernel(temperatures), Identity())
        assert count - 0.01 <= float(loss) <= count**2 + 0.01


def test_no_gradient_passes_through_the_scale():
    """With it the loss could be lowered by spreading the samples; without it the gradient is the
    drift, whose scale is the reciprocal of that of the coordinates."""

    @once
    def run(x, p, factor):
        targets = everything(factor * p)
        return jax.grad(lambda x: drift_loss(x[None], targets, FieldKernel(), Identity())[0])(
            factor * x
        )

    def pull(factor):
        return run(X32, P32, np.float32(factor))

    np.testing.assert_allclose(pull(1.0), 3.0 * pull(3.0), rtol=1e-3, atol=1e-5)


def examples(label, start):
    """Examples that name their class and number."""
    numbers = start + np.arange(len(label))
    return np.stack([label * 100.0, numbers], axis=1).astype(np.float32)


def test_a_queue_keeps_the_last_examples_of_each_class(rng):
    queue, held, seen = once(lambda: empty(3, 4, (2,)))(), {0: [], 1: [], 2: []}, 0
    step = once(push)
    for _ in range(5):
        label = rng.integers(
            0, 2, 7, dtype=np.int32
        )  # none of class 2; at times more than 4 of one
        x = examples(label, seen)
        queue, seen = step(queue, x, label), seen + 7
        for one in x:
            held[int(one[0] / 100)].append(one[1])
        for c in range(3):
            there = min(int(queue.count[c]), 4)
            assert queue.count[c] == len(held[c])
            found = queue.examples[c, :there]
            assert sorted(found[:, 1]) == sorted(held[c][-4:])
            assert (found[:, 0] == 100 * c).all()


def test_a_draw_is_of_the_class_without_repeats_and_says_what_is_missing():
    label = np.array([0, 0, 0, 0, 0, 1, 1], np.int32)

    @once
    def run(x, label, key):
        queue = push(empty(2, 6, (2,)), x, label)
        take = jax.vmap(lambda key: draw(queue, jnp.array([0, 1, 0]), 3, key))
        return take(jr.split(key, 20))

    seen = set()
    for x, there in zip(*run(examples(label, 0), label, jr.key(1))):
        assert there.sum(axis=1).tolist() == [3, 2, 3]
        for group, valid, c in zip(x, there, (0, 1, 0)):
            numbers = group[valid][:, 1]
            assert len(set(numbers)) == len(numbers)
            assert (group[valid][:, 0] == 100 * c).all()
        seen |= {tuple(sorted(x[0, :, 1]))}
    assert len(seen) > 5  # of the 10 that there are


def labelled(**settings):
    sizes = Sizes(group=4, positives=3, unconditional=5, queue=8)
    return DriftObjective(LinearPath(), (2,), 2, sizes=sizes, **settings)


def test_unconditional_examples_repel_with_the_weight_of_the_guidance():
    objective, label = labelled(guidance=Guidance(3.0)), np.tile(np.arange(2, dtype=np.int32), 8)

    @once
    def run(x, label, key):
        queues = objective.fill(objective.init({}), Batch(x, label))
        return objective.points(queues, jnp.arange(2), jnp.array([1.0, 3.0]), 4, key=key)

    targets = run(examples(label, 0), label, jr.key(0))
    assert targets.attracts.tolist() == [False] * 5 + [True] * 3
    expected = [[0.0] * 5 + [1.0] * 3, [2.0 * 3 / 5] * 5 + [1.0] * 3]
    np.testing.assert_allclose(targets.weight, expected, rtol=1e-6)
    assert (targets.x[:, 5:, 0] == np.array([[0.0], [100.0]])).all()


def test_guidance_pushes_a_class_away_from_the_others():
    """Where samples equal the data of their class, the drift with guidance points away from the
    other class; without guidance it points nowhere in the mean."""

    def pull(scale, key):
        means = jnp.array([-0.5, 0.5])
        objective = DriftObjective(
            LinearPath(), (1,), 2, FieldKernel((0.5,)), Sizes(64, 64, 64, 64), Guidance(scale)
        )
        keys = jr.split(key, 4)
        label = jr.randint(keys[0], (128,), 0, 2)
        data = means[label][:, None] + 0.5 * jr.normal(keys[1], (128, 1))
        queues = objective.fill(objective.init({}), Batch(data, label))
        points = objective.points(queues, jnp.arange(2), jnp.full(2, scale), 64, keys[2])
        x = means[:, None, None] + 0.5 * jr.normal(keys[3], (2, 64, 1))
        grad = jax.grad(lambda x: drift_loss(x, points, objective.kernel, Identity())[0])(x)
        return -grad.mean(axis=(1, 2)) / jnp.abs(grad).mean()

    @once
    def pulls(key):
        keys = jr.split(key, 24)
        return [jax.vmap(partial(pull, scale))(keys).mean(axis=0) for scale in (1.0, 3.0)]

    plain, guided = pulls(jr.key(0))
    assert guided[0] < -0.3 and guided[1] > 0.3
    assert np.abs(plain).max() < 0.3


@pytest.mark.parametrize("kappa", [1.0, 3.0, 5.0])
def test_scales_are_drawn_with_their_density(kappa):
    """The share below `a`, by a sum over the density on a fine grid."""
    drawn = once(lambda key: Guidance(4.0, kappa).draw(20_000, key))(jr.key(0))
    assert drawn.min() >= 1 and drawn.max() <= 4
    middle = 1 + 3 * (np.arange(100_000) + 0.5) / 100_000
    density = middle**-kappa
    for a in (1.2, 1.7, 3.0):
        share = density[middle < a].sum() / density.sum()
        assert abs((drawn < a).mean() - share) < 0.015


def test_drawn_scales_are_inputs_of_the_network():
    scales = np.float32([1.0, 3.0])

    def generated(kappa, model):
        objective = labelled(guidance=Guidance(4.0, kappa))
        run = once(lambda scales: objective.generate(model, jnp.arange(2), scales, 4, jr.key(0)))
        return run(scales)

    def scaled(x, s, t, cond):
        return x * cond.guidance[0]

    with pytest.raises(TypeError):
        generated(None, scaled)
    plain = generated(3.0, lambda x, s, t, cond: x)
    np.testing.assert_allclose(generated(3.0, scaled), plain * scales[:, None, None], rtol=1e-6)


def test_a_step_fills_the_queues_and_uses_them():
    """Positives of a class come from earlier batches too."""
    objective = labelled()
    players = {"model": lambda x, s, t, cond: x}

    @once
    def run(x, label):
        carry, losses = objective.init({}), []
        for part in range(2):
            batch = Batch(x[part], label[part])
            loss, carry, _ = objective(
                players, players, carry, batch, jr.key(part), jnp.zeros((), jnp.int32)
            )
            losses.append(loss["model"])
        return losses, carry

    label = np.repeat(np.arange(2, dtype=np.int32)[:, None], 8, axis=1)
    x = np.stack([examples(one, 8 * i) for i, one in enumerate(label)])
    losses, carry = run(x, label)
    assert np.isfinite(losses).all()
    assert carry["classes"].count.tolist() == [8, 8]
