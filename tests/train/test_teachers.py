"""Which teacher the flags name, and what they refuse."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.teacher import Autoguided, Guided
from core.oracle import checkerboard
from core.train.build import build
from core.train.cli import parse
from core.train.teachers import open_teacher
from portolan.training import describe
from tests.compiling import once
from tests.train.conftest import LABELLED, TINY

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened

X, T = np.float32([0.3, -0.2]), np.float32(0.6)


def student(folder, *flags):
    return parse([*TINY, "--plugin", "lmd", "--teacher", str(folder), *flags])


def velocities(*fields):
    """Of each at one point, compiled together."""
    return once(lambda fields, x, t: [field.velocity(x, t) for field in fields])(fields, X, T)


def test_a_run_teaches_its_averaged_diagonal_and_gives_its_weights(taught):
    folder, averaged = taught
    config = student(folder, *LABELLED)
    teacher = open_teacher(config)
    cold = student(folder, *LABELLED, "--plugin.no-warm-start")
    warm, fresh = (build(one, teacher).method.flow_map for one in (config, cold))
    expected, taught_by, begun, other = velocities(averaged, teacher, warm, fresh)
    np.testing.assert_allclose(taught_by, expected, rtol=1e-5)
    np.testing.assert_allclose(begun, expected, rtol=1e-5)
    assert not np.allclose(other, expected)


def test_a_run_says_in_its_first_line_which_weights_it_starts_from(taught):
    """Where the student's network is another one than the teacher's, which settings differ."""
    folder, _ = taught
    same = student(folder, *LABELLED)
    teacher = open_teacher(same)
    wider = student(folder, *LABELLED, "--net.depth", "3")
    first = {name: describe(one, build(one, teacher))[0] for name, one in
             {"same": same, "wider": wider}.items()}  # fmt: skip
    assert first["same"] == "lmd starts from its teacher's weights"
    assert first["wider"].startswith("lmd starts from nothing: its teacher has another network")
    assert "--net.depth" in first["wider"] and "3 here" in first["wider"]
    guided = student(folder, *LABELLED, "--teaching.scale", "2")
    line = describe(guided, build(guided, open_teacher(guided)))[0]
    assert line.startswith("lmd starts from nothing: its teacher is guided")


@pytest.mark.slow
def test_a_student_with_guidance_as_an_input_starts_from_its_unguided_teacher(taught):
    folder, averaged = taught
    config = student(folder, *LABELLED, "--plugin.guidance.most", "4")
    built = build(config, open_teacher(config))
    assert built.start == "starts from its teacher's weights; guidance enters at zero"
    cond = Condition(jax.device_put(np.int32(3)), jax.device_put(np.float32([3, 0, 1])))
    fields = averaged, built.method.flow_map
    both = once(lambda fields, x, t: [field.velocity(x, t, cond) for field in fields])
    np.testing.assert_allclose(*both(fields, X, T), rtol=1e-5)


def test_guidance_flags_wrap_the_teacher(taught):
    folder, _ = taught
    guided = open_teacher(student(folder, *LABELLED, "--teaching.scale", "2"))
    assert isinstance(guided, Guided) and guided.null_label == 8
    weak = open_teacher(student(folder, *LABELLED, "--teaching.weak", str(folder)))
    assert isinstance(weak, Autoguided)
    np.testing.assert_allclose(*velocities(weak, weak.strong), atol=1e-6)


def test_the_exact_teacher_is_the_distribution_of_the_data():
    config = student("exact", "--data", "checkerboard")
    teacher = open_teacher(config)
    problem, path = checkerboard(), teacher.path
    both = once(lambda x, t: (teacher.velocity(x, t), problem.velocity(path, x, t)))
    found, expected = both(X, T)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert build(config, teacher).method.flow_map is not teacher.flow_map


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--data", "two-moons", "--teacher", "exact"], "known distribution"),
        ([*LABELLED, "--path", "trig"], "--path linear"),
        (["--data", "digits", "--net", "dit"], "another"),
        (["--data", "checkerboard", "--teaching.scale", "2"], "labels"),
    ],
)
def test_a_teacher_that_does_not_fit_is_refused_in_one_line(taught, flags, message):
    folder, _ = taught
    network = [] if "digits" in flags else TINY
    given = [*network, "--plugin", "lmd", "--teacher", str(folder), *flags]
    with pytest.raises(UserError, match=message) as caught:
        open_teacher(parse(given))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["pd", "pfmm"])
def test_what_must_start_from_its_teacher_says_so(name):
    config = parse([*TINY, "--plugin", name, "--teacher", "exact", "--data", "checkerboard"])
    with pytest.raises(UserError, match="teacher's weights"):
        build(config, open_teacher(config))
