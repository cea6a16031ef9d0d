"""What low precision does to residuals: emulated, declared, refused, and measured."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.conformance.emulation import with_tf32
from core.conformance.precision import precision_errors
from core.conformance.probes import NoNetwork
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.flow.teacher import MapTeacher
from core.methods.plugin import Task
from core.methods.precision import amplification, check_precision
from core.methods.registry import plugins
from core.objectives.objective import Batch, GroupTerm
from core.objectives.rows import RowObjective
from plugins.consistency.scm import SCT
from plugins.meanflow.alphaflow import AlphaFlow
from plugins.meanflow.mf import MF

PATH, TASK = LinearPath(), Task((2,), "points", 0)
DIFFERENCES = (
    "boot", "cd", "ct", "ect", "freeflow", "gcm-cu", "gcm-vu", "ict", "imm", "pid", "soflow",
    "alphaflow",
)  # fmt: skip
"""Methods whose residual is a difference of two evaluations across a gap."""
REFUSED = ("alphaflow", "ect", "freeflow", "gcm-cu", "gcm-vu", "ict", "pid", "soflow")


def plain(name, **flags):
    return dataclasses.replace(plugins()[name].preset("image"), **flags)


def objective_of(plugin):
    teacher = MapTeacher(AverageVelocityMap(net=lambda x, s, t, cond: x * t, path=PATH))
    objective = plugin.method(NoNetwork(), PATH, teacher, TASK, key=jr.key(0)).objective
    assert isinstance(objective, RowObjective)
    return objective


def in_tf32(x):
    """Round to nearest, ties to even, at 10 bits of fraction; by the bits of the number."""
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    bits += 0xFFF + ((bits >> 13) & 1)
    return ((bits >> 13) << 13).astype(np.uint32).view(np.float32)


def test_rounded_products_are_those_of_rounded_operands(normal):
    """In a loop, under `jit` and where they are differentiated; not where more is asked for."""
    A, B = normal(3, 8, 8), normal(8, 4)

    def product(A, B):
        def step(carry, a):
            with jax.default_matmul_precision("highest"):
                exact = a @ carry
            return carry, (jax.jit(jnp.matmul)(a, carry), exact)

        return jax.lax.scan(step, B, A)[1]

    rounded, exact = jax.jit(with_tf32(product))(A, B)
    expected = np.einsum("kij,jl->kil", *(in_tf32(np.asarray(x)) for x in (A, B)), dtype=np.float64)
    np.testing.assert_allclose(rounded, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(np.asarray(rounded) - exact).max() > 1e-4
    np.testing.assert_allclose(exact, np.asarray(A) @ np.asarray(B), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_both_evaluations_of_a_difference_take_full_products(name, x64):
    """Read off the traced program: each product with the map's weight asks for the highest."""
    weight = jax.device_put(np.eye(2))
    objective = objective_of(plain(name))
    kind = next(kind for kind in objective.kinds if kind.term.amplification(kind.step) > 1)
    batch = Batch(jax.device_put(np.ones((2, 2))))

    def residuals(weight):
        net = lambda x, s, t, cond: weight @ x * s + t  # noqa: E731
        model = AverageVelocityMap(net=net, path=PATH)
        rows = objective.rows(kind, batch, jr.key(1), jnp.ones((), jnp.int32))
        term = kind.term.single() if isinstance(kind.term, GroupTerm) else kind.term
        row = jax.tree.map(lambda leaf: leaf[0], rows)
        players = {"model": model, "auxiliary": model}
        return term.residuals(players, players, row)["model"]

    program = jax.make_jaxpr(residuals)(weight).jaxpr
    asked = [e.params["precision"] for e in program.eqns if e.primitive.name == "dot_general"]
    assert len(asked) >= 2
    assert set(asked) == {(jax.lax.Precision.HIGHEST,) * 2}


@pytest.mark.parametrize(
    "term, expected",
    [
        # Two evaluations, each rounded, over the distance of their times; of a jump of half an
        # interval in the mean.
        (MF(derivative="difference", step=0.01).jump(None), 25.0),
        (SCT(derivative="difference", step=0.01).jump(None), 25.0),
        (SCT().jump(None), 1.0),
        (MF().jump(None), 1.0),
        (AlphaFlow(least=0.02).jump(None), 50.0),
    ],
)
def test_a_difference_amplifies_rounding_by_its_step(term, expected):
    assert term.amplification(None) == pytest.approx(expected)


@pytest.mark.parametrize("name", REFUSED)
def test_bfloat16_is_refused_where_it_leaves_noise(name):
    plugin = plain(name)
    objective, exact = objective_of(plugin), hasattr(plugin, "derivative")
    check_precision(name, objective, "float32", exact=exact)
    with pytest.raises(UserError, match=r"--net\.dtype float32") as caught:
        check_precision(name, objective, "bfloat16", exact=exact)
    assert ("--plugin.derivative exact" in str(caught.value)) == exact
    if exact:
        changed = objective_of(dataclasses.replace(plugin, derivative="exact"))
        check_precision(name, changed, "bfloat16", exact=True)


@pytest.mark.slow
@pytest.mark.programs(80)
def test_all_other_methods_may_compute_in_bfloat16():
    for name, cls in plugins().items():
        if cls.card.kind != "method" or name in REFUSED:
            continue
        teacher = MapTeacher(AverageVelocityMap(net=NoNetwork(), path=PATH))
        task = Task((8, 8, 1), "image", 10)
        try:
            made = cls.preset("image").method(NoNetwork(), PATH, teacher, task, key=jr.key(0))
        except UserError:
            continue
        check_precision(name, made.objective, "bfloat16", exact=False)
        assert amplification(made.objective) < 64


@pytest.mark.slow
def test_measured_errors_are_those_that_are_declared():
    """A coarse `soflow`: the error in bfloat16 is its rounding times the declared factor, and
    products of rounded operands do no harm."""
    plugin = plain("soflow", start=0.02, end=0.02, diagonal=0.0)
    (found,) = precision_errors(plugin, PATH, rows=32, precisions=("tf32", "bfloat16"))
    assert found.declared == pytest.approx(50)
    assert 0.3 < found.errors["bfloat16"] / (50 * 2**-8) < 2
    assert found.errors["tf32"] < 1e-3
    assert found.passed
