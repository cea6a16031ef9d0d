"""The base of reward-weighted methods: flags, and the weights of the examples of a batch.

    w_i = n exp(lambda r(x_i)) / sum_j exp(lambda r(x_j))

The data, weighted so, have the distribution `p(x) exp(lambda r(x)) / Z`, and a loss whose minimiser
is a conditional mean then learns the velocity of that distribution. The sum over the batch in place
of Z makes an error of the order 1 / (n share) with `share` the effective share of the batch, about
`exp(-strength^2)`, which is logged as `effective`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import require
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher
from core.methods.plugin import Task
from core.methods.row_plugin import RowPlugin
from core.objectives.rows import RowObjective
from core.oracle import ClosedProblem, Problem
from core.steering.own import check_reward, check_varies
from core.steering.registry import RewardContext, make_reward
from core.steering.reward import Linear, Reward
from core.train.features import open_classifier

MEASURED = 2048


class RewardWeights(eqx.Module):
    """`n softmax(lambda r)` of a batch: mean 1."""

    reward: Reward
    strength: Float[Array, ""]

    def __call__(self, x_0: Float[Array, " n *shape"]) -> Float[Array, " n"]:
        return len(x_0) * jax.nn.softmax(self.strength * jax.vmap(self.reward)(x_0))


@dataclass(frozen=True)
class RewardWeighted(RowPlugin):
    """A method whose rows count by the reward of their example. Give it a trained map: --init.

    It has no teacher: the data give the prior, the weights the reward.
    """

    tunes = True
    guidable = False

    reward: str = "linear"
    """The reward, NAME or NAME:ARGUMENT; python -m apps.tilt --rewards lists them. linear is the
    mean of all values, of an image its brightness."""
    strength: float = 1.0
    """How strongly to tilt, in standard deviations of the reward over the data: a batch then counts
    as exp(-strength^2) of its size."""
    lam: float | None = None
    """lambda itself, in place of --plugin.strength; 1 for log-likelihoods such as class:K."""
    classifier: str | None = None
    """Run of apps.features --task classifier, for the reward class:K."""

    @classmethod
    def variants(cls) -> dict[str, Self]:
        return {"": dataclasses.replace(cls.preset("points"), lam=0.7)}

    def made(self, task: Task) -> Reward:
        """The reward. Raises `UserError` where it does not fit the data."""
        opened = None
        if self.classifier is not None:
            require(task.data is not None, "--plugin.classifier needs the data of a run")
            assert task.data is not None
            opened = open_classifier(self.classifier, task.data.spec)
        return make_reward((self.reward,), (), RewardContext(task.shape, task.data, opened))

    def lambda_of(self, reward: Reward, task: Task) -> float:
        """`lambda`: as given, or the strength over the standard deviation on the data; the strength
        itself where no data are at hand."""
        if self.lam is not None:
            return self.lam
        if task.data is None:
            return self.strength
        index = np.linspace(0, len(task.data) - 1, min(len(task.data), MEASURED)).astype(int)
        values = check_reward(reward, jnp.asarray(task.data.decode(task.data.take(index))))
        check_varies(np.asarray(values), "examples of the data", "--plugin.lam")
        return self.strength / float(jnp.std(values))

    def learns(self, problem: Problem) -> Problem:
        reward = self.made(Task(problem.shape))
        known = isinstance(reward, Linear) and isinstance(problem, ClosedProblem)
        require(
            known, "only the reward 'linear' has a known tilted distribution: check with that one"
        )
        assert isinstance(reward, Linear) and isinstance(problem, ClosedProblem)
        return problem.tilted(self.lambda_of(reward, Task(problem.shape)) * reward.a)

    def row_objective(self, path: Interpolant, teacher: Teacher | None, task: Task) -> RowObjective:
        objective, reward = super().row_objective(path, teacher, task), self.made(task)
        weigh = RewardWeights(reward, jnp.asarray(self.lambda_of(reward, task)))
        return dataclasses.replace(objective, weigh=weigh)
