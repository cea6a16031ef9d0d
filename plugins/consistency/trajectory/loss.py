"""CTM's combined loss: soft consistency, denoising and an adversarial term.

    L = L_consistency + lambda_DM L_DM + lambda_GAN L_GAN

The lambdas are numbers, times the adaptive weights of `balance` where these are wanted. The
discriminator is a second player, trained in the same step on the same `x_0` and `x_est`.
"""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, Key

from core.flow.flow_map import FlowMap
from core.flow.teacher import frozen
from core.objectives.adversarial import discriminator_loss, generator_loss
from core.objectives.carriers import Declares
from core.objectives.objective import Batch, Metrics, Objective, Players
from core.objectives.row import Row
from core.objectives.rows import RowObjective, declared_loss, row_losses
from core.objectives.weights import Weight, square
from plugins.consistency.trajectory.balance import Losses, ratio, with_gradients
from plugins.consistency.trajectory.jump import TrajectoryJump

PROBES = 8
"""Rows on which the composition error is watched."""


class Combined(Objective):
    """The diagonal and the jump rows of `plain`, with a weight for each part of the loss.

    Every part is a sum over its rows divided by the whole batch, so that with `denoising = 1` and
    `gan = 0` the loss is that of `plain`. **Fields:** `denoising` and `gan`, the fixed factors of
    the lambdas; `adaptive`, whether ratios of gradient norms multiply them; `gan_start`, the
    progress at which both sides of the game begin; `penalty` on the discriminator's gradient at
    real examples; `features`, whether the ends are compared in the discriminator's features too;
    `least`, the least adaptive weight of the denoising loss.

    Source: CTM (arXiv 2310.02279), eq. 13; the lecture notes' eq. 1.46. The adversarial part
    rewards samples, not consistency: watch the composition error once it has begun.
    """

    plain: RowObjective
    denoising: float = 1.0
    gan: float = eqx.field(static=True, default=0.0)
    adaptive: bool = eqx.field(static=True, default=False)
    gan_start: float = 0.3
    penalty: float = eqx.field(static=True, default=0.0)
    features: bool = eqx.field(static=True, default=False)
    least: float = 0.0

    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        key_rows, key_probe = jr.split(key)
        diagonal, jump = self.rows(batch, key_rows, step)

        def parts(model: FlowMap) -> tuple[Losses, tuple[Array, Metrics]]:
            return self._parts(players | {"model": model}, target, diagonal, jump, len(batch.x_0))

        started = (step >= self.gan_start * self.plain.steps).astype(jnp.float32)
        factors = {"denoising": jnp.asarray(self.denoising), "gan": started * self.gan}
        losses, (estimate, metrics), lambdas = self._weighed(parts, players["model"], factors)
        total = sum((lambdas[k] * losses[k] for k in lambdas), start=losses["consistency"])
        metrics = {"loss": total, **metrics, **{f"lambda/{k}": w for k, w in lambdas.items()}}
        metrics["composition"] = composition(frozen(players["model"]), jump, key_probe)
        if not self.gan:
            return {"model": total}, carry, metrics
        net, label = players["discriminator"], None if jump.cond is None else jump.cond.label
        game = jnp.mean(discriminator_loss(net, jump.x_0, estimate, label, self.penalty))
        metrics |= {"gan/generator": losses["gan"], "gan/discriminator": game}
        return {"model": total, "discriminator": started * game}, carry, metrics

    @property
    def declares(self) -> Declares:
        denoise, consist = self.plain.kinds
        carriers = (*consist.term.declares.carriers, *denoise.term.declares.carriers)
        return Declares(carriers, consist.term.declares.numbers)

    def declared(
        self,
        live: Players,
        fixed: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> dict[str, Float[Array, ""]]:
        assert not self.adaptive, "the declared form has fixed factors"
        jump, diagonal = self.rows(batch, jr.split(key)[0], step)[::-1]
        denoise, consist = self.plain.kinds
        term, n = self._jump_term, len(batch.x_0)
        started = jnp.where(step >= self.gan_start * self.plain.steps, 1.0, 0.0)
        parts = [(1.0, consist, jump), (self.denoising, denoise, diagonal)]
        total = sum(
            (factor * len(rows.s) / n * declared_loss(kind, live, fixed, target, rows)
             for factor, kind, rows in parts), jnp.zeros(()))  # fmt: skip
        if not self.gan:
            return {"model": total}
        label = None if jump.cond is None else jump.cond.label

        def estimates(model: FlowMap) -> Array:
            return jax.vmap(lambda row: term.ends(model, target["model"], row)[0])(jump)

        x, still = estimates(live["model"]), estimates(fixed["model"])
        fooled = -jnp.sum(jax.vmap(fixed["discriminator"])(x, label)) / n
        net, real = live["discriminator"], jump.x_0
        game = started * jnp.mean(discriminator_loss(net, real, still, label, self.penalty))
        return {"model": total + started * self.gan * fooled, "discriminator": game}

    @property
    def _jump_term(self) -> TrajectoryJump:
        term = self.plain.kinds[1].term
        assert isinstance(term, TrajectoryJump)
        return term

    def rows(self, batch: Batch, key: Key[Array, ""], step: Int[Array, ""]) -> tuple[Row, Row]:
        """The diagonal rows and the jump rows: the batch in their shares, at least one of each."""
        diagonal, jump = self.plain.draw(batch, key, step).values()
        return diagonal, jump

    def _parts(
        self, players: Players, target: Players, diagonal: Row, jump: Row, n: int
    ) -> tuple[Losses, tuple[Array, Metrics]]:
        """The parts of the loss of `n` rows; `x_est` of the jump rows and the mean residuals."""
        denoise, consist = self.plain.kinds
        term, weight = self._jump_term, consist.weight
        assert isinstance(weight, Weight)
        denoising, seen = jax.vmap(lambda row: row_losses(denoise, players, target, row))(diagonal)
        estimate, wanted = jax.vmap(lambda r: term.ends(players["model"], target["model"], r))(jump)
        residual = estimate - wanted
        metrics = {
            "diagonal/residual": jnp.mean(seen["residual"]),
            "jump/residual": jnp.mean(jax.vmap(lambda r: square(r, "mean"))(residual)),
        }
        if self.features:
            see = jax.vmap(frozen(players["discriminator"]).features)
            flat = residual.reshape(len(residual), -1)
            residual = jnp.concatenate([flat, see(estimate) - see(wanted)], axis=1)
        weighed = jax.vmap(lambda r, row: weight(r, row.unit))(residual, jump)
        losses = {"consistency": weighed, "denoising": denoising["model"]}
        if self.gan:
            label = None if jump.cond is None else jump.cond.label
            losses["gan"] = generator_loss(players["discriminator"], estimate, label)
        return {name: jnp.sum(loss) / n for name, loss in losses.items()}, (estimate, metrics)

    def _weighed(
        self, parts: Callable[[Any], tuple[Losses, Any]], model: FlowMap, factors: Losses
    ) -> tuple[Losses, Any, Losses]:
        """The parts, the other results of `parts`, and the lambda of all but the first."""
        if not self.adaptive:
            losses, rest = parts(model)
            return losses, rest, {k: factors[k] for k in losses if k in factors}
        losses, rest, norms = with_gradients(parts, model)
        first, clamps = norms["consistency"], {"denoising": (self.least, 1e4), "gan": (0.01, 10.0)}
        ratios = {k: ratio(first, norms[k], *clamps[k]) for k in clamps if k in norms}
        return losses, rest, {k: factors[k] * value for k, value in ratios.items()}


def composition(flow_map: FlowMap, rows: Row, key: Key[Array, ""]) -> Float[Array, ""]:
    """The mean of `|F(x_s, s, t) - F(F(x_s, s, u), u, t)|^2` over a few rows, `u` uniform."""
    few = jax.tree.map(lambda leaf: leaf[:PROBES], rows)

    def error(row: Row, share: Float[Array, ""]) -> Float[Array, ""]:
        u = row.t + share * (row.s - row.t)
        middle = flow_map(row.x_s, row.s, u, row.cond)
        return square(
            flow_map(row.x_s, row.s, row.t, row.cond) - flow_map(middle, u, row.t, row.cond), "mean"
        )

    return jnp.mean(jax.vmap(error)(few, jr.uniform(key, few.s.shape, few.s.dtype)))
