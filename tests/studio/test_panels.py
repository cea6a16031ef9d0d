"""What the jobs of the panels answer: the files of a run, steering, edits, the map."""

import os

import numpy as np
import pytest
from PIL import Image

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap, DataEndMap
from core.flow.path import LinearPath
from core.train.folder import LOCK, one_writer
from portolan.certificate import WORDS
from portolan.maps import Map
from portolan.studio import carrying, editing, following, inspecting, steering
from portolan.studio.bounds import most_nodes, most_of, most_particles
from portolan.studio.fields import Fields
from portolan.studio.session import Unknown, session_of
from portolan.studio.views import limits
from tests.studio.tiny import certificate, make_runs


@pytest.fixture
def folder(tmp_path):
    """A run folder that is never opened."""
    (tmp_path / "config.toml").write_text("steps = 1")
    return tmp_path


def at(**values):
    return Fields({"run": 0, **values})


def test_a_log_is_read_as_it_grows(folder):
    session, log = session_of([folder]), folder / "metrics.jsonl"
    empty = following.follow(session, at()).said
    assert empty["steps"] == [] and empty["place"] == 0 and not empty["going"]
    log.write_text('{"step": 1, "loss": 2.5, "x": null}\n{"step": 2, "loss"')
    first = following.follow(session, at()).said
    assert first["steps"] == [1] and first["figures"] == {"loss": [2.5]}  # whole lines alone
    with log.open("a") as stream:
        stream.write(': 1.5, "late": 3}\nnot json\n{"loss": 7}\n{"step": 4, "loss": true}\n')
    more = following.follow(session, at(place=first["place"])).said
    assert more["steps"] == [2, 4] and more["place"] == log.stat().st_size
    assert more["figures"] == {"loss": [1.5, None], "late": [3, None]}
    log.write_text('{"step": 1, "loss": 9}\n')  # the run began again
    again = following.follow(session, at(place=more["place"])).said
    assert again["again"] and again["figures"] == {"loss": [9]}


def test_the_lock_of_a_process_that_was_killed_is_not_taken_for_training(folder):
    session = session_of([folder])
    with one_writer(folder):
        assert following.follow(session, at()).said["going"]
        said = (folder / LOCK).read_text()
    for text, going in (
        (said, True),  # this process
        (said.replace(str(os.getpid()), "999999999"), False),
        (said.replace(str(os.getpid()), "999999999").replace("\n", "x\n"), True),  # elsewhere
    ):
        (folder / LOCK).write_text(text)
        assert following.follow(session, at()).said["going"] == going


def opened(folder, shape, **about):
    """A run whose model is a map of jumps to the data alone, without a network."""
    (run,) = session_of([folder]).runs
    still = AverageVelocityMap(net=lambda x, s, t, cond: x, path=LinearPath())
    run.__dict__["model"] = Map(DataEndMap.of(still), shape, **about)
    return run


@pytest.mark.long
def test_particles_are_those_of_the_class_that_is_carried(folder):
    x = np.array([[-1, 0], [-2, 0], [1, 0], [2, 0]], np.float32)
    labels = np.array([0, 0, 1, 1], np.int32)
    run = opened(folder, (2,), num_classes=2, all_classes=True, data=x, labels=labels)
    for label, signs in ((0, [-1]), (1, [1]), (None, [-1, 1])):
        found = carrying.states_at(run, at(n=16, label=label), 0.0)
        assert np.unique(np.sign(found[:, 0])).tolist() == signs


def test_what_has_no_plane_or_table_of_jumps_is_refused(folder):
    run = opened(folder, (8, 8, 1))
    with pytest.raises(UserError, match="jumps to the data alone"):
        carrying.table(run, at())
    with pytest.raises(UserError, match="points of two numbers"):
        carrying.trajectory(run, at(s=1, t=0, at=[0.0] * 8))


@pytest.mark.parametrize("side", [8, 64, 256, 2048])
def test_what_the_page_asks_first_is_within_bounds(folder, side):
    """The particles, times and examples with which its sliders begin, of pictures of any size."""
    model = opened(folder, (side, side, 3)).model
    n, nodes = most_particles(model), most_nodes(model, 12)
    assert 2 <= n <= 256 and n * 16 * side * side * 3 <= max(2**22, 32 * side * side * 3)
    assert 2 <= nodes <= 12 and nodes * (nodes + 1) // 2 <= max(most_of(model), 3)


