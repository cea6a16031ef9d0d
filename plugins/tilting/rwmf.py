"""Reward-weighted mean flow: a one-step map of the distribution tilted by a reward.

The weights of `rwfm` on the rows of improved MeanFlow. Its residual is linear in the pair's
velocity, so that weighted pairs teach the flow map of the tilted distribution, jumps and diagonal
alike.
"""

from core.methods.card import Card
from core.methods.registry import register
from core.objectives.objective import Term
from plugins.tilting.jump import OwnTangentJump
from plugins.tilting.weighted import RewardWeighted


@register
class RWMF(RewardWeighted):
    """Reward-weighted mean flow: one-step samples of the tilted distribution, no teacher."""

    card = Card(
        "rwmf",
        rule="Eulerian",
        supervision="sampled pair, weighted by a reward",
        source="weights: cf. arXiv 2502.06061; rule: arXiv 2512.02012",
        cost=4,
    )

    diagonal: float = 0.5

    def jump(self, teacher: None) -> Term:
        return OwnTangentJump()
