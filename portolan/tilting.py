"""Steering of any model: the tilted distribution, methods that can serve it, and the samples."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Float

import plugins.steering as _methods  # registers the methods of this project
from core import trust
from core.data.labels import class_number
from core.data.spaces import words
from core.errors import require
from core.flow.condition import Condition
from core.flow.path import gaussian
from core.sampling import SAMPLERS
from core.steering.decoded import Decoded
from core.steering.own import check_gradient, check_reward, check_varies, function_reward
from core.steering.prior import OdeMap
from core.steering.registry import RewardContext, make_reward
from core.steering.reward import Reward
from core.steering.specs import configured
from core.steering.spoken import OfText
from core.steering.steering import JACKKNIFE, Steered, Steering, Tilt, steer
from core.train.features import open_classifier
from portolan.model import Model
from portolan.progress import Meter
from portolan.results import Table
from portolan.tables import console
from portolan.tilt_rows import COLUMNS, method_row, prior_row
from portolan.tilted import Tilted

assert _methods

PRIOR = 512
"""Samples of the prior on which the reward's spread is measured."""

FEW = 16
"""Samples of the prior on which the gradient of a reward of one's own is checked."""

RewardLike = str | Reward | Callable[[Any], Any] | Sequence[str]


def tilt(
    model: Model,
    reward: RewardLike,
    method: str | Steering,
    settings: dict[str, Any],
    *,
    strength: float,
    lam: float | None,
    label: str | int | None,
    n: int,
    islands: int,
    weights: tuple[float, ...],
    classifier: str | None,
    chunk: int | None,
    seed: int,
    progress: bool,
) -> Tilted:
    """See `Model.tilt`."""
    require(min(n, islands) >= 1 and seed >= 0, "n and islands must be at least 1, seed at least 0")
    name, chosen = method_of(method, settings)
    made = reward_of(model, reward, weights, classifier)
    setting = set_up(model, made, strength=strength, lam=lam, label=label, chunk=chunk, seed=seed)
    check_method(name, chosen, setting, model)
    steered = run(name, chosen, setting, n=n, islands=islands, seed=seed, progress=progress)
    goal = reward if isinstance(reward, str) else type(made).__name__
    value = float(setting.tilt.strength)
    rows = (
        prior_row(setting.prior, setting.tilt),
        method_row(name, chosen, steered, setting.tilt),
    )
    table = Table(f"{model.title} tilted by {goal}, lambda {value:.4g}", COLUMNS, rows)
    return Tilted(steered, setting.prior, value, table, model.spec, model.data_beside())


def check_flat(model: Model) -> None:
    """Raises `UserError` where samples lie in no flat space: the prior of steering is Gaussian."""
    space = model.spec.space
    require(
        not space,
        f"steering starts from Gaussian noise, and samples of {model.name} are points on "
        f"{words(space)}; weight samples of apps.sample by the reward instead",
    )


@dataclass(frozen=True, eq=False)
class Setting:
    """The tilted distribution, with samples of the prior.

    **Fields:** `labels`, the classes that islands take in turn where the map has learned each class
    but not all of them together; None where one condition serves all islands.
    """

    tilt: Tilt
    prior: Float[np.ndarray, " m *shape"]
    labels: np.ndarray | None = None


def method_of(method: str | Steering, settings: dict[str, Any]) -> tuple[str, Steering]:
    """The method, by a name with settings or as it is. Raises `UserError`."""
    if isinstance(method, Steering):
        require(not settings, f"{list(settings)}: an object of a method has its settings already")
        return method.name, method
    spec = ",".join(f"{key}={value}" for key, value in settings.items())
    return method, configured(f"{method}:{spec}" if spec else method, {})


def reward_of(
    model: Model, reward: RewardLike, weights: tuple[float, ...], classifier: str | None
) -> Reward:
    """The reward as an object. Raises `UserError`."""
    if isinstance(reward, Reward):
        return reward
    if callable(reward):
        text = model.spec.kind == "tokens"
        return OfText(reward, model.spec) if text else function_reward(reward)
    names = (reward,) if isinstance(reward, str) else tuple(reward)
    trust.typed(names)
    opened = None if classifier is None else open_classifier(classifier, model.spec)
    return make_reward(
        names, weights, RewardContext(model.spec.picture_shape, model.dataset, opened, model.spec)
    )


def set_up(
    model: Model,
    reward: Reward,
    *,
    strength: float = 2.0,
    lam: float | None = None,
    label: str | int | None = None,
    chunk: int | None = None,
    seed: int = 0,
    prior: Float[np.ndarray, " m *shape"] | None = None,
) -> Setting:
    """The tilted distribution; `strength` is in standard deviations of the reward over the
    prior, whose samples are drawn unless they are given, as another setting of the same model and
    label has them."""
    check_flat(model)
    require(
        model.abilities.noise != "none",
        f"steering starts from Gaussian noise, and {model.name} was trained with data in its "
        "place; name a run without apps.train --source",
    )
    flow_map, classes = model.flow_map, model.spec.num_classes
    if model.spec.codec:
        reward = Decoded(reward, model.spec.scale, model.spec.codec.open())
    if SAMPLERS[model.sampler].needs == "velocity":
        flow_map = OdeMap(flow_map=flow_map, path=gaussian(flow_map.path))
    together = label is None and classes > 0
    turns = np.arange(classes) if together and not model.abilities.all_classes else None
    chosen = classes if label is None else class_number(model.spec, label, model.name)
    cond = Condition(label=jnp.asarray(chosen)) if classes else None
    shape = tuple(model.spec.shape)
    symbols = shape[-1] if model.spec.kind == "tokens" else 0
    tilt = Tilt(flow_map, reward, jnp.asarray(1.0), shape, cond, symbols=symbols)
    prior = _prior(tilt, turns, seed) if prior is None else prior
    rewards = check_reward(reward, jnp.asarray(prior))
    if lam is None:
        check_varies(np.asarray(rewards))
    value = strength / float(jnp.std(rewards)) if lam is None else lam
    strong = dataclasses.replace(
        tilt, strength=jnp.asarray(value), chunk=chunk, proposal=model.proposal()
    )
    return Setting(strong, prior, turns)


