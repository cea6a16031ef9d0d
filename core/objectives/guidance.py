"""Classifier-free guidance that is learned in training: one evaluation gives a guided sample.

A network trained on `v_hat` in place of the pair's velocity `v` learns the guided flow:

    v_hat = (1 - k) [w v + (1 - w) V(x_s, s, s | null)] + k V(x_s, s, s | c, w)

with `w` the guidance scale and `k` the share of the network's own conditional velocity, all network
terms stopped. If `V(. | null)` is the unconditional velocity, the fixed point is

    V(x, s, s | c, w) = v_w = w v(x, s | c) + (1 - w) v(x, s | null)

for every `k` in [0, 1), `w` below 1 too. The recipes of the field differ in `k` alone:

| recipe | k |
| --- | --- |
| TVM, guidance-free training, MeanFlow with kappa = 0 | 0 |
| MeanFlow, AlphaFlow with omega and kappa | kappa, with w = omega / (1 - kappa) |
| iMF, pMF, DMF | 1 - 1/w: the weight of `v` is 1 at every scale |
| SoFlow | 0.75 |

Sources: MeanFlow (arXiv 2505.13447), appendix B; iMF (arXiv 2512.02012), section 4.3; guidance-free
training (arXiv 2501.15420), eq. 9; TVM (arXiv 2511.19797); intervals: arXiv 2404.07724.
"""

import dataclasses
import math
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Key

from core.errors import require
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.objectives.row import Row

stop = jax.lax.stop_gradient
NONE = (1.0, 0.0, 1.0)
"""`(w, a, b)` that guides nowhere."""


@dataclass(frozen=True)
class GuidanceConfig:
    """Classifier-free guidance learned in training."""

    scale: float = 1.0
    """Guidance scale w that is learned; 1 is none. Needs labels."""
    most: float | None = None
    """Draw the scale of each example between --scale and this, and make it an input of the network:
    one run then serves all scales (apps.sample --guidance)."""
    tilt: float = 1.0
    """Density w^-tilt of the drawn scales; 1 is log-uniform, 2 is uniform in 1/w."""
    own: float | None = None
    """Share of the network's own conditional velocity in the target (MeanFlow's kappa); default
    1 - 1/w, at which the pair's velocity keeps its weight at every scale."""
    omega: float | None = None
    """MeanFlow's omega, the share of the pair's velocity, in the place of --scale; --own is kappa,
    by default 0. The scale is omega / (1 - kappa), which may be below 1."""
    head: bool = False
    """Take the network's own velocities from its velocity head, as iMF's code does, instead of from
    its diagonal; for imf with a velocity head."""
    even: bool = False
    """Weigh each example by 1/w^2, for --own 0."""
    interval: tuple[float, float] = (0.0, 1.0)
    """Times (0 data, 1 noise) between which guidance acts."""
    draw_interval: bool = False
    """Draw the ends of the interval, each in its half, and make them inputs of the network."""

    def __post_init__(self):
        flag = "--plugin.guidance"
        require(
            math.isfinite(self.scale) and self.scale >= 1,
            f"{flag}.scale must be at least 1, got {self.scale}",
        )
        if self.most is not None:
            require(
                math.isfinite(self.most) and self.most > self.scale,
                f"{flag}.most must be above {flag}.scale ({self.scale}), got {self.most}",
            )
        if self.own is not None:
            require(0 <= self.own < 1, f"{flag}.own must be in [0, 1), got {self.own}")
        if self.omega is not None:
            require(
                math.isfinite(self.omega) and self.omega > 0,
                f"{flag}.omega must be positive, got {self.omega}",
            )
            require(
                self.scale == 1 and self.most is None,
                f"{flag}.omega sets the scale: leave out {flag}.scale and {flag}.most",
            )
        low, high = self.interval
        require(
            0 <= low < high <= 1, f"{flag}.interval must be in [0, 1] and rise, got {low} {high}"
        )
        require(
            not self.draw_interval or self.most is not None,
            f"{flag}.draw-interval makes the interval an input: give {flag}.most too",
        )

    @property
    def on(self) -> bool:
        """Whether there is any guidance."""
        return self.scale > 1 or self.most is not None or self.omega is not None

    @property
    def learned(self) -> float:
        """The scale that is learned, the least where it is drawn: `omega / (1 - kappa)`."""
        return self.scale if self.omega is None else self.omega / (1 - (self.own or 0.0))

    @property
    def kappa(self) -> float | None:
        """The network's own share; None: it follows the scale."""
        return self.own if self.omega is None else self.own or 0.0