def test_pictures_are_named_by_number_and_none_leads_out(folder, tmp_path_factory):
    session, place = session_of([folder]), folder / "samples"
    place.mkdir()
    secret = tmp_path_factory.mktemp("elsewhere") / "secret.png"
    secret.write_bytes(b"secret")
    for name in ("step_0000010.png", "step_0000002.png", "final_1.png"):
        Image.new("L", (2, 2), len(name)).save(place / name)
    (place / "notes.png").write_bytes(b"of somebody")
    found = following.follow(session, at()).said["pictures"]
    assert found == ["step 2", "step 10", "the end, 1 evaluations"]
    png = following.picture(session, at(index=1)).arrays["png"]
    assert bytes(png) == (place / "step_0000010.png").read_bytes()
    for index in (3, -1):
        with pytest.raises(UserError):
            following.picture(session, at(index=index))
    (place / "step_0000003.png").symlink_to(secret)
    with pytest.raises(UserError, match="leads out"):
        following.picture(session, at(index=1))
    with pytest.raises(Unknown):
        following.picture(session, Fields({"run": 1, "index": 0}))


def test_a_certificate_is_shown_or_said_to_be_damaged(folder):
    session = session_of([folder])
    assert inspecting.certificate(session, at()).said == {"found": False}
    certificate(folder, 3)
    found = inspecting.certificate(session, at())
    assert set(found.arrays) == set(WORDS) and found.said["units"] == [1.0, 0.5, 0.0]
    assert np.isnan(found.arrays["ode"][2, 0]) and found.arrays["ode"][0, 2] > 0
    for text in ("{", "[]", "{}", '{"units": [1], "tables": {}}'):
        (folder / "certificate.json").write_text(text)
        with pytest.raises(UserError, match="--certify"):
            inspecting.certificate(session, at())


def test_a_page_names_no_reward_that_is_code(folder):
    (run,) = session_of([folder]).runs
    for name in ("python", "numpy", "class", "python:os:system", ""):
        with pytest.raises(UserError, match="name must be one of|name is missing"):
            steering.blended(run, at(rewards=[{"name": name, "weight": 1}]))
    for rewards in ([], "brightness", [1], [{"name": "brightness"}] * 5):
        with pytest.raises(UserError):
            steering.blended(run, at(rewards=rewards))


def test_a_square_holds_most_points_and_no_far_one(rng):
    points = rng.standard_normal((1000, 2)) * [1.0, 0.2]
    points[0] = 1e6
    left, right, bottom, top = limits(points)
    assert right - left == pytest.approx(top - bottom) and 4 < right - left < 12
    inside = (points > [left, bottom]) & (points < [right, top])
    assert inside.all(axis=1).mean() > 0.97


def test_there_must_be_a_run():
    with pytest.raises(UserError, match="--run"):
        session_of([])