def _prior(tilt: Tilt, turns: np.ndarray | None, seed: int) -> Float[np.ndarray, " m *shape"]:
    """Samples of the map's own distribution, of the classes in turn where there are `turns`."""
    path = tilt.flow_map.path
    start, end = path.time_of_unit(1.0), path.time_of_unit(0.0)
    noise = tilt.noise(jr.key(seed + 1), PRIOR)
    if turns is None:
        return np.asarray(
            jax.jit(jax.vmap(lambda z: tilt.flow_map(z, start, end, tilt.cond)))(noise)
        )

    def one(z, label):
        return tilt.flow_map(z, start, end, Condition(label=label))

    return np.asarray(jax.jit(jax.vmap(one))(noise, jnp.asarray(np.resize(turns, PRIOR))))


def check_method(name: str, method: Steering, setting: Setting, model: Model) -> None:
    """Raises `UserError` where the method cannot serve this reward or this model."""
    tilt, needs = setting.tilt, method.needs(setting.tilt.reward)
    instead = "add --twist False" if hasattr(method, "twist") else "use smc, fk, snis, pcn or slice"
    require(
        tilt.reward.differentiable or "gradient" not in needs,
        f"{name} takes the reward's gradient, and this reward has none: {instead}",
    )
    if "gradient" in needs:
        check_gradient(tilt.reward, jnp.asarray(setting.prior[:FEW]))
    require(
        tilt.flow_map.two_times or "velocity" not in needs,
        f"{model.name} has learned no velocity, which {name} looks ahead or steps by; "
        "use smc with look=map and kernel=renoise",
    )
    require(
        model.abilities.most_nfe != 1 or "between" not in needs,
        f"{model.name} jumps from noise only: use snis, bon, pcn or slice",
    )
    require(
        setting.labels is None or method.normalises or not method.exact,
        f"{model.name} has learned each class but not all together, and {name} does not say how "
        "much each one weighs: name a --label, or use smc, fk, snis or tds",
    )
    require(
        model.abilities.noise == "independent" or not needs & {"velocity", "between"},
        f"{name} adds noise on its way or takes velocities for scores, and {model.name} was "
        "trained with noise that goes with the data (apps.train --coupling): use snis, bon, pcn "
        "or slice",
    )
    if "proposal" in needs:
        check_proposal(name, method, tilt, model.name, model.abilities.observes)


def check_proposal(name: str, method: Steering, tilt: Tilt, model: str, trained: str) -> None:
    """Raises `UserError` unless `model` has an adapter for this reward; `trained` names the one
    that it was trained for."""
    require(
        tilt.proposal is not None,
        f"{name} starts from an adapter's noise, and {model} has trained none: train "
        "one with python -m apps.train --plugin vfm --plugin.reward mask",
    )
    assert tilt.proposal is not None
    noise = tilt.proposal.observed.noise
    require(
        tilt.proposal.serves(tilt.reward),
        f"the adapter of this run was trained for {trained} with noise {noise:g}, and {name} "
        f"serves no other --reward; write {trained.partition(':')[0]}:INDEX,{noise:g}",
    )
    require(
        method.exact or float(tilt.strength) == 1,
        f"{name} draws from the posterior, which is lambda 1: add --lam 1",
    )


def run(
    name: str,
    method: Steering,
    setting: Setting,
    *,
    n: int,
    islands: int,
    seed: int,
    progress: bool = True,
) -> Steered:
    """The method's samples; a line on the screen where few particles carry the weight.

    Where classes take turns, each has the same number of islands, `islands` together or a few more.
    Raises `UserError` where the reward was not finite on the way.
    """
    tilt, labels = setting.tilt, setting.labels
    if labels is not None:
        islands = -(-islands // len(labels)) * len(labels)
    together = min(16, max(1, (tilt.chunk or 16 * n) // n))
    with Meter(name, islands, shown=progress) as meter:
        found = steer(
            method,
            tilt,
            n=n,
            islands=islands,
            key=jr.key(seed),
            labels=labels,
            together=together,
            progress=meter.more,
        )
    require(
        bool(np.all(np.isfinite(found.weights)) and np.isfinite(found.log_z)),
        f"{name}: the reward is not finite for some states on the way; fix it, or try snis",
    )
    if method.normalises and found.ess[-1] < 0.1:
        console.print(
            f"warning: {name}: few particles carry the weight (effective share "
            f"{found.ess[-1]:.3f}); lower --strength, or try smc"
        )
    if method.normalises and len(found.log_z_islands) < JACKKNIFE:
        needed = JACKKNIFE * (1 if labels is None else len(labels))
        console.print(
            f"{name}: no error bar for log Z, which takes {needed} islands; here are {islands}"
        )
    return found
