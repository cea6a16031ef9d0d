"""Drifting: the field's symmetries, samples that follow it, queues and guidance."""

from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.spatial.distance import cdist

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

X = jr.normal(jr.key(0), (7, 2))
P, Q = jr.normal(jr.key(1), (12, 2)) + 1.0, jr.normal(jr.key(2), (9, 2))
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
def test_the_field_is_antisymmetric_and_zero_between_equal_samples(name, x64):
    field, (x, p, q) = FIELDS[name], (a.astype(jnp.float64) for a in (X, P, Q))
    np.testing.assert_allclose(field(x, p, q), -field(x, q, p), atol=1e-13)
    np.testing.assert_allclose(field(x, p, p), 0.0, atol=1e-13)
    assert float(jnp.abs(field(x, p, q)).max()) > 0.1


@pytest.mark.parametrize("name", FIELDS)
def test_the_field_turns_and_moves_with_the_points(name, x64):
    field, (x, p, q) = FIELDS[name], (a.astype(jnp.float64) for a in (X, P, Q))
    turn, move = jnp.array([[0.6, -0.8], [0.8, 0.6]]), jnp.array([[3.0, -1.0]])
    moved = field(*(a @ turn.T + move for a in (x, p, q)))
    np.testing.assert_allclose(moved, field(x, p, q) @ turn.T, atol=1e-12)


def test_with_a_gaussian_kernel_it_is_the_score_of_the_ratio_of_the_blurred_distributions(x64):
    """`V = h^2 grad log(p_h / q_h)`, for the distributions that put equal mass on the points."""
    x, p, q = (a.astype(jnp.float64) for a in (X, P, Q))
    width = 0.7

    def log_blurred(x, points):
        densities = jax.scipy.stats.norm.logpdf(points, x[None, :], width).sum(axis=1)
        return jax.scipy.special.logsumexp(densities)

    score = jax.vmap(jax.grad(lambda x: log_blurred(x, p) - log_blurred(x, q)))(x)
    found = mean_shift_field(x, p, q, gaussian(width))
    np.testing.assert_allclose(found, width**2 * score, atol=1e-12)


def test_between_gaussians_it_is_linear_in_the_point(x64):
    """For many points of N(m, a) and N(0, b): `V = h^2 (x / (b + h^2) - (x - m) / (a + h^2))`."""
    x = jnp.linspace(-1.0, 1.0, 5)[:, None]
    grid = jax.scipy.stats.norm.ppf((jnp.arange(4000) + 0.5) / 4000)[:, None]
    p, q = 0.4 + 0.5 * grid, 0.8 * grid
    exact = 0.36 * (x / (0.64 + 0.36) - (x - 0.4) / (0.25 + 0.36))
    found = mean_shift_field(x, p, q, gaussian(0.6))
    np.testing.assert_allclose(found, exact, atol=2e-3)


def test_the_joint_field_is_the_difference_of_means_damped_by_their_masses(x64):
    x, p, q = (a.astype(jnp.float64) for a in (X, P, Q))
    logits = -distances(x, jnp.concatenate([p, q])) / 0.5
    A = jnp.sqrt(jax.nn.softmax(logits, 1) * jax.nn.softmax(logits, 0))
    A = jnp.maximum(A, LEAST / (7 * 21) ** 0.5)
    plus, minus = A[:, :12], A[:, 12:]
    S, T = plus.sum(1, keepdims=True), minus.sum(1, keepdims=True)
    np.testing.assert_allclose(joint(x, p, q), S * T * (plus @ p / S - minus @ q / T), atol=1e-12)


def test_a_sample_is_not_repelled_by_itself(x64, monkeypatch):
    """With itself among the repelling points, the field is that without: weight 0 is absence."""
    monkeypatch.setattr("plugins.drifting.field.LEAST", 0.0)  # it depends on the batch's size
    x, p = (a.astype(jnp.float64) for a in (X, P))
    weight = jnp.ones((7, 19)).at[jnp.arange(7), 12 + jnp.arange(7)].set(0.0)
    kernel = KERNELS["rows"]  # a row of this kernel does not depend on the other samples
    found = joint(x, p, x, kernel, weight)
    for i in range(7):
        targets = jnp.concatenate([p, jnp.delete(x, i, axis=0)])
        here = x[i : i + 1]
        away = distances(here, targets)
        attracts = jnp.arange(18) < 12
        alone = joint_field(here, targets, attracts, jnp.ones((1, 18)), away, 0.5, kernel)
        np.testing.assert_allclose(found[i], alone[0], atol=1e-12)
        assert float(jnp.abs(alone).max()) > 0.01


