"""Reward-weighted flow matching: the velocity of the distribution tilted by a reward.

    L = E w(x_0) |V(x_t, t, t) - v|^2,      w = exp(lambda r(x_0)), self-normalised over the batch

The minimiser is exactly `v^lambda = E[w v | x_t] / E[w | x_t]`, the marginal velocity of
`p(x) exp(lambda r(x)) / Z`. The examples are the data's, so nothing better than the best of them is
learned, and weights accumulate over no rounds. Like flow matching it is sampled by an ODE solver.
"""

from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.registry import register
from core.objectives.objective import FlowMatching, Term
from plugins.tilting.weighted import RewardWeighted


@register
class RWFM(RewardWeighted):
    """Reward-weighted flow matching (cf. arXiv 2502.06061): a velocity that is tilted."""

    card = Card(
        "rwfm",
        rule="diagonal",
        supervision="sampled pair, weighted by a reward",
        source="cf. arXiv 2502.06061",
        cost=3,
        whole_cost=3,
        gradient="v",
        targets="none",
    )
    sampler = "euler"

    full: float = 0.0
    uniform: float = by_kind(0.0, points=1.0)
    diagonal: float = 1.0
    time_mean: float = 0.0

    def jump(self, teacher: None) -> Term:
        return FlowMatching()
