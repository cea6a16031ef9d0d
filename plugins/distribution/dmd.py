"""Distribution matching: samples move to where the teacher finds them likelier than they are.

    delta = (D_f(x_tau) - D_r(x_tau)) / mean|x - D_r(x_tau)|,      x_tau = alpha x + sigma z'
    L     = E 1/2 |x - sg[x - delta]|^2,                           x = F(z, 1, 0)
    L_f   = E |v_f(x_tau, tau) - v|^2

`D_r` is the frozen teacher's denoiser, `D_f` that of a second velocity field, the player "fake",
trained by flow matching on the samples themselves. Up to a factor `delta` is the difference of the
scores of the two noised distributions, the gradient of their Kullback-Leibler divergence.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
from core.flow.conversions import convert
from core.flow.field import VelocityField
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import Path, gaussian
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Task
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.one_step import Starts
from core.train.features import open_perception
from plugins.distribution.game import (
    FakePlugin,
    Game,
    Noised,
    denoised,
    each,
    over,
    stop,
    velocities,
)


def direction(
    path: Path,
    x: Float[Array, "*shape"],
    x_tau: Float[Array, "*shape"],
    tau: Float[Array, ""],
    v_fake: Float[Array, "*shape"],
    v_real: Float[Array, "*shape"],
    normalise: bool = True,
) -> Float[Array, "*shape"]:
    """`delta` of one sample, by which it should move back; the mean runs over its dimensions, and
    is left out without `normalise`.

    With `D = (d_sigma x_tau - sigma v) / det` the difference of the denoisers is
    `-sigma / det (v_f - v_r)`, without cancellation at small `tau`. Source: DMD (arXiv 2311.18828),
    eqs. 7-8; DMD2 (arXiv 2405.14867).
    """
    apart = -path.sigma(tau) / path.determinant(tau) * (v_fake - v_real)
    if not normalise:
        return apart
    D_real = convert(path, v_real, x_tau, tau, source="velocity", target="x_0")
    return apart / jnp.maximum(jnp.mean(jnp.abs(x - D_real)), 1e-6)


class Matching(Game):
    """Distribution matching: a sample regresses itself less `delta`."""

    def pull(
        self,
        x: Float[Array, " n *shape"],
        noised: Noised,
        starts: Starts,
        fake: VelocityField,
        known: tuple[Array, Array | None],
    ) -> tuple[Float[Array, ""], Float[Array, ""]]:
        del fake
        (x_tau, tau, _), (v_fake, v_real) = noised, known
        if v_real is None:
            v_real = velocities(self.teacher, x_tau, tau, starts.label)
        delta = self.directions(stop(x), x_tau, tau, v_fake, v_real)
        return jnp.mean((x - stop(x - delta)) ** 2) / 2, jnp.mean(delta**2)

    def declared_pull(
        self, moving: Array, x: Array, drawn: tuple[Array, Array], starts: Starts, fake: FlowMap
    ) -> Float[Array, ""]:
        """With `delta` as the difference of two denoisers."""
        path, (z, tau) = self.generate.path, drawn
        x_tau = jax.vmap(path.interpolate)(x, z, tau)
        real = denoised(path, self.teacher, x_tau, tau, starts.label)
        delta = denoised(path, fake, x_tau, tau, starts.label) - real
        if self.normalise:
            delta /= over(jnp.maximum(each(jnp.abs(x - real)), 1e-6), x)
        return jnp.mean((moving - (x - delta)) ** 2) / 2

    def directions(self, *rows: Float[Array, "..."]) -> Float[Array, " n *shape"]:
        """`direction` of each sample; no gradient passes."""
        path = gaussian(self.generate.path)
        return stop(jax.vmap(lambda *row: direction(path, *row, normalise=self.normalise))(*rows))


@register
class DMD(FakePlugin):
    """Distribution matching distillation (DMD2, arXiv 2405.14867), without its adversarial part."""

    card = Card(
        "dmd",
        rule="none (distributions of samples)",
        supervision="teacher, distribution of the samples",
        source="arXiv 2311.18828, 2405.14867",
        cost=7,
        whole_cost=7,
        parameterisation="F(z, 1, 0)",
        gradient="F(z, 1, 0)",
        targets="teacher, current, fake",
    )
    recipes = (
        Recipe("small-image", "digits", 287, 0.246, None, "tuned-digits"),
    )  # fmt: skip
    normalise: bool = True
    """Divide a sample's push by its mean distance from the teacher's answer; for examples
    of a few numbers, where that may be close to zero, rather not."""
    features: str = "identity"
    """Features in which the anchor compares samples, as LPIPS does: efficientnet-lite0,
    inception=FILE, dinov2=FILE, or a run folder of apps.features; identity compares the values."""

    def __post_init__(self):
        super().__post_init__()
        idle = self.features != "identity" and not self.anchor
        require(not idle, "--plugin.features is what the anchor looks at: set --plugin.anchor")

    def game(self, path: Interpolant, task: Task, teacher: Teacher) -> Game:
        anchor = self.anchored(path, task, open_perception(self.features, task.shape))
        rules = self.rules(path, task, teacher)
        return Matching(**rules, anchor=anchor, normalise=self.normalise)

    @classmethod
    def variants(cls):
        """Every step trains the map, from the first on, by pushes that are not normalised: in one
        dimension, where the checks are made, one over a distance has no variance."""
        flags = dataclasses.replace(cls.preset("points"), every=1, wait=0.0, normalise=False)
        return {"": flags}
