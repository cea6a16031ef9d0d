"""Points on spheres, tori and in SO(3): drawn, and read from files, well and badly."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from scipy.special import ive

from core.data import DATA, ArraysData, CellsData, from_arrays
from core.data.manifolds import BLOB_KAPPA, blob_centres
from core.data.record import conflict
from core.errors import UserError

RNG = np.random.default_rng(0)
Q = Rotation.random(50, random_state=1)
WXYZ = np.roll(Q.as_quat(), 1, axis=1)


def test_blobs_have_the_mean_resultant_of_von_mises_and_fisher():
    data = DATA["sphere-blobs"](n=40_000, labelled=True).load()
    assert (data.space, data.shape, data.num_classes) == ("sphere", (3,), 4)
    assert np.allclose(np.linalg.norm(data.examples, axis=1), 1, atol=1e-6)
    toward = np.sum(data.examples * blob_centres()[data.labels], axis=1)
    expected = ive(1.5, BLOB_KAPPA) / ive(0.5, BLOB_KAPPA)  # the ratio of Bessel functions
    assert abs(toward.mean() - expected) < 4 * toward.std() / 200


def test_board_on_the_torus_fills_the_dark_cells_evenly():
    data = DATA["torus-checkerboard"](n=40_000).load()
    assert data.space == "torus" and abs(data.examples).max() <= np.pi
    edges = np.linspace(-np.pi, np.pi, 25)
    counts = np.histogram2d(*data.examples.T, bins=(edges, edges))[0]
    assert data.cells is not None and data.cells.sum() == pytest.approx(1)
    assert counts[data.cells == 0].sum() == 0
    inside = counts[data.cells > 0]
    assert np.abs(inside - inside.mean()).max() < 5 * inside.mean() ** 0.5


def test_swiss_roll_takes_the_vertical_to_the_roll():
    data = DATA["so3-swiss-roll"](n=2000).load()
    w, *v = data.examples.T
    to = Rotation.from_quat(np.stack([*v, w], axis=1)).apply([0, 1, 0])
    radius = np.hypot(to[:, 0], to[:, 2]) / to[:, 1]
    assert data.space == "so3" and (w >= 0).all() and to[:, 1].min() > 0.6
    turn = np.unwrap(np.sort(np.arctan2(to[:, 2], to[:, 0])))
    assert len(turn) and 0 <= radius.min() and radius.max() < 3 * np.pi / 10 + 0.1


def test_latitude_and_longitude_become_unit_vectors(tmp_path):
    file = tmp_path / "a.npz"
    np.savez(file, fire=np.array([[90.0, 17.0], [0.0, 0.0], [0.0, 90.0], [-30.0, 180.0]]))
    flags = ArraysData(str(file), array="fire", space="sphere")
    data = flags.load()
    down = [-np.sqrt(3) / 2, 0, -0.5]
    assert np.allclose(data.examples, [[0, 0, 1], [1, 0, 0], [0, 1, 0], down], atol=1e-6)
    assert (data.kind, data.space, flags.peek()) == ("points", "sphere", (3,))


@pytest.mark.parametrize("turn", [360.0, 2 * np.pi])
def test_angles_in_degrees_and_radians_are_the_same_points(turn, tmp_path):
    x = np.array([[0.0, 0.25, 0.5], [-0.25, 0.75, 0.98]])
    np.save(tmp_path / "x.npy", x * turn)
    data = ArraysData(str(tmp_path / "x.npy"), space="torus").load()
    expected = 2 * np.pi * np.array([[0.0, 0.25, -0.5], [-0.25, -0.25, -0.02]])
    assert np.allclose(data.examples, expected, atol=1e-6)
    assert "taken as" in data.notes[0]


@pytest.mark.parametrize("x", [WXYZ, -WXYZ, Q.as_matrix()], ids=["q", "-q", "matrix"])
def test_rotations_are_unit_quaternions_of_one_sign(x):
    data = from_arrays(x, space="so3")
    assert np.allclose(data.examples, np.where(WXYZ[:, :1] < 0, -WXYZ, WXYZ), atol=1e-6)


def test_parts_are_disjoint_and_those_of_the_papers(tmp_path):
    x = np.linspace(-3, 3, 105)[:, None]
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(105) % 3)
    names = ("train", "validation", "test")
    parts = [ArraysData(str(tmp_path / "a.npz"), space="torus", part=name) for name in names]
    found = [part.load() for part in parts]
    assert [len(one) for one in found] == [84, 10, 11]
    order = np.random.default_rng(0).permutation(105)
    assert np.allclose(np.concatenate([one.examples for one in found]), x[order], atol=1e-6)
    assert all(np.array_equal(one.labels, [k for k in i % 3]) for one, i in
               zip(found, np.split(order, [84, 94])))  # fmt: skip
    held = parts[0].held_out()
    assert held == parts[2] and parts[2].held_out() is None


def test_cells_are_drawn_by_their_probabilities(tmp_path):
    p = RNG.random((6, 4)) * (RNG.random((6, 4)) > 0.3)
    np.savez(tmp_path / "p.npz", general=p)
    flags = CellsData(str(tmp_path / "p.npz"), "general", n=40_000)
    data = flags.load()
    assert data.cells is not None
    bounds = [np.linspace(-np.pi, np.pi, k + 1) for k in p.shape]
    counts = np.histogram2d(*data.examples.T, bins=bounds)[0]
    assert np.allclose(data.cells, p / p.sum()) and flags.peek() == (2,)
    assert np.abs(counts - 40_000 * data.cells).max() < 5 * 200 * np.sqrt(data.cells.max())
    assert counts[p == 0].sum() == 0


@pytest.mark.parametrize(
    "x, flags, message",
    [
        (np.eye(3) * 2, {"space": "sphere"}, "row 0 has length 2, not 1 (3 of 3 rows"),
        (np.array([[10.0, 100], [100, 10]]), {"space": "sphere"}, "row 1 is latitude 100, lon"),
        (np.ones((4, 1)), {"space": "sphere"}, "--data.space sphere takes latitude and longitude"),
        (np.ones((4, 3)), {"space": "so3"}, "--data.space so3 takes unit quaternions"),
        (np.ones((4, 3, 3)), {"space": "so3"}, "row 0 is no rotation matrix (4 of 4"),
        (-np.eye(3)[None], {"space": "so3"}, "row 0 is no rotation matrix"),
        (np.full((4, 2), 400.0), {"space": "torus"}, "an angle of 400 degrees is beyond"),
        (np.full((4, 2), 9.0), {"space": "torus", "angles": "radians"}, "an angle of 9 radians"),
        (np.full((4, 2), np.nan), {"space": "torus"}, "example 0 holds NaN"),
        (np.ones((4, 2)), {"space": "klein"}, "--data.space klein: unknown; choose one of sphere"),
        (np.ones((4, 2)), {"space": "sphere", "angles": "degrees"}, "--data.angles degrees is for"),
        (np.ones((4, 2)), {"angles": "degrees"}, "--data.angles degrees goes with --data.space"),
        (np.ones((4, 2)), {"space": "torus", "values": "standard"}, "leave out --data.kind"),
        (np.ones((4, 2)), {"space": "torus", "part": "validation"}, "of 4 examples has none"),
        (np.ones((4, 2)), {"space": "torus", "array": "z"}, "no array named z (--data.array)"),
        (np.array([["a"]]), {"space": "torus"}, "give numbers"),
    ],
)  # fmt: skip
def test_what_is_no_point_of_a_space_is_refused_in_one_line(x, flags, message, tmp_path):
    np.savez(tmp_path / "a.npz", x=x)
    with pytest.raises(UserError) as caught:
        ArraysData(str(tmp_path / "a.npz"), **flags).load()
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "p", [-np.ones((2, 2)), np.zeros((2, 2)), np.array(1.0), np.zeros((0, 3)), np.full(2, 1e308)]
)
def test_what_is_no_table_of_probabilities_is_refused(p, tmp_path):
    np.savez(tmp_path / "p.npz", p=p)
    with pytest.raises(UserError, match="is no table of probabilities"):
        CellsData(str(tmp_path / "p.npz"), "p").load()


def test_another_space_is_another_kind_of_data():
    flat, torus = from_arrays(RNG.random((9, 2))), from_arrays(RNG.random((9, 2)), space="torus")
    assert conflict(flat.spec, torus.spec) == "points of the torus now, of flat space then"
    assert conflict(torus.spec, torus.spec) is None
