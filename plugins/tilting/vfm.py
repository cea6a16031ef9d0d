"""Variational flow maps: a map and a distribution of its noise, for one inverse problem.

    q(z | y) = N(mu(y), diag sigma(y)^2),      y = A x_0 + noise n
    L = 1/(2 tau^2) L_map(x_0, z) + 1/(2 noise^2) |y - A F_ema(z, 1, 0)|^2 + KL(q(z | y) || N(0, I))

In a share `alpha` of the pairs `(x_0, z)` the noise `z` is drawn from `q(. | y)` of the very same
example, else from the prior. Trained so, `F(z, 1, 0)` with `z ~ q(. | y)` is a draw of the
posterior of `x_0` given `y`, as far as a diagonal distribution of the noise can express it; the map
turns its noise so that it can. Around a map that is fixed it cannot in general.

`L_map` is improved MeanFlow (`jump.py`), which is right for any coupling of `x_0` and `z`. It
trains the map with `z` for given. The adapter is taught through `z` by all three terms, and there
`L_map` is `|V(x_s, s, s) - v|^2` in every row, the value that a jump's residual has at the minimum,
because the stopped derivative of a jump would hide a part of the gradient. The factor
`1/(2 tau^2)` stands in the adapter's loss alone; each network has an optimiser of its own. The
adaptive weight is that of the map's rows; the adapter's loss is plain.
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.data.dataset import Dataset
from core.data.spec import KINDS
from core.errors import UserError, require
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.teacher import Teacher, frozen
from core.methods.card import Card
from core.methods.plugin import Method, Task
from core.methods.presets import by_kind
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import Declares
from core.objectives.objective import Batch, Metrics, Players, Term
from core.objectives.one_step import condition
from core.objectives.row import Row
from core.objectives.rows import RowObjective
from core.steering.adapter import (
    AdaptedObjective,
    NoiseAdapter,
    Observed,
    divergence,
    noise_adapter,
)
from core.steering.registry import RewardContext, make_reward
from plugins.tilting.jump import OwnTangentJump


class Variational(AdaptedObjective):
    """The loss of the map on pairs with noise of the adapter, and that of the player "adapter".

    **Fields:** `rows`, the map's objective, which drops no labels; `alpha`, the share of pairs
    whose noise is the adapter's; `tau`; `label_drop`: map and adapter receive the same label.
    """

    rows: RowObjective
    observed: Observed
    alpha: float | Float[Array, ""] = 0.5
    tau: float | Float[Array, ""] = 1.0
    label_drop: float = eqx.field(static=True, default=0.0)

    def __call__(
        self,
        players: Players,
        target: Players,
        carry: Any,
        batch: Batch,
        key: Key[Array, ""],
        step: Int[Array, ""],
    ) -> tuple[dict[str, Float[Array, ""]], Any, Metrics]:
        key_pairs, key_drop, key_rows = jr.split(key, 3)
        model, n = frozen(players["model"]), len(batch.x_0)
        batch = self.dropped(batch, key_drop)
        see = jax.vmap(lambda *row: self.conditioned(players["adapter"], target["model"], *row))
        z, misfit, kl = see(batch.x_0, batch.label, jr.split(key_pairs, n))
        drawn = self.rows.draw(dataclasses.replace(batch, z=z), key_rows, step)
        losses, metrics = self.rows.of_rows(players, target, frozen(drawn))
        pull = sum((jnp.sum(squares(model, rows)) for rows in drawn.values()), jnp.zeros(()))
        losses["adapter"] = pull / n / (2 * self.tau**2) + jnp.mean(misfit) + jnp.mean(kl)
        return losses, carry, metrics | {"misfit": jnp.mean(misfit), "kl": jnp.mean(kl)}

    @property
    def declares(self) -> Declares:
        return Declares(self.rows.kinds[-1].term.declares.carriers)

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
        others = super().declared(live, fixed, target, carry, batch, key, step)
        key_pairs, key_drop, key_rows = jr.split(key, 3)
        batch = self.dropped(batch, key_drop)
        see = jax.vmap(lambda *row: self.conditioned(fixed["adapter"], target["model"], *row))
        z = see(batch.x_0, batch.label, jr.split(key_pairs, len(batch.x_0)))[0]
        drawn = self.rows.draw(dataclasses.replace(batch, z=z), key_rows, step)
        return others | {"model": self.rows.declared_rows(live, fixed, target, drawn)["model"]}

    def conditioned(
        self,
        adapter: NoiseAdapter,
        target: FlowMap,
        x_0: Float[Array, "*shape"],
        label: Int[Array, ""] | None,
        key: Key[Array, ""],
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""], Float[Array, ""]]:
        """The noise of the pair of one example, the misfit of the adapter's, and its divergence."""
        key_seen, key_own, key_fresh, key_which = jr.split(key, 4)
        path, cond, observed = gaussian(self.rows.path), condition(label), frozen(self.observed)
        y = observed.draw(x_0, key_seen)
        mean, log_std = adapter(observed.conditioning(y), cond)
        own = jr.normal(key_own, x_0.shape, x_0.dtype)
        z = path.noise_std * (mean + jnp.exp(log_std) * own)
        start, end = (jnp.asarray(t, x_0.dtype) for t in (path.t_max, path.t_min))
        x = target(path.sigma(start) * z, start, end, cond)
        fresh = path.noise(key_fresh, x_0.shape).astype(x_0.dtype)
        paired = jnp.where(jr.bernoulli(key_which, self.alpha), z, fresh)
        return paired, observed.misfit(y, x), divergence(mean, log_std)

    def dropped(self, batch: Batch, key: Key[Array, ""]) -> Batch:
        """The batch with some labels replaced by the null class, and without any for one class."""
        if batch.label is None or self.rows.num_classes == 0:
            return dataclasses.replace(batch, label=None)
        drop = jr.bernoulli(key, self.label_drop, batch.label.shape)
        label = jnp.where(drop, self.rows.num_classes, batch.label)
        return dataclasses.replace(batch, label=label)


