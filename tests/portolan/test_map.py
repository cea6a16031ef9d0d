"""A flow map of the user's own: sampled, measured and steered, against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

import portolan as po
from core.flow.path import LinearPath
from core.oracle import GaussianProblem, OracleMap
from core.steering.reward import Linear
from plugins.steering import SNIS

MEAN, COVARIANCE = np.array([0.5, -0.3]), np.array([[1.44, 0.6], [0.6, 0.61]])
PULL = np.array([0.8, -0.4], np.float32)
LINE = Linear(jnp.asarray(PULL))


@pytest.fixture(scope="module")
def gaussian():
    problem = GaussianProblem(jnp.asarray(MEAN), jnp.asarray(COVARIANCE))
    data = np.random.default_rng(1).multivariate_normal(MEAN, COVARIANCE, 600)
    return po.Map(OracleMap(problem=problem, path=LinearPath()), (2,), data=data.astype(np.float32))


class Classes(po.FlowMap):
    """Two classes, `N(means[label], I)`, on the linear path; it knows no null class."""

    means: jnp.ndarray
    inner: OracleMap

    @property
    def path(self):
        return self.inner.path

    def average_velocity(self, x, s, t, cond=None):
        assert cond is not None
        mean = self.means[cond.label]
        return self.inner.average_velocity(x - (1 - s) * mean, s, t) - mean


@pytest.fixture(scope="module")
def classes():
    inner = OracleMap(GaussianProblem(jnp.zeros(2), jnp.eye(2)), LinearPath())
    means = jnp.asarray([[1.0, 0.0], [-1.0, 0.0]])
    return po.Map(Classes(means, inner), (2,), num_classes=2)


def test_samples_have_the_distribution_of_the_map(gaussian):
    x = gaussian.sample(4000)
    assert isinstance(x, np.ndarray) and x.shape == (4000, 2)
    np.testing.assert_allclose(x.mean(axis=0), MEAN, atol=4 * 1.2 / np.sqrt(4000))
    np.testing.assert_allclose(np.cov(x.T), COVARIANCE, atol=4 * 1.44 * np.sqrt(2 / 4000))
    np.testing.assert_allclose(gaussian.sample(10), x[:10], rtol=1e-5, atol=1e-6)
    assert np.all(gaussian.sample(10, seed=1) != x[:10])


def test_the_data_and_the_exact_map_are_as_near_as_two_halves_of_the_data(gaussian):
    table = gaussian.evaluate(nfe=(1,))
    (row, floor) = table
    assert (row["nfe"], row["n"], floor["data"]) == (1, 600, "real against real")
    assert row["w2"] < floor["w2"]  # of 600 each, where the floor has 300
    assert "| real against real |" in repr(table) and "<td>pushforward</td>" in table._repr_html_()
    with pytest.raises(po.UserError, match="came without data"):
        po.Map(gaussian.flow_map, (2,)).evaluate()


@pytest.mark.programs(32)
@pytest.mark.parametrize("reward", [LINE, lambda x: PULL @ x])
def test_a_tilt_by_a_line_moves_a_gaussian(gaussian, reward):
    """`N(m, C) exp(w x)` is `N(m + C w, C)`, and `log Z = w m + w C w / 2`."""
    tilted = gaussian.tilt(reward, method=SNIS(), lam=1.0, n=512, islands=8)
    np.testing.assert_allclose(tilted.mean(tilted.x), MEAN + COVARIANCE @ PULL, atol=0.15)
    assert tilted.log_z == pytest.approx(PULL @ MEAN + PULL @ COVARIANCE @ PULL / 2, abs=0.1)
    assert tilted.weights.sum() == pytest.approx(1) and tilted.log_z_error < 0.1
    assert tilted.draw(7).shape == (7, 2)


def test_the_strength_is_in_standard_deviations_of_the_reward(gaussian):
    tilted = gaussian.tilt(LINE, method="snis", strength=1.5, islands=1)
    spread = np.sqrt(PULL @ COVARIANCE @ PULL)
    assert tilted.strength == pytest.approx(1.5 / spread, rel=0.1)


def test_classes_in_turn_make_the_tilted_mixture(classes):
    """Of `sum_c N(m_c, I) exp(w x)` class c is moved by w and counts `exp(w m_c + w w / 2)`."""
    tilted = classes.tilt(LINE, method="snis", lam=1.0, n=1024, islands=16)
    share = np.exp(np.array([PULL[0], -PULL[0]]))
    log_z = np.log(share.mean()) + PULL @ PULL / 2
    share = share / share.sum()
    mean = PULL + np.array([share[0] - share[1], 0.0])
    np.testing.assert_allclose(tilted.mean(tilted.x), mean, atol=0.08)
    assert tilted.log_z == pytest.approx(log_z, abs=0.06)
    assert len(tilted.steered.log_z_islands) == 8 and 0 < tilted.log_z_error < 0.1
    first = tilted.weights.reshape(16, -1).sum(axis=1)[::2].sum()  # islands of class 0
    assert first == pytest.approx(share[0], abs=0.06)


def test_one_class_is_steered_alone(classes):
    tilted = classes.tilt(LINE, method="snis", lam=1.0, label=1, n=1024)
    np.testing.assert_allclose(tilted.mean(tilted.x), PULL + [-1.0, 0.0], atol=0.1)


def test_classes_take_turns_in_samples(classes):
    x = classes.sample(400)
    np.testing.assert_allclose(x[::2].mean(axis=0), [1, 0], atol=4 / np.sqrt(200))
    np.testing.assert_allclose(
        classes.sample(9, label=np.arange(9) % 2), x[:9], rtol=1e-5, atol=1e-6
    )
    assert classes.sample(400, label=1)[:, 0].mean() == pytest.approx(-1, abs=4 / np.sqrt(400))


def test_pictures_show_themselves(gaussian, classes, tmp_path):
    for picture in (gaussian.show(50), classes.tilt("linear:1", method="snis", islands=2).show(9)):
        png = picture._repr_png_()
        assert png.startswith(b"\x89PNG\r\n") and picture.save(tmp_path / "a.png").stat().st_size
        assert (tmp_path / "a.png").read_bytes() == png


def test_what_a_map_cannot_serve_is_one_line(gaussian, classes):
    for call, message in (
        (lambda: gaussian.sample(0), "n must be at least 1"),
        (lambda: gaussian.sample(label=0), "this map has no classes"),
        (lambda: classes.sample(label=2), "label 2: this map has classes 0 to 1"),
        (lambda: classes.sample(4, label=np.array([0])), "1 labels for 4 samples"),
        (lambda: gaussian.sample(sampler="hein"), "did you mean 'heun'"),
        (lambda: gaussian.sample(guidance=2.0), "guidance goes by labels"),
        (lambda: gaussian.tilt("brightnes"), "did you mean 'brightness'"),
        (lambda: gaussian.tilt(LINE, method="smd"), "did you mean 'smc'"),
        (
            lambda: gaussian.tilt(LINE, stpes=3),
            "field of smc 'stpes'; did you mean",
        ),
        (
            lambda: classes.tilt(LINE, method="pcn"),
            "does not say how much each one weighs",
        ),
        (
            lambda: gaussian.tilt(LINE, method="vfm"),
            "this map has trained none",
        ),
    ):
        with pytest.raises(po.UserError, match=message) as raised:
            call()
        assert "\n" not in str(raised.value)
