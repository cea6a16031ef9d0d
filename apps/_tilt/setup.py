"""What `apps.tilt` steers: the run's map with the reward of the flags."""

from apps._tilt.config import TiltConfig
from core.steering.steering import Steering, Tilt
from portolan.model import Model
from portolan.tilting import Setting, reward_of, set_up


def setting_of(run: Model, config: TiltConfig) -> Setting:
    """What is drawn from, and samples of the prior, on which the reward's spread is measured."""
    return set_up(
        run,
        reward_of(run, config.reward, config.weights, config.classifier),
        strength=config.strength,
        lam=config.lam,
        label=config.label,
        chunk=config.chunk,
        seed=config.seed,
    )


def islands_of(method: Steering, tilt: Tilt, config: TiltConfig) -> int:
    """How many islands the budget pays for, or those asked for."""
    if not config.budget:
        return config.islands
    per_island = config.n * method.cost(tilt.reward).evaluations(tilt.flow_map.evaluations)
    return max(config.budget // per_island, 1)