def everything(data):
    return FieldPoints(data[None], jnp.ones(len(data), bool), jnp.ones((1, len(data))))


def loss_step(x, data):
    """A step of the loss, its mean over points undone."""
    kernel = FieldKernel((0.05, 0.2))
    pull = jax.grad(lambda x: drift_loss(x[None], everything(data), kernel, Identity())[0])
    return -len(x) * pull(x), 0.05, 0.8  # the damping by the masses leaves points in between


def shift_step(x, data):
    return mean_shift_field(x, data, x, laplace(0.4)), 0.4, 0.95


@pytest.mark.parametrize("drift", [loss_step, shift_step])
def test_a_cloud_of_free_points_drifts_onto_eight_gaussians(drift):
    """Without a network, from about one place: each Gaussian gets its share."""
    centres = jnp.asarray(eight_centres(), jnp.float32)
    _, rate, close = drift(X, P)

    def step(x, at):
        key, left = at
        key_centre, key_noise = jr.split(key)
        data = centres[jr.randint(key_centre, (200,), 0, 8)]
        data += EIGHT_STD * jr.normal(key_noise, (200, 2))
        return x + left * rate * drift(x, data)[0], None

    x = 0.01 * jr.normal(jr.key(4), (200, 2))
    x = jax.lax.scan(step, x, (jr.split(jr.key(5), 400), jnp.linspace(1.0, 0.0, 400)))[0]
    near = distances(x, centres)
    assert float(jnp.mean(near.min(axis=1) < 3 * EIGHT_STD)) > close
    share = jnp.bincount(jnp.argmin(near, axis=1), length=8) / len(x)
    assert float(share.min()) > 0.08 and float(share.max()) < 0.17


def test_a_sample_is_no_target_of_itself():
    """The weights that the field gets are those of the spread: all pairs but a sample's own."""
    metrics = drift_loss(X[None], everything(P), FieldKernel(), Identity())[1]
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
    loss, metrics = drift_loss(X[None], everything(P), FieldKernel((0.1, 0.5)), Scaled())
    names = {"raw", "map1", "mean1", "std1", "map2", "mean2", "std2"}
    assert {name.split("/")[1] for name in metrics} == names
    assert {name for name in metrics if "raw" in name} == {
        "spread/raw", "energy/raw/0.1", "energy/raw/0.5",
    }  # fmt: skip
    alone = drift_loss(X[None], everything(P), FieldKernel((0.1, 0.5)), Identity())[0]
    assert float(alone) < 4.01 and float(loss) > 5 * float(alone)  # 2 to 4 a feature


def test_the_loss_is_the_number_of_temperatures_at_least_and_its_square_at_most():
    for temperatures in ((0.1,), (0.05, 0.2), (0.02, 0.05, 0.2)):
        count = len(temperatures)
        loss, _ = drift_loss(X[None], everything(P), FieldKernel(temperatures), Identity())
        assert count - 0.01 <= float(loss) <= count**2 + 0.01


def test_no_gradient_passes_through_the_scale():
    """With it the loss could be lowered by spreading the samples; without it the gradient is the
    drift, whose scale is the reciprocal of that of the coordinates."""

    def pull(factor):
        points = everything(factor * P)
        return jax.grad(lambda x: drift_loss(x[None], points, FieldKernel(), Identity())[0])(
            factor * X
        )

    np.testing.assert_allclose(pull(1.0), 3.0 * pull(3.0), rtol=1e-3, atol=1e-5)


def examples(label, start):
    """Examples that name their class and number."""
    return jnp.stack([label * 100.0, start + jnp.arange(len(label))], axis=1)


def test_a_queue_keeps_the_last_examples_of_each_class():
    queue, held, seen = empty(3, 4, (2,)), {0: [], 1: [], 2: []}, 0
    step = jax.jit(push)
    for key in jr.split(jr.key(0), 5):
        label = jr.randint(key, (7,), 0, 2)  # none of class 2; at times more than 4 of one
        x = examples(label, seen)
        queue, seen = step(queue, x, label), seen + 7
        for one in np.asarray(x):
            held[int(one[0] / 100)].append(one[1])
        for c in range(3):
            there = min(int(queue.count[c]), 4)
            assert queue.count[c] == len(held[c])
            found = np.asarray(queue.examples[c, :there])
            assert sorted(found[:, 1]) == sorted(held[c][-4:])
            assert (found[:, 0] == 100 * c).all()


