"""Flags that the authors' own codes have: what each changes, by its formula."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, VPPath
from core.methods.plugin import Task
from core.methods.registry import find_plugin
from core.objectives.guidance import GuidanceConfig
from core.objectives.objective import GroupTerm
from core.objectives.row import make_row
from core.times.distributions import Uniform
from core.times.pairs import Growing
from core.times.unit import Times
from plugins.compositional.psd import PSD
from plugins.compositional.shortcut import Shortcut
from plugins.consistency.gcm import GCMConstant
from plugins.consistency.scm import SCT
from plugins.eulerian.ayf_emd import AYFScratch
from plugins.eulerian.esd import ESD
from plugins.lagrangian.lsd import LSD
from plugins.meanflow.imf import IMF
from plugins.meanflow.mf import MF
from tests.compiling import once

PATH, TASK = LinearPath(), Task((2,))
S, T = 0.8, 0.3


def linear(rate):
    """`V(x, s, t) = rate x`."""
    return AverageVelocityMap(net=lambda x, s, t, cond: rate * x, path=PATH)


def residual(term, a, b, normal):
    """The residual where the map is `a x` and the targets' map `b x`, and `x_s`."""

    def run(x_0, z):
        row = make_row(PATH, x_0, z, jnp.asarray(S), jnp.asarray(T), None, jr.key(0))
        return term(linear(a), linear(b), row), row.x_s

    return once(run)(normal(2), normal(2))


def test_the_parts_of_the_guide_follow_its_formulas():
    """`w = s^gamma e^(-lambda s) / p`, steps as `e^(-mu s)`, `p` as the sine of a line."""
    plugin = GCMConstant(gamma=0.2, decay=3.0, rate=2.0, ends=(0.9, 0.2), mean_gap=0.005)
    s = np.array([0.1, 0.4, 0.9], np.float32)

    def run(s):
        weight = jax.vmap(lambda one: plugin.factor()(Times(one, one, jnp.zeros_like(one))))(s)
        return weight, plugin.step_function().gap(s, jnp.ones(()))

    weight, gap = once(run)(s)
    a, b = np.pi / 2 * np.array([0.9, 0.2])
    density = (a - b) * np.sin(a * s + b * (1 - s)) / (np.cos(b) - np.cos(a))
    np.testing.assert_allclose(weight, s**0.2 * np.exp(-3 * s) / density, rtol=1e-4)
    np.testing.assert_allclose(gap[1:] / gap[:-1], np.exp(-2 * np.diff(s)), rtol=1e-4)
    mean = gap[0] * np.exp(2 * s[0]) * (1 - np.exp(-2.0)) / 2
    assert mean == pytest.approx(0.005, rel=1e-3)


@pytest.mark.parametrize("flags", [{"ends": (0.1, 0.5)}, {"gamma": -1.0}, {"rate": 0.0}])
def test_settings_of_the_guide_that_cannot_be_are_refused(flags):
    with pytest.raises(UserError, match=f"--plugin.{next(iter(flags))}"):
        GCMConstant(**flags)


@pytest.mark.parametrize("data_std", [1.0, 0.5])
def test_the_constant_of_scm_is_added_to_the_tangent_in_units_of_the_state(data_std, normal):
    """The residual is `g / data_std`, and its gradient has the length `|g| / (|g| + c)`."""
    g, s = normal(4), jnp.asarray(0.5)
    weight = SCT(data_std=data_std, constant=0.1).distance()
    slope = once(jax.grad(lambda R: weight(R, Times(s, s, s)) / 2))(g / data_std)
    length = np.linalg.norm(g)
    assert np.linalg.norm(slope) == pytest.approx(length / (length + 0.1), rel=1e-5)


