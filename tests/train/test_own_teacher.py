"""A teacher that is the user's own code: what it may give, and what is refused at the start."""

import dataclasses
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero

from core import trust
from core.errors import UserError
from core.flow.condition import Condition
from core.flow.path import PATHS, LinearPath
from core.flow.teacher import Autoguided, Guided, Teacher, frozen
from core.methods import plugins
from core.methods.plugin import Task
from core.nets import MLPConfig
from core.objectives import Batch
from core.oracle import GaussianProblem
from core.train.claim import claim
from core.train.cli import parse
from core.train.own_teacher import open_own
from core.train.run import open_run
from core.train.teacher_check import check_own
from core.train.teachers import build_run, open_teacher
from tests.compiling import once
from tests.train.conftest import LABELLED, TINY
from tests.train.runs import make_run

NAME = "python:my_teacher"
SOURCE = """
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

MEAN, VARIANCE = 0.4, 0.3

def clean(x, sigma, label):  # of a Gaussian
    return MEAN + VARIANCE / (VARIANCE + sigma**2) * (x - MEAN)

def denoise(x, sigma, label):
    return clean(x, sigma, label)

def velocity(x, t, label):  # on the linear path
    a, s = 1 - t, t
    seen = (x - a * MEAN) / (a**2 * VARIANCE + s**2)
    return s * seen - MEAN - a * VARIANCE * seen

class Denoiser(eqx.Module):
    shift: np.ndarray
    def denoise(self, x, sigma, label):
        return clean(x - self.shift, sigma, label) + self.shift

def made():
    return Denoiser(np.zeros((), np.float32))

class Plain:
    sigma_min, sigma_max = 0.1, 3.0
    def denoise(self, x, sigma, label):
        return jnp.where((sigma < 0.099) | (sigma > 3.001), jnp.nan, clean(x, sigma, label))

class Labelled:
    num_classes = 3
    velocity = staticmethod(velocity)

def by_label(x, t, label):
    return velocity(x, t, label) + label

def wrong_shape(x, t, label):
    return x[:1]
def whole(x, t, label):
    return jnp.round(x).astype(int)
def at_the_end(x, t, label):
    return velocity(x, t, label) / (1 - t)
def breaks(x, t, label):
    return x @ jnp.zeros((7, 7))
def loops(x, t, label):
    return jax.lax.while_loop(lambda c: c[1] < 3, lambda c: (0.9 * c[0], c[1] + 1), (x, 0))[0]
def stopped(x, t, label):
    return velocity(jax.lax.stop_gradient(x), t, label)
def rounded(x, t, label):
    return velocity(jnp.round(127.5 * x) / 127.5, t, label)
def steps(x, t, label):
    return velocity(x, jnp.round(1000 * t) / 1000, label)
def partly(x, t, label):
    return x - clean(jnp.round(2 * x) / 2, t, label)
def two(x, t):
    return x
def other(x, y, z):
    return x
def nothing():
    return None
constant = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "my_teacher.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    trust.typed([f"{NAME}:{line.split('(')[0].split()[1]}" for line in SOURCE.splitlines()
                 if line.startswith(("def ", "class "))])  # fmt: skip
    trust.typed([f"{NAME}:constant", f"{NAME}:missing"])
    yield tmp_path / "my_teacher.py"
    sys.modules.pop("my_teacher", None)
    trust._found.clear()
    trust._typed.clear()
    trust.trust_files(False)


def teacher(name, path="linear", classes=0):
    return open_own(f"{NAME}:{name}", PATHS[path](), classes)


def gaussian():
    return GaussianProblem(jnp.full(2, 0.4), 0.3 * jnp.eye(2))


def test_a_denoiser_teaches_the_exact_velocity_on_every_path(normal):
    x, units = normal(9, 2), np.linspace(0.02, 0.98, 9, dtype=np.float32)
    taught = {name: teacher("made", name) for name in PATHS} | {"own": teacher("velocity")}

    @once
    def run(taught, problem, x, units):
        found = {}
        for name, one in taught.items():
            path = one.path
            t = jax.vmap(path.time_of_unit)(units)
            x_t = jax.vmap(lambda x, t, p=path: (p.alpha(t) + p.sigma(t)) * x)(x, t)
            exact = jax.vmap(lambda x, t, p=path: problem.velocity(p, x, t))(x_t, t)
            found[name] = jax.vmap(one.velocity)(x_t, t), exact
        return found

    for name, (got, exact) in run(taught, gaussian(), x.astype(np.float32), units).items():
        np.testing.assert_allclose(got, exact, rtol=2e-5, atol=2e-5, err_msg=name)


def test_a_denoiser_is_asked_for_the_noise_levels_alone_that_it_knows(normal):
    """Here nan elsewhere; from 0.1 to 3 it is exact, and pure noise is off by about a third."""
    x = normal(2).astype(np.float32)
    units = np.float32([0.0, 0.05, 0.1, 0.5, 0.75, 0.8, 1.0])
    plain, problem = teacher("Plain"), gaussian()
    each = lambda x, t: (plain.velocity(x, t), problem.velocity(plain.path, x, t))  # noqa: E731
    found, exact = once(jax.vmap(each, (None, 0)))(x, units)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[2:5], exact[2:5], rtol=1e-5, atol=1e-6)
    assert np.abs(found - exact)[5:].max() < 0.5


def test_guidance_and_a_weak_teacher_stand_around_it_as_around_a_run():
    """And no label is the number of classes."""
    flags = [*TINY, *LABELLED, "--plugin", "ayf-lmd", "--teacher", f"{NAME}:by_label"]
    guided = open_teacher(parse([*flags, "--teaching.scale", "3"]))
    weak = open_teacher(parse([*flags, "--teaching.weak", f"{NAME}:velocity"]))
    assert isinstance(guided, Guided) and isinstance(weak, Autoguided)
    label = np.int32(2)

    @once
    def run(x, t, label):
        cond = Condition(label=label)
        bare = weak.weak.velocity(x, t, cond)
        return (guided.velocity(x, t, cond) - bare, weak.velocity(x, t, cond) - bare,
                weak.strong.velocity(x, t) - bare)  # fmt: skip

    by_scale, by_weak, without = run(np.float32([0.1, 0.2]), np.float32(0.5), label)
    np.testing.assert_allclose(by_scale, 8 + 3 * (2 - 8), rtol=1e-5)
    np.testing.assert_allclose(by_weak, 2 * 2, rtol=1e-5)
    np.testing.assert_allclose(without, 8, rtol=1e-5)


@pytest.mark.parametrize(
    "name, message",
    [
        ("wrong_shape", r"velocity returns shape \(1,\), where a state has \(2,\)"),
        ("whole", "velocity returns int32: return floating-point numbers"),
        ("at_the_end", r"not finite at t = 1 \(unit time 1\)"),
        ("breaks", r"TypeError: .*my_teacher.py, line \d+\)"),
        ("missing", "names no function"),
        ("constant", "is of the type int: give velocity"),
        ("two", "takes x, t: give velocity"),
        ("other", "call the second one t"),
        ("nothing", "returns NoneType: give velocity"),
        ("Labelled", "teacher has 3 classes, data 0"),
    ],
)
def test_a_teacher_that_is_none_is_refused_in_one_line(name, message):
    with pytest.raises(UserError, match=message) as caught:
        check_own(teacher(name), f"{NAME}:{name}", (2,))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, variable",
    [("stopped", "x"), ("rounded", "x"), ("partly", "x"), ("steps", "t"), ("loops", "x")],
)
def test_derivatives_that_are_not_those_of_the_values_are_refused(name, variable):
    """A loop of unknown length has none backwards; without need of them all are taken."""
    shape = (4, 4, 1)
    found = teacher(name)
    check_own(found, name, shape)
    with pytest.raises(UserError) as caught:
        check_own(found, name, shape, (variable,), "lmd")
    said = str(caught.value)
    assert "\n" not in said and ("differentiates" in said or "while_loop" in said)


@pytest.mark.parametrize("path", ["linear", "vp", "edm"])
@pytest.mark.slow
def test_a_smooth_teacher_has_the_derivatives_of_its_values(path):
    check_own(teacher("made", path), "made", (4, 4, 1), ("x", "t"), "lmd")


def test_a_method_that_differentiates_its_teacher_says_so_before_it_is_trained():
    lmd = [*TINY, "--data", "two-moons", "--plugin", "lmd", "--teacher", f"{NAME}:stopped"]
    with pytest.raises(UserError, match="lmd differentiates its teacher in x"):
        open_teacher(parse(lmd))
    assert open_teacher(parse([*lmd, "--plugin.stop-input"])) is not None


def test_the_code_runs_only_where_it_is_typed(tmp_path):
    trust._typed.clear()
    (tmp_path / "config.toml").write_text(
        f'teacher = "{NAME}:velocity"\n[plugin]\nname = "lmd"\n[data]\nname = "two-moons"\n'
    )
    config = parse(["--config", str(tmp_path / "config.toml")])
    with pytest.raises(UserError, match="asks to run code, python:my_teacher:velocity.*--trust"):
        open_teacher(config)
    assert "my_teacher" not in sys.modules
    trust.trust_files()
    assert open_teacher(config) is not None


@pytest.mark.programs(100)
def test_a_run_goes_on_with_the_same_source_alone(module, tmp_path):
    """And opens without it, to be sampled."""
    flags = [*TINY, "--data", "two-moons", "--plugin", "ayf-lmd", "--teacher", f"{NAME}:velocity"]
    run = tmp_path / "run"
    make_run(run, *flags)
    again = parse([*flags, "--run", str(run)])
    assert build_run(again).start.startswith("starts from nothing: its teacher is")
    claim(again)
    module.write_text(SOURCE.replace("0.4", "0.5"))
    with pytest.raises(UserError, match="python: module another source.* --changed"):
        claim(again)
    trust._typed.clear()
    sys.modules.pop("my_teacher", None)
    assert open_run(run).method.objective is not None
    assert "my_teacher" not in sys.modules


@pytest.mark.long
def test_methods_say_whether_they_differentiate_their_teacher(rng):
    """Asked by a velocity whose derivative notes which tangents reach it."""
    taught = [one for one in plugins().values() if one.needs_teacher and not one.tokens]
    assert len(taught) > 10
    for plugin in taught:
        for flags in (*plugin.variants().values(), *_stopped(plugin)):
            assert _differentiated(flags, rng) == set(flags.teacher_derivatives), flags


def _stopped(plugin):
    named = {one.name for one in dataclasses.fields(plugin)}
    flags = plugin.preset("points")
    return [dataclasses.replace(flags, stop_input=True)] if "stop_input" in named else []


def _differentiated(flags, rng):
    """The variables of the teacher's velocity that a tangent of the parameters reaches."""
    found = set()

    @jax.custom_jvp
    def velocity(x, t):
        return x * (1 + t)

    def rule(primals, tangents):
        given = {n: d for n, d in zip("xt", tangents) if not isinstance(d, SymbolicZero)}
        found.update(given)
        x, t = primals
        return velocity(x, t), given.get("x", jnp.zeros_like(x)) * (1 + t)

    velocity.defjvp(rule, symbolic_zeros=True)

    class Noted(Teacher):
        path: LinearPath

        def velocity(self, x, t, cond=None):
            return velocity(x, t)

    path, key = LinearPath(), jr.key(0)
    net = MLPConfig(width=8, depth=2).build((2,), 0, key=key)
    method = flags.method(net, path, Noted(path), Task((2,), "points", 0, 100), key=key)
    trained, static = eqx.partition(
        {"model": method.flow_map, **method.players}, eqx.is_inexact_array
    )
    batch = Batch(jnp.asarray(rng.normal(size=(64, 2)), jnp.float32))

    def total(trained):
        players, objective = eqx.combine(trained, static), method.objective
        carry, step = objective.init(players), jnp.zeros((), jnp.int32)
        return sum(objective(players, frozen(players), carry, batch, key, step)[0].values())

    jax.make_jaxpr(jax.grad(total))(trained)
    return found
