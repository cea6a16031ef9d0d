"""The run's map with its reward, for `apps.tilt`, and whether a method can serve it."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from apps._tilt.config import TiltConfig
from apps._tilt.rewards import reward_of
from core.errors import require
from core.flow.condition import Condition
from core.methods.registry import find_plugin
from core.sampling import SAMPLERS
from core.steering.adapter import AdaptedObjective, Proposal
from core.steering.prior import OdeMap
from core.steering.reward import check_reward
from core.steering.steering import Steering, Tilt
from core.train.run import Run


def tilt_of(run: Run, config: TiltConfig) -> tuple[Tilt, np.ndarray]:
    """The tilted distribution, and samples of the prior to measure the reward's spread on."""
    flow_map = run.flow_map
    reward = reward_of(run, config.reward, config.weights, config.classifier)
    if SAMPLERS[run.sampler].needs == "velocity":
        flow_map = OdeMap(flow_map=flow_map, path=flow_map.path)
    classes, label = run.num_classes, config.label
    require(label is None or 0 <= label < classes, f"--label {label}: classes 0 to {classes - 1}")
    require(
        not classes or label is not None or knows_all(run),
        "this run has learned each class but not all together (--plugin.label-drop 0): name a "
        "--label",
    )
    chosen = classes if label is None else label
    cond = Condition(label=jnp.asarray(chosen)) if classes else None
    tilt = Tilt(flow_map, reward, jnp.asarray(1.0), run.shape, cond)
    start = flow_map.path.time_of_unit(1.0)
    end = flow_map.path.time_of_unit(0.0)
    noise = tilt.noise(jr.key(config.seed + 1), 512)
    prior = jax.jit(jax.vmap(lambda z: flow_map(z, start, end, cond)))(noise)
    spread = float(jnp.std(check_reward(reward, prior)))
    strength = config.strength / max(spread, 1e-12) if config.lam is None else config.lam
    strong = dataclasses.replace(
        tilt, strength=jnp.asarray(strength), chunk=config.chunk, proposal=proposal_of(run)
    )
    return strong, np.asarray(prior)


def proposal_of(run: Run) -> Proposal | None:
    """The noise that the run's map was trained with for observations, or None."""
    if "adapter" not in run.names:
        return None
    objective = run.method.objective
    if not isinstance(objective, AdaptedObjective):
        return None
    return Proposal(run.players["adapter"], objective.observed)


def knows_all(run: Run) -> bool:
    """Whether the null class was trained, which stands for all classes together."""
    flags = run.config.plugin_flags
    guidance = getattr(flags, "guidance", None)
    return getattr(flags, "label_drop", 0) > 0 or bool(getattr(guidance, "on", False))


def check_method(name: str, method: Steering, tilt: Tilt, run: Run) -> None:
    """Raises `UserError` where the method cannot serve this reward or this run."""
    needs = method.needs(tilt.reward)
    instead = "add --no-twist" if hasattr(method, "twist") else "use smc, fk, snis, pcn or slice"
    require(
        tilt.reward.differentiable or "gradient" not in needs,
        f"{name} takes the reward's gradient, and this reward has none: {instead}",
    )
    require(
        tilt.flow_map.two_times or "velocity" not in needs,
        f"{run.config.plugin} has learned no velocity, which {name} looks ahead or steps by; "
        "use smc with look=map and kernel=renoise",
    )
    only_noise = find_plugin(run.config.plugin).most_nfe == 1
    require(
        not only_noise or "between" not in needs,
        f"{run.config.plugin} jumps from noise only: use snis, bon, pcn or slice",
    )
    if "proposal" in needs:
        check_proposal(name, method, tilt, run)


def check_proposal(name: str, method: Steering, tilt: Tilt, run: Run) -> None:
    """Raises `UserError` unless the run has an adapter for this reward."""
    require(
        tilt.proposal is not None,
        f"{name} starts from an adapter's noise, and {run.config.plugin} has trained none: train "
        "one with python -m apps.train --plugin vfm --plugin.reward mask",
    )
    assert tilt.proposal is not None
    flags, noise = run.config.plugin_flags, tilt.proposal.observed.noise
    trained = getattr(flags, "reward", "another problem")
    require(
        tilt.proposal.serves(tilt.reward),
        f"the adapter of this run was trained for {trained} with noise {noise:g}, and {name} "
        f"serves no other --reward; write {trained.partition(':')[0]}:INDEX,{noise:g}",
    )
    require(
        method.exact or float(tilt.strength) == 1,
        f"{name} draws from the posterior, which is lambda 1: add --lam 1",
    )


def islands_of(method: Steering, tilt: Tilt, config: TiltConfig) -> int:
    """How many islands the budget pays for, or those asked for."""
    if not config.budget:
        return config.islands
    per_island = config.n * method.cost(tilt.reward).evaluations(tilt.flow_map.evaluations)
    return max(config.budget // per_island, 1)