def squares(model: FlowMap, rows: Row) -> Float[Array, " n"]:
    """`|V(x_s, s, s) - v|^2` of each row, with the gradient that reaches the noise."""

    def one(row: Row) -> Float[Array, ""]:
        return jnp.sum((model.velocity(row.x_s, row.s, row.cond) - row.v) ** 2)

    return jax.vmap(one)(rows)


@register
class VFM(RowPlugin):
    """Variational flow maps (arXiv 2603.07276): one-step draws given an observation."""

    card = Card(
        "vfm",
        rule="Eulerian",
        supervision="sampled pair, noise of an adapter, observation",
        source="arXiv 2603.07276",
        cost=8,
    )
    guidable = False

    diagonal: float = 0.5
    power: float = by_kind(1.0, points=0.0, small_image=0.0)
    label_drop: float = 0.5
    reward: str = "mask"
    """The inverse problem, by the name of its reward: mask, blur or superres. Each example of the
    data is observed, so that a reward's INDEX says nothing here."""
    noise: float | None = None
    """Standard deviation of the observation's noise; default: the reward's, 0.2."""
    alpha: float = 0.5
    """Share of the pairs whose noise the adapter draws; the rest keeps ordinary sampling."""
    tau: float = 1.0
    """How far the adapter is held to noise that the map can follow; above the noise."""
    target_decay: float = 0.99
    """Decay of the average of the map through which the adapter looks at its observation."""
    width: int = 64
    """Width of the adapter."""
    depth: int = 2
    """Layers of the adapter."""
    rate: float = 1.0
    """Learning rate of the adapter, in units of the map's."""

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.alpha <= 1, f"--plugin.alpha must be in [0, 1], got {self.alpha}")
        require(
            0 <= self.target_decay < 1,
            f"--plugin.target-decay must be in [0, 1), got {self.target_decay}",
        )
        require(self.rate > 0, f"--plugin.rate must be positive, got {self.rate}")
        require(min(self.width, self.depth) >= 1, "--plugin.width and --plugin.depth start at 1")

    def jump(self, teacher: None) -> Term:
        return OwnTangentJump()

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay}

    def observation(self, task: Task) -> Observed:
        """The observation of an example. Raises `UserError` where it is no inverse problem."""
        data = blank(task.shape) if task.data is None else task.data
        reward = make_reward((self.reward,), (), RewardContext(task.shape, data))
        observed = Observed.of(reward, task.shape)
        if observed is None:
            raise UserError(
                f"--plugin.reward {self.reward} is no inverse problem: name mask, blur or superres"
            )
        if self.noise is not None:
            observed = dataclasses.replace(observed, noise=self.noise)
        require(observed.noise > 0, f"--plugin.noise must be positive, got {observed.noise}")
        require(
            self.tau > observed.noise,
            f"--plugin.tau must exceed the observation's noise, {observed.noise}, got {self.tau}",
        )
        return observed

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        key_rows, key_adapter = jr.split(key)
        method = super().method(net, path, teacher, task, key=key_rows)
        rows = dataclasses.replace(self.row_objective(path, teacher, task), label_drop=0.0)
        sizes = task.num_classes, self.width, self.depth
        adapter = noise_adapter(task.shape, *sizes, key=key_adapter)
        return dataclasses.replace(
            method,
            objective=Variational(
                rows=rows,
                observed=self.observation(task),
                alpha=self.alpha,
                tau=self.tau,
                label_drop=self.label_drop,
            ),
            players={**method.players, "adapter": adapter},
            rates={**method.rates, "adapter": self.rate},
        )


def blank(shape: tuple[int, ...]) -> Dataset:
    """A data set of one example, all zeros: an operator does not depend on the examples."""
    kind = KINDS[len(shape)]
    return Dataset(name="blank", kind=kind, shape=shape, examples=np.zeros((1, *shape), "f4"))
