"""The methods of tokens: fixed points, biases, refusals, gradients."""

import dataclasses
import importlib

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jaxtyping import Array

from core.conformance import E0_BOUND, P0_BOUND, check_plugin
from core.conformance.probes import NoNetwork
from core.errors import UserError
from core.flow.categorical import CategoricalMap, TokenMap
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, Path
from core.flow.teacher import MapTeacher, frozen
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.registry import find_plugin, plugins
from core.objectives.categorical import TokenTerm, against, landed
from core.objectives.objective import Batch
from core.objectives.row import Row
from core.times.unit import Times
from plugins.categorical.base import CategoricalPlugin
from plugins.categorical.cat_mf import MeanFlowEndpoint
from plugins.categorical.dfm_esd import EulerianEndpoint
from plugins.categorical.dfm_psd import first_share
from tests.compiling import device, once
from tests.objectives.terms import TinyNet
from tests.reach import reached

importlib.import_module("plugins")
NAMES = sorted(name for name, cls in plugins().items() if cls.tokens)
BIASED = {"cfm-ecld"}
TASK = Task((3, 4), "tokens", 0, 10)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_exact_map_is_a_fixed_point_and_a_wrong_one_is_not(name, x64):
    checks = check_plugin(find_plugin(name)(), LinearPath())
    assert [check.kind for check in checks] == ["P0", "E0"] * (1 if name == "fmlm" else 2)
    for check in checks:
        bound = {"P0": P0_BOUND, "E0": E0_BOUND}[check.kind]
        assert check.bound == bound < check.control and check.passed
        if name in BIASED and "jump" in check.name:
            assert check.biased and check.value > bound
        else:
            assert not check.biased and check.value <= bound


class Damaged(TokenTerm):
    """The compositional rule with a factor before its share: 1 is right."""

    factor: float = 1.0

    def pull(self, model, row):
        still, u = frozen(model), (row.s + row.t) / 2
        first = still.endpoint(row.x_s, row.s, u)
        second = still.endpoint(landed(row, first, u), u, row.t)
        share = self.factor * first_share(row.s, u, row.t)
        return against(model.logits(row.x_s, row.s, row.t), share * first + (1 - share) * second)


@dataclasses.dataclass(frozen=True)
class WrongShare(CategoricalPlugin):
    card = Card("wrong", rule="compositional", supervision="", source="here", cost=3.5)
    factor: float = 1.0

    def jump(self):
        return Damaged(self.factor)


@pytest.mark.long
@pytest.mark.parametrize("factor, passed", [(1.0, True), (0.9, False)])
def test_a_wrong_share_of_the_first_jump_is_seen(factor, passed, x64):
    *_, residual, update = check_plugin(WrongShare(factor=factor), LinearPath())
    assert residual.passed == update.passed == passed


class AnyToken(eqx.Module):
    """A network of one position whose logits are a matrix times what it gets."""

    weight: jax.Array

    def __call__(self, x, s, t, cond=None):
        return jnp.tanh(x @ self.weight * (1 + s)) + t * x


