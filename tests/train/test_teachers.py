"""Which teacher the flags name, and what they refuse."""

import importlib

import jax.numpy as jnp
import pytest

from core.errors import UserError
from core.flow.teacher import Autoguided, Guided
from core.oracle import checkerboard
from core.train.build import build
from core.train.checkpoint import Checkpoints
from core.train.cli import parse
from core.train.run import claim
from core.train.teachers import open_teacher
from core.train.trainer import Trainer

importlib.import_module("plugins")
TINY = ["--net", "mlp", "--net.width", "8", "--net.depth", "2", "--steps", "2", "--batch", "8"]


def train(folder, *flags):
    config = parse([*TINY, "--plugin", "fm", "--run", str(folder), *flags])
    built = build(config, None)
    trainer = Trainer(config, built)
    checkpoints = Checkpoints(claim(config, built.dataset.spec), 1)
    for _ in trainer.run():
        pass
    trainer.save(checkpoints)
    checkpoints.close()
    return trainer


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "fm"
    return folder, train(folder, "--data", "eight-gaussians", "--data.labelled")


def student(folder, *flags):
    return parse([*TINY, "--plugin", "lmd", "--teacher", str(folder), *flags])


LABELLED = ["--data", "eight-gaussians", "--data.labelled"]


def test_a_run_teaches_its_averaged_diagonal_and_gives_its_weights(taught):
    folder, trainer = taught
    config = student(folder, *LABELLED)
    teacher = open_teacher(config)
    x, t = jnp.array([0.3, -0.2]), jnp.asarray(0.6)
    expected = trainer.flow_map().velocity(x, t)
    assert jnp.allclose(teacher.velocity(x, t), expected)
    assert jnp.allclose(build(config, teacher).method.flow_map.velocity(x, t), expected)
    cold = student(folder, *LABELLED, "--plugin.no-warm-start")
    assert not jnp.allclose(build(cold, teacher).method.flow_map.velocity(x, t), expected)


def test_guidance_flags_wrap_the_teacher(taught):
    folder, _ = taught
    guided = open_teacher(student(folder, *LABELLED, "--teaching.scale", "2"))
    assert isinstance(guided, Guided) and guided.null_label == 8
    weak = open_teacher(student(folder, *LABELLED, "--teaching.weak", str(folder)))
    assert isinstance(weak, Autoguided)
    x, t = jnp.array([0.3, -0.2]), jnp.asarray(0.6)
    assert jnp.allclose(weak.velocity(x, t), weak.strong.velocity(x, t), atol=1e-6)


def test_the_exact_teacher_is_the_distribution_of_the_data():
    config = student("exact", "--data", "checkerboard")
    teacher, x, t = open_teacher(config), jnp.array([0.3, -0.2]), jnp.asarray(0.6)
    assert jnp.allclose(teacher.velocity(x, t), checkerboard().velocity(teacher.path, x, t))
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