def test_two_runs_of_one_name_are_kept_apart(tmp_path):
    for place in ("a/x", "b/x", "y"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.toml").write_text("")
    session = session_of([tmp_path / place for place in ("a/x", "b/x", "y")])
    assert [run.name for run in session.runs] == ["a/x", "b/x", "y"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    places = make_runs(tmp_path_factory.mktemp("runs"), "digits", "plane")
    return session_of(places).runs


@pytest.mark.long
def test_weights_of_a_steered_run_are_those_of_the_reward(runs):
    """Importance sampling of one jump: weights are exp(lambda r), so their mean is exp(log Z)."""
    rewards = [{"name": "brightness", "weight": 2.0}, {"name": "smoothness", "weight": 0.0}]
    asked = {"rewards": rewards, "method": "snis", "n": 16, "label": 3}
    found = steering.tilt(runs[0], at(**asked, strength=1.5))
    said, weights = found.said, found.arrays["weights"]
    assert weights.mean() == pytest.approx(1, abs=1e-4) and len(weights) == said["particles"] == 128
    assert said["share"] == pytest.approx(1 / np.mean(weights**2), rel=1e-3)
    assert said["reward_tilted"] > said["reward_prior"]
    none = steering.tilt(runs[0], at(**asked, strength=0.0))
    assert none.said["share"] == pytest.approx(1) and none.said["log_z"] == pytest.approx(
        0, abs=1e-5
    )
    twice = [{"name": "brightness", "weight": 4.0}, {"name": "smoothness", "weight": 0.0}]
    same = steering.tilt(runs[0], at(**{**asked, "rewards": twice}, strength=1.5))
    assert same.said["lambda"] == pytest.approx(said["lambda"] / 2, rel=1e-4)
    assert np.allclose(same.arrays["weights"], weights, rtol=1e-3)


@pytest.mark.long
def test_completions_agree_with_what_is_kept(runs):
    """The weighted mean is nearer to the example where the mask keeps it than samples without are,
    and what is shown as observed is the example there and gray elsewhere."""
    kept = np.zeros((8, 8), bool)
    kept[:, 3:5] = True
    bits = "".join("1" if bit else "0" for bit in kept.ravel())
    asked = {"method": "snis", "n": 64, "index": 2, "mask": bits, "noise": 1.5}
    found = steering.complete(runs[0], at(**asked))
    example = steering.example(runs[0], at(index=2)).arrays["tiles"][0, ..., 0].astype(int)
    observed = found.arrays["observed"][0, ..., 0].astype(int)
    assert np.array_equal(observed[kept], example[kept]) and set(observed[~kept]) == {128}
    assert found.said["reward_tilted"] > found.said["reward_prior"]
    for bad in ("1", "0" * 64, "2" * 64, "1" * 65):
        with pytest.raises(UserError, match="mask"):
            steering.complete(runs[0], at(**{**asked, "mask": bad}))


@pytest.mark.long
def test_edits_are_those_of_the_command(runs):
    found = editing.edit(runs[1], at(edit="round-trip", n=4, steps=2))
    assert (found.said["rows"], found.said["names"]) == (4, ["data", "noise", "again"])
    data, _, again = np.moveaxis(found.arrays["points"].reshape(4, 3, 2), 1, 0)
    assert np.allclose(data, runs[1].dataset().examples[:8:2], atol=1e-5)
    worst = np.max(np.linalg.norm(again - data, axis=1) / np.linalg.norm(data, axis=1))
    assert found.said["round_trip_worst"] == pytest.approx(worst, rel=1e-3)
    with pytest.raises(UserError, match="classes"):
        editing.edit(runs[1], at(edit="classes"))


@pytest.mark.long
def test_one_jump_of_many_is_one_jump_and_no_jump_moves_nothing(runs):
    same = carrying.plane(runs[1], at(s=0.6, t=0.1, jumps=1, n=20))
    assert same.said["apart"] == pytest.approx(0, abs=1e-6)
    still = carrying.plane(runs[1], at(s=0.6, t=0.6, jumps=4, n=20))
    for name in ("one", "many"):
        assert np.allclose(still.arrays[name], still.arrays["before"], atol=1e-6)
        assert np.allclose(still.arrays[f"lines_{name}"], still.arrays["lines_before"], atol=1e-6)
    way = carrying.trajectory(runs[1], at(s=0.6, t=0.1, jumps=4, at=[0.3, -0.2])).arrays
    assert np.allclose(way["one"][0, 0], [0.3, -0.2], atol=1e-6)
    assert np.allclose(way["many"][0, 0], [0.3, -0.2], atol=1e-6)
    with pytest.raises(UserError, match="exact flow"):
        carrying.exact(runs[1], at(s=1, t=0))
    with pytest.raises(UserError, match="two numbers"):
        carrying.plane(runs[0], at(s=1, t=0))


@pytest.mark.long
def test_the_exact_flow_reaches_the_data(tmp_path):
    """The particles of the checkerboard end in its squares, which the map of noise does not."""
    (run,) = session_of(make_runs(tmp_path, "checkerboard")).runs
    end = carrying.exact(run, at(s=1, t=0, n=300)).arrays["exact"]
    black = (np.floor(end[:, 0]) + np.floor(end[:, 1])) % 2 == 0
    edge = np.abs(end - np.round(end)).min(axis=1) < 0.03  # a solve stops just beside an edge
    assert (black | edge).mean() > 0.99 and black.mean() > 0.9
    assert np.abs(end).max() < 2.05
    way = carrying.trajectory(run, at(s=1, t=0, at=[0.5, 0.9], exact=True)).arrays["exact"]
    assert way.shape == (1, carrying.FINE, 2) and np.abs(way[0, -1]).max() < 2.05
