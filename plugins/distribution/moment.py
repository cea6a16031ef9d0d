"""Moment matching: the mean of a student's samples, given the same with noise, is the teacher's.

    E[x | x_tau] = D_r(x_tau),      x_tau = alpha x + sigma z',      x = F(x_s, s, 0)

    L   = E <x, sg[D_f(x_tau) - D_r(x_tau)]>
    L_f = E |v_f(x_tau, tau) - v|^2 + |v_f(x_tau, tau) - v_r(x_tau, tau)|^2

`D_r` is the frozen teacher's denoiser, `D_f` that of the player "fake". The second part of its loss
holds it near the teacher: its best is halfway between the mean of the samples and the teacher's, so
`D_f - D_r` is half of the gap between the two moments, and a fake that lags pushes less.
"""

import dataclasses

from core.errors import require
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from plugins.distribution.dmd import Matching
from plugins.distribution.game import FakePlugin, Game


@register
class Moment(FakePlugin):
    """Moment matching distillation (arXiv 2406.04103): one step, or several with --plugin.middle.

    The paper draws `x_tau` from the bridge between `x_s` and `x`, and steps so. Here its noise is
    fresh, as `restart` draws it: the two agree for `s = 1`, and below it the jumps of a flow map
    match the moments at fresh noise, not on the bridge, since `F(x_s, s, 0)` is no draw of the
    posterior given `x_s`. The fake's loss is that of velocities, which weighs by `(det / sigma)^2`.
    """

    card = Card(
        "moment",
        rule="none (distributions of samples)",
        supervision="teacher, distribution of the samples",
        source="arXiv 2406.04103",
        cost=7,
        whole_cost=7,
        parameterisation="F(z, 1, 0)",
        gradient="F(z, 1, 0)",
        targets="teacher, current, fake",
    )
    recipes = (
        Recipe("small-image", "digits", 287, 0.23, None, "tuned-digits"),
    )  # fmt: skip

    every: int = 2
    tether: float = 1.0
    """Weight of the fake's distance to the teacher; 0 takes it away, as in dmd."""

    def __post_init__(self):
        super().__post_init__()
        require(self.tether >= 0, f"--plugin.tether must not be negative, got {self.tether}")

    def game(self, path: Interpolant, task: Task, teacher: Teacher) -> Game:
        rules, anchor = self.rules(path, task, teacher), self.anchored(path, task)
        return Matching(**rules, anchor=anchor, normalise=False, tether=self.tether)

    @classmethod
    def variants(cls):
        """Every step trains the map, from the first on: jumps from noise, and from between too."""
        plain = dataclasses.replace(cls.preset("points"), every=1, wait=0.0)
        return {"": plain, "middle": dataclasses.replace(plain, middle=0.5)}