class Guide(eqx.Module):
    """Draws scales and intervals for rows, and puts the guided target in the place of `row.v`.

    **Fields:** `config`; `null`, the label of the null class; `targets`, false where the targets
    are a teacher's, which is guided itself: then rows only get the condition that says by how much.
    """

    config: GuidanceConfig = eqx.field(static=True)
    null: int = eqx.field(static=True)
    targets: bool = eqx.field(static=True, default=True)

    def draw(
        self, key: Key[Array, ""], dropped: Bool[Array, " n"], diagonal: Bool[Array, " n"]
    ) -> Float[Array, "n 3"] | None:
        """`(w, a, b)` of each row, or None where the network is not conditioned on them.

        A row whose label is dropped has no guidance. One on the diagonal has the whole interval, so
        that the velocity is guided at every time. Density of `w` on `[scale, most]`: `w^-tilt`.
        """
        if self.config.most is None:
            return None
        n, (low, high) = len(dropped), self.config.interval
        u, a, b = jr.uniform(key, (3, n))
        w = power_law(u, self.config.scale, self.config.most, self.config.tilt)
        half = (high - low) / 2 if self.config.draw_interval else 0.0
        a = jnp.where(diagonal, low, low + half * a)
        b = jnp.where(diagonal, high, high - half * b)
        drawn = jnp.stack([w, a, b], axis=1)
        return jnp.where(dropped[:, None], jnp.asarray(NONE, drawn.dtype), drawn)

    def null_velocity(self, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        """`V(x_s, s, s | null)`, stopped."""
        return self.velocity(target, row, Condition(label=jnp.asarray(self.null)))

    def velocity(self, target: FlowMap, row: Row, cond: Condition | None) -> Float[Array, "*shape"]:
        """The network's velocity at `(x_s, s)`, of its head or of its diagonal, stopped."""
        if self.config.head:
            return stop(target.with_velocity(row.x_s, row.s, row.s, cond)[1])
        return stop(target.velocity(row.x_s, row.s, cond))

    def __call__(
        self, target: FlowMap, row: Row, v_null: Float[Array, "*shape"], diagonal: bool
    ) -> Row:
        """The row with `v_hat` in the place of `v`, given the velocity of the null class.

        `diagonal`: the row's term evaluates `V(x_s, s, s | c, w)` itself and adds its share.
        """
        w, acts = self.strength(row)
        kappa = self.config.kappa
        share = 1 - 1 / w if kappa is None else jnp.asarray(kappa, w.dtype)
        share = jnp.where(acts, share, 0.0)
        v = (1 - share) * (w * row.v + (1 - w) * v_null)
        # The guided target grows like `w`, its squared residual like `w^2`.
        factor = row.factor / w**2 if self.config.even else row.factor
        if kappa == 0 or diagonal:
            own, own_share = None, share if diagonal else None
        else:
            own, own_share = self.velocity(target, row, row.cond), None
            v = v + share * own
        return dataclasses.replace(row, v=v, factor=factor, own=own, own_share=own_share)

    def declared(self, model: FlowMap, target: FlowMap, row: Row, diagonal: bool) -> Row:
        """What a call makes of an unguided row, without a stop or a shared evaluation: the own
        velocity is that of `model` on the diagonal, else that of `target`.

        `even` in the words of guidance-free training: with `beta = 1 / w` its residual is
        `beta V + (1 - beta) V_null - v`.
        """

        def velocity(flow_map: FlowMap, cond: Condition | None) -> Float[Array, "*shape"]:
            both = flow_map.with_velocity(row.x_s, row.s, row.s, cond)
            return both[1] if self.config.head else both[0]

        (w, acts), kappa = self.strength(row), self.config.kappa
        own = velocity(model if diagonal else target, row.cond)
        v_null, beta = velocity(target, Condition(label=jnp.asarray(self.null))), 1 / w
        share = jnp.where(acts, 1 - beta if kappa is None else kappa, 0.0)
        v = (1 - share) * (v_null + w * (row.v - v_null)) + share * own
        factor = row.factor * beta * beta if self.config.even else row.factor
        kept = None if diagonal or kappa == 0 else own
        return dataclasses.replace(row, v=v, factor=factor, own=kept)

    def strength(self, row: Row) -> tuple[Float[Array, ""], Bool[Array, ""]]:
        """The scale at the row's own time, 1 outside the interval and without a label; and whether
        guidance acts on it."""
        assert row.cond is not None and row.cond.label is not None
        if row.cond.guidance is None:
            w, (a, b) = jnp.asarray(self.config.learned, row.s.dtype), self.config.interval
        else:
            w, a, b = row.cond.guidance
        inside = (row.unit.s >= a) & (row.unit.s <= b) & (row.cond.label != self.null)
        return jnp.where(inside, w, 1.0).astype(row.s.dtype), inside


def power_law(u: Float[Array, " n"], least: float, most: float, tilt: float) -> Float[Array, " n"]:
    """The quantiles `u` of the density `w^-tilt` on `[least, most]`."""
    if tilt == 1:
        return least * (most / least) ** u
    power = 1 - tilt
    return ((1 - u) * least**power + u * most**power) ** (1 / power)
