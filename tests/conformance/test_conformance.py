"""The oracle checks pass what is right and catch what is wrong."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from core.conformance import E0_BOUND, P0_BOUND, Check, check_plugin, largest_score, problems
from core.flow import rules
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import PATHS, LinearPath, TrigPath
from core.methods.plugin import Method, Plugin
from core.objectives.objective import FlowMatching, Objective, RowKind, Term
from core.objectives.row import make_row
from core.objectives.rows import RowObjective
from core.times.distributions import Uniform
from core.times.pairs import Diagonal, OrderedPair
from plugins.flow_matching import FM
from plugins.meanflow import IMF, MF

pytestmark = pytest.mark.programs(80)

ROWS = 2048
OURS = {"fm": FM.preset("points"), "imf head": IMF.variants()["head"]}


def checks_of(plugin, path=LinearPath(), rows=ROWS):
    """The checks on the problem that compiles fast: enough for a fault to show."""
    return check_plugin(plugin, path, problems={"gaussian": problems()["gaussian"]}, rows=rows)


# --- What is right passes ---


@pytest.mark.parametrize("name", OURS)
def test_our_methods_pass_and_their_controls_fail(name, x64):
    """On the Gaussian; `tests/plugins` has every method on the mixture."""
    checks = checks_of(OURS[name])
    kinds = 1 if name == "fm" else 2
    assert [check.kind for check in checks] == ["P0", "E0"] * kinds
    for check in checks:
        assert check.value <= check.bound < check.control, check
        assert check.bound == {"P0": P0_BOUND, "E0": E0_BOUND}[check.kind]
        assert check.to_json()["passed"] is True


@pytest.mark.parametrize(
    "path", ["trig", "vp", *(pytest.param(p, marks=pytest.mark.slow) for p in ("cosine", "edm"))]
)
def test_meanflow_passes_on_every_path(path, x64):
    checks = checks_of(MF.preset("points"), PATHS[path]())
    assert all(check.passed for check in checks), checks


# --- What is wrong does not ---


class Regression(Term):
    """A diagonal row whose target is `scale v + wrong x_0`."""

    scale: Array
    wrong: Array

    def __call__(self, model, target, row):
        return model.velocity(row.x_s, row.s) - self.scale * row.v - self.wrong * row.x_0


class MeanFlowLike(Term):
    """MeanFlow with a factor before the derivative (1 is right) and one before the velocity."""

    sign: Array
    scale: Array

    def __call__(self, model, target, row):
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, row.v)
        gap = self.sign * (row.t - row.s)
        return V - jax.lax.stop_gradient(self.scale * row.v + gap * dV_ds)


class ImprovedLike(Term):
    """The same two factors in improved MeanFlow."""

    sign: Array
    scale: Array

    def __call__(self, model, target, row):
        tau = jax.lax.stop_gradient(model.velocity(row.x_s, row.s))
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, tau)
        return V - self.sign * (row.t - row.s) * jax.lax.stop_gradient(dV_ds) - self.scale * row.v


@dataclass(frozen=True)
class ThirdParty(Plugin):
    """A method of one diagonal and one jump term, on the path given or on one of its own."""

    diagonal: Any = FlowMatching()
    jump: Any = None
    own_path: Any = None
    share: float = 0.5

    def method(self, net, path, teacher, task, *, key):
        jump, uniform = self.jump or MeanFlowLike(jnp.array(1.0), jnp.array(1.0)), Uniform()
        kinds = (
            RowKind("diagonal", self.share, Diagonal(uniform), self.diagonal),
            RowKind("jump", 1 - self.share, OrderedPair(uniform, uniform), jump),
        )
        objective = RowObjective(self.own_path or path, kinds, task.num_classes)
        return Method(AverageVelocityMap(net, path), objective)


def failed(plugin):
    """The kinds of rows that fail, by kind of check."""
    checks = checks_of(plugin)
    bad = [check for check in checks if not check.passed]
    return {kind: {c.name.split()[1] for c in bad if c.kind == kind} for kind in ("P0", "E0")}


def like(term, sign, scale):
    return ThirdParty(jump=term(jnp.array(sign), jnp.array(scale)))


def diagonal(scale, wrong):
    return ThirdParty(diagonal=Regression(jnp.array(scale), jnp.array(wrong)))


NONE, JUMP, DIAGONAL = set(), {"jump"}, {"diagonal"}
CASES = {
    "meanflow, right": (lambda: like(MeanFlowLike, 1.0, 1.0), NONE),
    "meanflow, flipped sign": (lambda: like(MeanFlowLike, -1.0, 1.0), JUMP),
    "meanflow, no derivative": (lambda: like(MeanFlowLike, 0.0, 1.0), JUMP),
    "meanflow, velocity scaled": (lambda: like(MeanFlowLike, 1.0, 1.05), JUMP),
    "improved, right": (lambda: like(ImprovedLike, 1.0, 1.0), NONE),
    "improved, flipped sign": (lambda: like(ImprovedLike, -1.0, 1.0), JUMP),
    "improved, velocity scaled": (lambda: like(ImprovedLike, 1.0, 1.05), JUMP),
    "diagonal, right": (lambda: diagonal(1.0, 0.0), NONE),
    "diagonal, velocity scaled": (lambda: diagonal(1.05, 0.0), DIAGONAL),
    "diagonal, regresses the data": (lambda: diagonal(0.0, 1.0), DIAGONAL),
    "another path's velocity": (lambda: ThirdParty(own_path=TrigPath()), JUMP | DIAGONAL),
}


@pytest.mark.parametrize("case", CASES)
def test_a_fault_is_caught_in_the_rows_that_have_it(case, x64):
    plugin, faulty = CASES[case]
    found = failed(plugin())
    assert found["P0"] == faulty
    if "scaled" not in case:  # five per cent are within the sampling error of so few rows
        assert found["E0"] == faulty


def test_kinds_without_a_share_are_not_checked(x64):
    checks = checks_of(ThirdParty(share=1.0), rows=64)
    assert {check.name for check in checks} == {
        "gaussian: diagonal residual",
        "gaussian: diagonal update",
    }


# --- Objectives that are not made of rows: their expected update ---


class WholeBatch(Objective):
    """Improved MeanFlow on a batch of its own making, with `sign` before the derivative."""

    sign: float

    def __call__(self, players, target, carry, batch, key, step):
        key_s, key_t, key_z = jr.split(key, 3)
        n, path, model = len(batch.x_0), players["model"].path, players["model"]
        s, t = jr.uniform(key_s, (n,)), jr.uniform(key_t, (n,))
        z = jr.normal(key_z, batch.x_0.shape)
        term = ImprovedLike(jnp.array(self.sign), jnp.array(1.0))

        def one(x_0, z, s, t):
            row = make_row(path, x_0, z, jnp.maximum(s, t), jnp.minimum(s, t), None, key)
            return jnp.sum(term(model, target["model"], row) ** 2)

        total = jnp.mean(jax.vmap(one)(batch.x_0, z, s, t)) + players["other"]
        return {"model": total, "other": -players["other"]}, carry, {"loss": total}


@dataclass(frozen=True)
class Whole(Plugin):
    sign: float = 1.0

    def method(self, net, path, teacher, task, *, key):
        flow_map = AverageVelocityMap(net, path)
        return Method(flow_map, WholeBatch(self.sign), {"other": jnp.array(0.3)})


@pytest.mark.parametrize("sign, passed", [(1.0, True), (-1.0, False)])
def test_an_objective_without_rows_is_checked_by_its_expected_update(sign, passed, x64):
    (check,) = checks_of(Whole(sign=sign))
    assert (check.kind, check.name) == ("E0", "gaussian: expected update")
    assert check.passed == passed
    assert (check.value <= E0_BOUND) == passed


# --- The parts ---


def test_the_checks_ask_for_64_bit_floats():
    with pytest.raises(ValueError, match="64-bit floats"):
        check_plugin(FM(), LinearPath(), rows=64)


def test_a_check_needs_its_control_to_fail():
    assert Check("c", "P0", 0.0, 1.0, 2.0).passed
    assert not Check("c", "P0", 0.0, 1.0, 0.5).passed
    assert not Check("c", "P0", 1.5, 1.0, 2.0).passed
    assert not Check("c", "P0", float("nan"), 1.0, 2.0).passed


def test_the_score_counts_standard_errors(rng):
    noise = rng.standard_normal((10_000, 4))
    assert largest_score(noise) < 4
    shifted = noise + np.array([0.0, 0.0, 0.1, 0.0])
    assert largest_score(shifted) == pytest.approx(10, abs=4)
    assert largest_score(np.zeros((10, 2))) == 0
    assert largest_score(np.where(noise > 3, np.nan, noise)) == float("inf")
