"""sCM: continuous-time consistency in TrigFlow coordinates, with its stabilisers.

    R = N(x_s, s) - sg[N + g],   g = -cos^2 (N - v) - r cos sin (x_s + dN/ds),   r = min(1, k / H)

At `r = 1`, `g = cos(s) df/ds`; at `r = 0` it is velocity matching. `g` is normalised by the weight
`TangentNorm`: `g / (|g| + c)`. `v` is the teacher's velocity (`scd`) or the pair's (`sct`).

The angle `s` is that of `(alpha, sigma n / d)`, `n` and `d` the standard deviations of noise and
data, so the same loss trains a map on any path: a state is divided by the length of that ray.
"""

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import require
from core.flow.conversions import convert
from core.flow.flow_map import FlowMap, Form
from core.flow.path import Path, gaussian
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Players, Residuals, Term
from core.objectives.row import Row
from core.objectives.weights import Squared, TangentNorm, Weight
from core.times.steps import Step
from plugins.consistency.base import WeightedPlugin
from plugins.consistency.jump import stop
from plugins.consistency.tangent import jump_and_tangent


class StabilisedTangent(Term):
    """`(N - sg[N]) - sg[g]` in units of `N`, the TrigFlow velocity over the data's deviation `d`.

    `step` takes a central difference in the place of the exact derivative. Source: sCM (arXiv
    2410.11081), eq. 8 and algorithm 1.
    """

    teacher: Teacher | None = None
    data_std: float = 1.0
    warmup: float = 0.2
    step: float | None = None

    @property
    def declares(self) -> Declares:
        taught = () if self.teacher is None else ("teacher",)
        return Declares((Carrier("N"),), (*taught, "current"))

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        """In the paper's own coordinates, with its derivative by differences along the line; a term
        that takes a difference itself keeps its numbers."""
        path, d = live["model"].path, self.data_std
        _, x_0, z = self._velocity(path, row)
        z, ratio = z * d / path.noise_std, d / path.noise_std
        angle = jnp.arctan2(path.sigma(row.s) / ratio, path.alpha(row.s))

        def N(model: FlowMap, angle: Array) -> Array:
            cos, sin = jnp.cos(angle), jnp.sin(angle)
            time, x = path.time_of_ray(cos, sin * ratio), cos * x_0 + sin * z
            end = model(path.alpha(time) / cos * x, time, row.t, row.cond)
            return (cos * x - end) / (sin * d)

        if self.step is not None:
            left = self.residuals(fixed, target, row)["model"][0]
            return (N(live["model"], angle) - N(fixed["model"], angle) + left,)
        h, cos, sin = 1e-3, jnp.cos(angle), jnp.sin(angle)
        near = jax.vmap(lambda step: N(fixed["model"], angle + step * h))(jnp.arange(-2, 3.0))
        here, slope = near[2], (near[0] - 8 * near[1] + 8 * near[3] - near[4]) / (12 * h)
        r = jnp.minimum(1.0, row.progress / self.warmup) if self.warmup else 1.0
        matching = here - (cos * z - sin * x_0) / d
        g = -(cos**2) * matching - r * cos * sin * ((cos * x_0 + sin * z) / d + slope)
        return (N(live["model"], angle) - here - g,)

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        path, d = gaussian(model.path), self.data_std
        v, x_0, z = self._velocity(path, row)
        jump, tangent = jump_and_tangent(model, row, v, self.step)
        ray = path.alpha(row.s), path.sigma(row.s) * path.noise_std / d
        length = jnp.hypot(*ray)
        cos, sin = ray[0] / length, jnp.maximum(ray[1] / length, 1e-4)
        pace = path.determinant(row.s) * path.noise_std / d / length**2  # of the angle in s
        whole = cos * tangent / pace
        N = (cos * row.x_s / length - jump) / sin
        velocity = cos * z * d / path.noise_std - sin * x_0
        matching = -(cos**2) * (N - velocity)
        r = jnp.minimum(1.0, row.progress / self.warmup) if self.warmup else 1.0
        g = (1 - r) * matching + r * whole
        return (stop(jump) - jump) / (sin * d) - stop(g / d)

    def amplification(self, step: Step | None) -> float:
        return 1.0 if self.step is None else 0.25 / self.step

    @property
    def order(self) -> int | None:
        return None if self.step is None else 2

    def _velocity(self, path: Path, row: Row) -> tuple[Array, Array, Array]:
        """The velocity, and its clean state and noise."""
        if self.teacher is None:
            return row.v, row.x_0, row.z
        v = stop(self.teacher.velocity(row.x_s, row.s, row.cond))
        x_0 = convert(path, v, row.x_s, row.s, source="velocity", target="x_0")
        return v, x_0, convert(path, v, row.x_s, row.s, source="velocity", target="noise")


@dataclass(frozen=True)
class SCMPlugin(WeightedPlugin):
    """Simplified, stabilised continuous-time consistency."""

    form: Form = "rotation"
    learned_weight: bool = by_kind(True, points=False, small_image=False)
    conditioning: float = by_kind(0.0, small_image=3.5)
    data_std: float = 1.0
    """Standard deviation of the data over that of the noise, which fixes the angle."""
    warmup: float = 0.2
    """Fraction of the training over which the tangent's second part is faded in; 0: none."""
    constant: float = 0.1
    """Constant c of the tangent's normalisation g / (|g| + c), in the units of the state, as in the
    paper, and with the norm over all dimensions; 0 leaves the tangent as it is."""
    time_mean: float = -0.3
    """Mean of the log noise-to-signal ratio; the paper's -1.0 is for data of deviation 0.5."""
    time_std: float = by_kind(1.4, points=0.0, small_image=0.0)
    """Standard deviation of the log noise-to-signal ratio; 0 means uniform times."""
    derivative: Literal["exact", "difference"] = "exact"
    """An exact Jacobian-vector product, or a central difference over --plugin.step, for networks
    that have no forward mode."""
    step: float = 5e-3
    """Step of the difference in time."""

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.step < 0.1, f"--plugin.step must be in (0, 0.1), got {self.step}")

    def distance(self) -> Weight:
        # The residual is `g / data_std`, in units of the network.
        constant = self.constant / self.data_std
        return TangentNorm(constant, self.reduce) if constant else Squared(self.reduce)

    def term(self, teacher: Teacher | None) -> Term:
        """The residual of the jump rows."""
        step = self.step if self.derivative == "difference" else None
        return StabilisedTangent(teacher, self.data_std, self.warmup, step)


@register
class SCT(SCMPlugin):
    """sCM from pairs (arXiv 2410.11081); best started from a trained run: --init runs/fm-..."""

    card = Card(
        "sct",
        rule="Eulerian, t = 0",
        supervision="sampled pair",
        source="arXiv 2410.11081",
        cost=4,
        whole_cost=4,
        parameterisation="F",
        gradient="N",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.187, 0.129, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 1.13, 1.11, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip

    def jump(self, teacher: None) -> Term:
        return self.term(teacher)


@register
class SCD(SCMPlugin):
    """sCM distilled (arXiv 2410.11081): the tangent along the teacher's flow."""

    card = Card(
        "scd",
        rule="Eulerian, t = 0",
        supervision="teacher",
        source="arXiv 2410.11081",
        cost=5,
        whole_cost=5,
        parameterisation="F",
        gradient="N",
        targets="teacher, current",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.145, 0.115, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.842, 0.747, "recipes-digits", {"optim.rate": 1e-3}),
    )  # fmt: skip
    needs_teacher = True
    guidable = True

    def jump(self, teacher: Teacher) -> Term:
        return self.term(teacher)
