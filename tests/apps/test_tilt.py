"""`apps.tilt` as a user runs it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from apps import tilt as tilt_app
from apps._tilt.cases import CONTROL, Published, Wrong
from apps._tilt.self_test import sd_error, self_test
from apps._tilt.specs import described, file_name, methods_of, print_methods
from core.errors import UserError
from core.steering.fixtures import fixtures
from core.steering.own import Function
from core.steering.specs import configured
from core.steering.steering import Tilt
from plugins.steering import FK, SMC, SNIS, BestOfN
from portolan.tilting import Setting
from portolan.tilting import run as steered
from tests.apps.conftest import POINTS
from tests.apps.inside import run
from tests.train.runs import make_run

pytestmark = pytest.mark.slow


@pytest.mark.ci
def test_a_run_is_steered_and_mistakes_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", *POINTS)
    flags = ("--run", "run", "--n", "8", "--islands", "3", "--seed", "1", "--show", "4")
    status, _, result = run(
        "tilt", *flags, "--plugin", "snis", "smc", "smc:steps=2,twist=no,kernel=em", "--steps", "3",
        "--reward", "target:5", "--chunk", "8", "--json",
    )  # fmt: skip
    assert status == 0
    rows = {row["method"]: row for row in result["rows"]}
    spec = "smc:steps=2,twist=no,kernel=em"
    assert set(rows) == {"prior", "snis", "smc", spec}
    # 24 particles; smc: 3 jumps, and 2 shifts of one evaluation forward and one backward
    assert [rows[name]["evaluations"] for name in ("snis", "smc")] == [24, 24 * (3 + 2 * 3)]
    # 2 looks, 2 steps of the velocity
    assert rows[spec]["evaluations"] == 24 * 4
    assert "±" not in rows["smc"]["log Z"] and "takes 8 islands" in capsys.readouterr().err
    assert (tmp_path / "run" / "tilt" / "smc-steps-2-twist-no-kernel-em.npz").exists()
    saved = np.load(tmp_path / "run" / "tilt" / "smc.npz")
    assert saved["samples"].shape == (24, 2)
    np.testing.assert_allclose(saved["weights"].sum(), 1)
    assert (tmp_path / "run" / "tilt" / "samples.png").exists()
    for wrong, message in (
        (("--reward", "brightness"), "images"),
        (("--reward", "python:math:nothing"), "names no function"),
        (("--plugin", "smcc"), "did you mean 'smc'"),
        (("--plugin", "smc:stepps=3"), "did you mean 'steps'"),
        (("--reward", "target:5", "--n", "0"), "at least 1"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            tilt_app.main(["--run", str(tmp_path / "run"), *wrong])
        assert "\n" not in str(caught.value)


def test_a_spec_sets_fields_by_their_types():
    flags = {"steps": 5, "look": "naive", "twist": None, "moves": 9}
    spec = "smc:kernel=em,steps=50,twist=no,twist_kl=1.5"
    expected = SMC(kernel="em", steps=50, twist=False, twist_kl=1.5, look="naive")
    assert configured(spec, flags) == expected
    assert configured("smc:twist=none", flags | {"twist": True}).twist is None
    assert configured("fk:potential=max", {}) == FK(potential="max")
    assert configured("bon", flags) == BestOfN()
    assert list(methods_of(("smc", "smc:g=1"), {})) == ["smc", "smc:g=1"]
    assert file_name("smc:kernel=em,rho=0.5") == "smc-kernel-em-rho-0.5"


@pytest.mark.parametrize(
    "spec, message",
    [
        ("smc:stepz=3", "unknown field of smc 'stepz'; did you mean 'steps'"),
        ("smc:steps=many", "steps needs a whole number, got 'many'"),
        ("smc:rho=half", "rho needs a number"),
        ("smc:twist=perhaps", "twist needs yes or no"),
        ("smc:steps", "is no setting"),
        ("smc:steps=3,steps=4", "sets steps twice"),
        ("smc:steps=0", "at least 1"),
        ("bon:steps=3", "no settings"),
    ],
)
def test_a_wrong_spec_is_one_line(spec, message):
    with pytest.raises(UserError, match=message) as caught:
        configured(spec, {})
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="alike"):
        methods_of(("smc:g=1", "smc:g=1,"), {})


def test_the_table_of_methods_says_what_each_setting_is(capsys):
    listed = {method["name"]: method for method in print_methods()["methods"]}
    assert listed["smc"]["exact"] and not listed["bon"]["exact"]
    fields = {field["field"]: field for field in listed["smc"]["fields"]}
    assert fields["steps"] == {
        "field": "steps", "default": 8, "meaning": "Steps from noise to data."
    }  # fmt: skip
    for method in (SMC, FK, SNIS):
        assert all(meaning for _, meaning in described(method))
    assert "Feynman-Kac" in capsys.readouterr().err


def test_a_reward_that_fails_on_the_way_is_one_line():
    """Finite at every sample that is drawn beforehand, not at all states."""
    with jax.enable_x64(True):
        prior = fixtures()["G1"].tilt()
    root = Function(lambda x: jnp.sqrt(x[0] + 1))
    tilt = Tilt(prior.flow_map, root, jnp.ones(()), (1,))
    setting = Setting(tilt, np.zeros((1, 1)))
    with pytest.raises(UserError, match="not finite for some states on the way"):
        steered("fk", FK(steps=2), setting, n=32, islands=2, seed=0)


def test_the_self_test_catches_wrong_answers():
    """Importance sampling answers 2.2 and 1.5 on G1; other numbers, and weights forgotten, fail."""
    right = Wrong("right", SNIS(), "G1", 2.2, 1.5, 0.0)
    wrongs = [
        right,
        Wrong("wrong mean", SNIS(), "G1", 1.9, 1.5, 0.05),
        Wrong("wrong variance", SNIS(), "G1", 2.2, 0.9, 0.05),
        Wrong("mean alone", SNIS(), "G1", 2.2, None, 0.0),
    ]
    figures = [
        Published("G1", "1 step", 1.008, 0.017, 0.311),
        Published("G1", "1 step", 1.008, 0.017, 0.2),
    ]
    result = self_test(exact=[CONTROL], wrong=wrongs, published=figures, looks=False, islands=200)
    assert [row["passed"] for row in result["wrong"]] == [True, False, False, True]
    assert [row["passed"] for row in result["published"]] == [True, False]
    (control,) = result["rows"]
    assert control["control"] and control["passed"] and control["score"] > 4
    assert not result["passed"]


def test_the_error_of_a_standard_deviation():
    values = np.random.default_rng(0).standard_normal(4000)
    assert sd_error(values) == pytest.approx(1 / np.sqrt(2 * 4000), rel=0.1)