@pytest.mark.parametrize("decay", [0.0, 0.99])
def test_targets_of_self_distillation_use_an_ema_where_asked(decay, normal, x64):
    """`V = a x` in training, `b x` in the targets; without the flag `esd` and `psd` never look at
    the targets' map, and the trainer hands `lsd` the current parameters."""
    a, b = 0.7, 0.4
    c, gap = (b if decay else a), T - S
    plugins = [cls(target_decay=decay) for cls in (ESD, LSD)]
    for plugin in (PSD(midpoint=True, target_decay=decay), *plugins):
        assert plugin.target_parameters(TASK) == {"target_decay": decay or None}
        found, x = residual(plugin.jump(None), a, c if isinstance(plugin, LSD) else b, normal)
        expected = {
            PSD: a * x - (c * x + c * (x + gap / 2 * c * x)) / 2,
            ESD: -a * x + c * x + gap * a * c * x,
            LSD: a * x - c * (x + gap * a * x),
        }[type(plugin)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_head_in_the_guided_target_needs_a_head():
    with pytest.raises(UserError, match=r"--plugin\.head"):
        IMF(guidance=GuidanceConfig(most=4.0, head=True))
    IMF(guidance=GuidanceConfig(most=4.0, head=True), head=True)


@pytest.mark.parametrize("plugin", [MF, SCT])
@pytest.mark.parametrize("path", [LinearPath(), VPPath()])
def test_a_central_difference_is_close_to_the_exact_derivative(plugin, path, normal, x64):
    """On a smooth map, by the square of the step; near the data end no time leaves the path."""
    net = lambda x, s, t, cond: jnp.sin(x + 2 * s) * (1 + t)  # noqa: E731
    x_0, z = normal(3, 2), normal(3, 2)

    def residuals(step):
        flags = {} if step is None else {"derivative": "difference", "step": step}
        term, model = plugin(**flags).jump(None), AverageVelocityMap(net=net, path=path)

        def one(x_0, z, s):
            end = jnp.asarray(path.t_min)
            return term(model, model, make_row(path, x_0, z, s, end, None, jr.key(0)))

        times = jnp.asarray([0.9, 0.4, 1e-3])
        return jax.vmap(one)(x_0, z, jax.vmap(path.time_of_unit)(times))

    exact, coarse, fine = once(lambda: [residuals(step) for step in (None, 0.02, 0.01)])()
    wide, narrow = (np.abs(found - exact)[:2] for found in (coarse, fine))
    assert np.isfinite(coarse).all() and np.abs(exact).max() > 0.1
    np.testing.assert_allclose(wide / narrow, 4, rtol=0.1)


def test_the_guided_bootstrap_of_shortcut_and_its_clip(normal, x64):
    """On the smallest jump: two Euler steps along the guided velocity of the targets' map, middle
    and mean clipped. On longer ones two plain halves."""
    w, clip, null, a = 1.5, 0.8, 4, 0.7

    def net(x, s, t, cond):
        return jnp.where(cond.label == null, 0.2, 1.0) * x * (1 + t)

    plugin = Shortcut(bootstrap_scale=w, clip=clip, sizes=4)
    (kind,) = (k for k in plugin.kinds(None, Task((2,), num_classes=null)) if k.name == "jump")
    target = AverageVelocityMap(net=net, path=PATH)

    def run(x_0, z, s, t):
        cond = Condition(jnp.asarray(1))
        row = make_row(PATH, x_0, z, s, t, cond, jr.key(0))
        assert not isinstance(kind.term, GroupTerm)
        return kind.term.residuals({"model": linear(a)}, {"model": target}, row)["model"][
            0
        ], row.x_s

    run = once(jax.vmap(run))
    s, t = np.array([0.5, 0.75]), np.array([0.375, 0.25])
    found, x = run(normal(2, 8), normal(2, 8), s, t)

    def halves(x, s, t, scale):
        def half(x, u, end):
            v = (0.2 + scale * 0.8) * x * (1 + (u if scale > 1 else end))
            return v

        u = (s + t) / 2
        first = half(x, s, u)
        middle = np.clip(x + (u - s) * first, -clip, clip)
        return np.clip((first + half(middle, u, t)) / 2, -clip, clip)

    expected = np.array([halves(x[0], s[0], t[0], w), halves(x[1], s[1], t[1], 1.0)])
    clipped = (np.abs(expected) == clip).mean(axis=1)
    assert (clipped > 0).all() and (clipped < 1).all()
    np.testing.assert_allclose(a * x - found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("flags", "classes"),
    [({"grounded": False}, 4), ({"label_drop": 0.0}, 4), ({}, 0)],
)
def test_a_guided_bootstrap_needs_labels_and_a_ground(flags, classes):
    with pytest.raises(UserError, match="--plugin.bootstrap-scale"):
        Shortcut(bootstrap_scale=1.5, **flags).kinds(None, Task((2,), num_classes=classes))


def test_align_your_flow_without_a_teacher_takes_its_own_diagonal(normal, x64):
    """`V - [v + r (t - s) grad V v]` for a linear map, `v` of the targets' map."""
    a, b = 0.7, 0.4
    found, x = residual(AYFScratch(warm_to=0.9).jump(None), a, b, normal)
    np.testing.assert_allclose(found, a * x - (b * x + 0.9 * (T - S) * a * b * x), rtol=1e-12)


def test_jumps_grow_where_they_lead_between_any_two_times():
    """The diagonal stays, and methods of given jumps refuse it."""
    kinds = {kind.name: kind for kind in LSD(grow=0.5).row_objective(PATH, None, TASK).kinds}
    assert isinstance(kinds["jump"].times, Growing) and kinds["jump"].times.until == 0.5
    assert not isinstance(kinds["diagonal"].times, Growing)
    with pytest.raises(UserError, match="shortcut does not train jumps between any two times"):
        Shortcut(grow=0.5).row_objective(PATH, None, TASK)
    with pytest.raises(UserError, match=r"--plugin.grow must be in \[0, 1\]"):
        LSD(grow=-1.0)


@pytest.mark.parametrize("name", ["sct", "scd", "cct", "ccd"])
def test_on_small_images_rows_near_the_data_count_most_and_no_learned_weight_undoes_it(name):
    """The weight of a row there, over the one that it has elsewhere: `s e^(-6 s)`."""
    small, other = (find_plugin(name).preset(kind) for kind in ("small-image", "image"))
    assert not small.learned_weight and isinstance(small.distribution(), Uniform)
    assert small.weighting == "gamma" and other.weighting == "one"

    def run(s):
        times, residual = Times(s, s, jnp.zeros_like(s)), jnp.full(3, 0.5)
        return small.weight()(residual, times) / other.weight()(residual, times)

    for s in np.array([0.1, 0.9], np.float32):
        assert float(once(run)(s)) == pytest.approx(s * np.exp(-6 * s), rel=1e-5)