def test_a_draw_is_of_the_class_without_repeats_and_says_what_is_missing():
    label = jnp.array([0, 0, 0, 0, 0, 1, 1])
    queue = push(empty(2, 6, (2,)), examples(label, 0), label)
    take = jax.jit(draw, static_argnums=2)
    seen = set()
    for key in jr.split(jr.key(1), 20):
        x, there = take(queue, jnp.array([0, 1, 0]), 3, key)
        assert there.sum(axis=1).tolist() == [3, 2, 3]
        for group, valid, c in zip(np.asarray(x), np.asarray(there), (0, 1, 0)):
            numbers = group[valid][:, 1]
            assert len(set(numbers)) == len(numbers)
            assert (group[valid][:, 0] == 100 * c).all()
        seen |= {tuple(sorted(np.asarray(x)[0, :, 1]))}
    assert len(seen) > 5  # of the 10 that there are


def labelled(**settings):
    sizes = Sizes(group=4, positives=3, unconditional=5, queue=8)
    return DriftObjective(LinearPath(), (2,), 2, sizes=sizes, **settings)


def test_unconditional_examples_repel_with_the_weight_of_the_guidance():
    objective = labelled(guidance=Guidance(3.0))
    label = jnp.tile(jnp.arange(2), 8)
    queues = objective.fill(objective.init({}), Batch(examples(label, 0), label))
    points = objective.points(queues, jnp.arange(2), jnp.array([1.0, 3.0]), 4, key=jr.key(0))
    assert points.attracts.tolist() == [False] * 5 + [True] * 3
    expected = [[0.0] * 5 + [1.0] * 3, [2.0 * 3 / 5] * 5 + [1.0] * 3]
    np.testing.assert_allclose(points.weight, expected, rtol=1e-6)
    assert (np.asarray(points.x)[:, 5:, 0] == np.array([[0.0], [100.0]])).all()


def test_guidance_pushes_a_class_away_from_the_others():
    """Where samples equal the data of their class, the drift with guidance points away from the
    other class; without guidance it points nowhere in the mean."""
    means = jnp.array([-0.5, 0.5])

    @partial(jax.jit, static_argnums=0)
    def pull(scale, key):
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

    keys = jr.split(jr.key(0), 24)
    plain, guided = (
        jax.vmap(lambda key: pull(s, key))(keys).mean(axis=0) for s in (1.0, 3.0)
    )  # fmt: skip
    assert float(guided[0]) < -0.3 and float(guided[1]) > 0.3
    assert float(jnp.abs(plain).max()) < 0.3


@pytest.mark.parametrize("kappa", [1.0, 3.0, 5.0])
def test_scales_are_drawn_with_their_density(kappa):
    """The share below `a`, by a sum over the density on a fine grid."""
    drawn = np.asarray(Guidance(4.0, kappa).draw(20_000, jr.key(0)))
    assert drawn.min() >= 1 and drawn.max() <= 4
    middle = 1 + 3 * (np.arange(100_000) + 0.5) / 100_000
    density = middle**-kappa
    for a in (1.2, 1.7, 3.0):
        share = density[middle < a].sum() / density.sum()
        assert abs((drawn < a).mean() - share) < 0.015


def test_drawn_scales_are_inputs_of_the_network():
    seen = []

    def model(x, s, t, cond):
        seen.append(cond)
        return x * cond.guidance[0]

    for kappa in (None, 3.0):
        objective = labelled(guidance=Guidance(4.0, kappa))
        if kappa is None:
            with pytest.raises(TypeError):
                objective.generate(model, jnp.arange(2), jnp.array([1.0, 3.0]), 4, jr.key(0))
        else:
            x = objective.generate(model, jnp.arange(2), jnp.array([1.0, 3.0]), 4, jr.key(0))
            plain = objective.generate(
                lambda x, s, t, cond: x, jnp.arange(2), jnp.array([1.0, 3.0]), 4, jr.key(0)
            )
            np.testing.assert_allclose(x, plain * jnp.array([1.0, 3.0])[:, None, None], rtol=1e-6)


def test_a_step_fills_the_queues_and_uses_them():
    """Positives of a class come from earlier batches too."""
    objective = labelled()
    carry = objective.init({})
    players = {"model": lambda x, s, t, cond: x}
    for start in (0, 8):
        label = jnp.full(8, start // 8)
        batch = Batch(examples(label, start), label)
        losses, carry, _ = objective(
            players, players, carry, batch, jr.key(start), jnp.zeros((), jnp.int32)
        )
        assert jnp.isfinite(losses["model"])
    assert carry["classes"].count.tolist() == [8, 8]
