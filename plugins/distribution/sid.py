"""Score identity distillation: the Fisher divergence of noised samples from the teacher, and an
identity of the scores that makes it one that a trained fake can follow.

    L   = E <D_r - D_f, (D_r - x) - a (D_r - D_f)> / sg[mean|x - D_r|],    x = F(z, 1, 0)
    L_f = E |v_f(x_tau, tau) - v|^2,                                x_tau = alpha x + sigma z'

`D_r` is the frozen teacher's denoiser and `D_f` that of the player "fake", both at `x_tau`; the
gradient flows through `x`, through `x_tau` and so through both denoisers, not to their parameters.
With `D_f = E[x | x_tau]` the mean of `<D_r - D_f, D_r - x>` is `E |D_r - D_f|^2`.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
from core.flow.field import VelocityField
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher, frozen
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.one_step import Starts
from plugins.distribution.game import (
    FakePlugin,
    Game,
    Noised,
    clean,
    denoised,
    each,
    over,
    stop,
    velocities,
)


class Identity(Game):
    """The game of `dmd` with the loss of score identity distillation.

    With a fake that is exact the loss is `(1 - alpha) E |D_r - D_f|^2` in value; its gradient is
    not, for the fake does not follow the samples. `alpha` weighs two estimates of that gradient:
    0 is the one by the identity, and of the plain square `alpha` times is taken off. Source: arXiv
    2404.04057, algorithm 1; `alpha` 1.2, and 1 at first.
    """

    alpha: float = eqx.field(static=True, default=1.0)

    def pull(
        self,
        x: Float[Array, " n *shape"],
        noised: Noised,
        starts: Starts,
        fake: VelocityField,
        known: tuple[Array, Array | None],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        """One evaluation of the teacher and of the fake that carry a gradient to the samples."""
        del known
        path, (fixed, tau, _) = gaussian(self.generate.path), noised
        x_tau = fixed + over(jax.vmap(path.alpha)(tau), x) * (x - stop(x))
        v_real, v_fake = (
            velocities(field, x_tau, tau, starts.label) for field in (self.teacher, frozen(fake))
        )
        det, sigma = (over(jax.vmap(f)(tau), x) for f in (path.determinant, path.sigma))
        real = clean(path, v_real, x_tau, tau)
        apart = sigma / det * (v_fake - v_real)
        return self.identity(x, real, apart), stop(jnp.mean(apart**2))

    def identity(self, x: Array, real: Array, apart: Array) -> Float[Array, ""]:
        """The loss of samples, given the teacher's denoised means and how far these are from the
        fake's."""
        size = over(each(jnp.abs(x - real)), x) if self.normalise else 1.0
        return jnp.mean(apart * (real - x - self.alpha * apart) / stop(jnp.maximum(size, 1e-6)))

    def declared_pull(
        self, moving: Array, x: Array, drawn: tuple[Array, Array], starts: Starts, fake: FlowMap
    ) -> Float[Array, ""]:
        """The two estimates apart, of both denoisers at the moving samples."""
        path, (z, tau), label = self.generate.path, drawn, starts.label
        x_tau, still = (jax.vmap(path.interpolate)(sample, z, tau) for sample in (moving, x))
        real, own = (denoised(path, field, x_tau, tau, label) for field in (self.teacher, fake))
        by_identity, square = each((real - own) * (real - moving)), each((real - own) ** 2)
        size = jnp.ones(len(x))
        if self.normalise:
            size = each(jnp.abs(x - denoised(path, self.teacher, still, tau, label)))
        return jnp.mean((by_identity - self.alpha * square) / size)


@register
class SID(FakePlugin):
    """Score identity distillation (arXiv 2404.04057): one step, no data but for labels."""

    card = Card(
        "sid",
        rule="none (distributions of samples)",
        supervision="teacher, distribution of the samples",
        source="arXiv 2404.04057",
        cost=10,
        whole_cost=10,
        parameterisation="F(z, 1, 0)",
        gradient="F(z, 1, 0)",
        targets="teacher, current, fake",
    )
    recipes = (
        Recipe("small-image", "digits", 287, 0.236, None, "tuned-digits"),
    )  # fmt: skip

    every: int = 2
    alpha: float = 1.0
    """Weight of the plain square that is taken off; the paper has 1.2, and 1 at first."""
    normalise: bool = True
    """Divide a sample's loss by its mean distance from the teacher's answer."""

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.alpha < 10, f"--plugin.alpha must be in [0, 10), got {self.alpha}")

    def game(self, path: Interpolant, task: Task, teacher: Teacher) -> Game:
        rules, anchor = self.rules(path, task, teacher), self.anchored(path, task)
        return Identity(**rules, anchor=anchor, normalise=self.normalise, alpha=self.alpha)

    @classmethod
    def variants(cls):
        """Every step trains the map, from the first on, without the normalisation of `dmd`'s."""
        flags = dataclasses.replace(cls.preset("points"), every=1, wait=0.0, normalise=False)
        return {"": flags}