@pytest.mark.long
def test_meanflow_pulls_by_the_derivative_along_the_pair(normal, x64):
    """By central differences of the softmax: `w (psi - e + D_s psi s (s - t) / t)`."""
    model = CategoricalMap(AnyToken(jnp.asarray(normal(4, 4))), LinearPath())
    objective = find_plugin("cat-mf")().method(NoNetwork(), LinearPath(), None, TASK, key=jr.key(0))
    kind = objective.objective.kinds[1]

    def run(x_0, z):
        batch = Batch(x_0[None], None, z[None])
        rows = objective.objective.rows(kind, batch, jr.key(1), jnp.asarray(0))
        row = jax.tree.map(lambda leaf: leaf[0], rows)

        def psi(h):
            return model.endpoint(row.x_s + h * row.v, row.s + h, row.t)

        slope = (psi(1e-5) - psi(-1e-5)) / 2e-5
        found = MeanFlowEndpoint()(model, model, row)
        weight = row.t / (row.t + row.s * (row.s - row.t))
        reach = row.s * (row.s - row.t) / row.t
        return found, weight * (psi(0.0) - row.x_0 + reach * slope), (row.x_s - x_0) / row.s - row.v

    found, expected, nothing = once(run)(np.eye(4)[[1, 0, 3]], normal(3, 4))
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(nothing, 0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_data_that_are_no_tokens_are_refused_in_one_line(name):
    task = Task((8, 8, 1), "image", 10)
    with pytest.raises(UserError, match="is for tokens, such as --data text"):
        find_plugin(name)().method(NoNetwork(), LinearPath(), None, task, key=jr.key(0))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_gradients_can_reach_the_map_and_nothing_else(name):
    """At all times of a step, from noise to data; what is logged is there."""
    method, steps = built(name), jnp.asarray(4)
    batch = Batch(device(np.eye(4, dtype=np.float32)[np.arange(24).reshape(8, 3) % 4]))
    everything = {"model": method.flow_map, **method.players}
    trained, static = eqx.partition(everything, eqx.is_inexact_array)

    def losses(trained, target):
        stopped = frozen(eqx.combine(target, static))
        players = eqx.combine(trained, static)
        found, _, seen = method.objective(players, stopped, None, batch, jr.key(2), steps)
        assert "jump/residual" in seen and ("diagonal/cross_entropy" in seen) == (name != "fmlm")
        return found

    found = reached(losses, trained, trained)
    net = "student.net" if name == "fmlm" else "net"
    assert found["model"] == {f"[0]['model'].{net}.{leaf}" for leaf in ("first", "second")}
    assert all(leaf.startswith("[0]['log_weight']") for leaf in found.get("log_weight", ()))


def built(name):
    """A method around a small network, and where it has a teacher around one of the same kind."""
    plugin, path = find_plugin(name)(), LinearPath()
    nets = [TinyNet((3, 4), key=jr.key(seed)) for seed in (0, 1)]
    teacher = MapTeacher(CategoricalMap(nets[1], path)) if plugin.needs_teacher else None
    return plugin.method(nets[0], path, teacher, TASK, key=jr.key(2))


@pytest.mark.long
def test_the_diagonal_of_a_residual_map_is_its_teacher_and_a_run_opens_with_both(normal):
    path = LinearPath()
    taught = CategoricalMap(TinyNet((3, 4), key=jr.key(1)), path)
    made = find_plugin("fmlm")().method(
        TinyNet((3, 4), key=jr.key(0)), path, MapTeacher(taught), TASK, key=jr.key(2)
    )
    opened = find_plugin("fmlm")().flow_map(TinyNet((3, 4), key=jr.key(0)), path)
    shapes = [[leaf.shape for leaf in jax.tree.leaves(m)] for m in (made.flow_map, opened)]
    assert shapes[0] == shapes[1] and made.flow_map.evaluations == 2

    def run(x, s):
        return made.flow_map.velocity(x, s), taught.velocity(x, s)

    np.testing.assert_array_equal(*once(run)(normal(3, 4), np.float32(0.7)))


def test_a_teacher_of_another_kind_or_network_is_refused():
    plugin, path = find_plugin("fmlm")(), LinearPath()
    net, wide = TinyNet((3, 4), key=jr.key(0)), TinyNet((3, 4), width=8, key=jr.key(0))
    plain = MapTeacher(AverageVelocityMap(net, path))
    other = MapTeacher(CategoricalMap(wide, path))
    wrong = {"a run of tokens": plain, "needs a teacher": None, "the same --net flags": other}
    for words, teacher in wrong.items():
        with pytest.raises(UserError, match=words):
            plugin.method(net, path, teacher, TASK, key=jr.key(0))


class Still(TokenMap):
    """A diagonal that is one distribution `p` everywhere, so that the flow goes straight away from
    it, and at `t = 0` an endpoint that is the same all along each way."""

    p: Array
    path: Path = LinearPath()
    bent: float = 0.0

    def logits(self, x, s, t, cond=None):
        return jnp.where(s == t, jnp.log(self.p), (x - self.p) / s + self.bent * x)


@pytest.mark.slow
def test_the_eulerian_rule_leaves_whole_jumps_alone_where_they_keep_their_end():
    """`psi` along `x + r (x - p) / s`: constant, and with a bend of slope `bent (x - p) / s`."""
    p, x = np.array([[0.7, 0.2, 0.1]], np.float32), np.array([[1.0, -0.5, 0.3]], np.float32)
    s, bent = np.float32(0.8), 0.25

    def pulls(p, x, s):
        t = jnp.zeros_like(s)
        row = Row(x, x, s, s, t, Times(s, s, t), x, x, None, jr.key(0), t, s)
        return [EulerianEndpoint().pull(Still(p, bent=b), row)[1] for b in (0.0, bent)]

    still, moved = once(pulls)(p, x, s)
    slope = (x - p) / s
    psi = np.exp(slope + bent * x) / np.exp(slope + bent * x).sum()
    wanted = psi * bent * (slope - (psi * slope).sum())
    assert np.abs(still).max() < 1e-6
    assert np.allclose(moved, wanted, atol=1e-5) and np.abs(wanted).max() > 0.01


def test_a_share_of_the_jumps_is_the_whole_one():
    plugin = dataclasses.replace(find_plugin("cat-mf")(), full=0.25)
    jumps = plugin.kinds(4)[1].times
    s, t = once(lambda key, progress: jumps(key, 8, progress))(jr.key(0), np.float32(0))
    assert ((s == 1) & (t == 0)).sum() == 2 and (s >= t).all()
    with pytest.raises(UserError, match="--plugin.full must be in"):
        dataclasses.replace(plugin, full=1.5)
    with pytest.raises(UserError, match="nothing from jumps to t = 0: leave out --plugin.full"):
        dataclasses.replace(find_plugin("cfm-csd")(), full=0.1)
