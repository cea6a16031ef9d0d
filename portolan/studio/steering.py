"""The panel Steer: rewards with weights, and completions of what a mask leaves of an example."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.data.labels import class_number
from core.errors import UserError, require
from core.steering.registry import RewardContext, make_reward, rewards
from core.steering.reward import Observation, Reward
from core.steering.steering import Steered, Steering, steerings
from portolan import tilting
from portolan.studio.bounds import ISLANDS, most_particles
from portolan.studio.fields import SEED, Fields
from portolan.studio.session import Opened
from portolan.studio.views import Shown, shown, view_of
from portolan.tables import quiet

FILES = ("python", "numpy", "class")
"""Rewards that name code or folders: none of these from a page."""
MOST_REWARDS = 4
SHOWN = 20
"""Samples of a picture of images or texts."""
POINTS = 1000
ASIDE = {"mask": "it is drawn on the page itself"}
"""Rewards that are not in the list."""


class Blend(Reward):
    """`sum_i weights_i r_i(x)` with weights that a slider changes: no new program for new ones."""

    rewards: tuple[Reward, ...]
    weights: Float[Array, " k"]

    @property
    def differentiable(self) -> bool:
        return all(reward.differentiable for reward in self.rewards)

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        parts = jnp.stack([reward(x) for reward in self.rewards])
        return jnp.sum(self.weights * parts)


def steerable(run: Opened, fields: Fields) -> Shown:
    """Which rewards and methods there are for a run. Raises `UserError` where it is not steered."""
    del fields
    model = run.model
    tilting.check_flat(model)
    require(model.abilities.noise != "none", f"{model.name} starts from data: nothing to steer")
    context, found = context_of(run), []
    for kind in rewards().values():
        if kind.name in FILES or kind.name in ASIDE:
            continue
        argument = argument_of(kind.name)
        try:
            make_reward((f"{kind.name}:a" if argument == "text" else kind.name,), (), context)
        except UserError:
            continue
        found.append(
            {"name": kind.name, "argument": argument, "words": kind.summary.partition("; --")[0]}
        )
    methods = [methods_row(name, kind) for name, kind in steerings().items()]
    try:
        count = len(run.dataset())
    except UserError:
        count = 0
    small = view_of(model.spec) == "tiles" and model.spec.kind == "image" and not model.spec.codec
    said = {"rewards": found, "methods": methods, "examples": count, "most": most_particles(model)}
    return Shown(said={**said, "mask": small and max(model.spec.shape[:2]) <= 64})


def argument_of(name: str) -> str:
    """What of a reward can be chosen on the page."""
    if name in ("target", "blur", "superres"):
        return "index"
    return {"prefix": "text", "linear": "angle"}.get(name, "")


def methods_row(name: str, kind: type[Steering]) -> dict[str, Any]:
    """A method of steering: its name, whether it is exact and has steps, and what it says."""
    words = (kind.__doc__ or "").strip().partition("\n\n")[0].replace("`", "")
    steps = hasattr(kind, "steps")
    return {"name": name, "exact": kind.exact, "steps": steps, "words": " ".join(words.split())}


def context_of(run: Opened) -> RewardContext:
    """What rewards are made from."""
    spec = run.model.spec
    return RewardContext(spec.picture_shape, run.dataset, None, spec)


def tilt(run: Opened, fields: Fields) -> Shown:
    """Samples drawn towards rewards, beside those of the run itself, with what they weigh."""
    return steered(run, fields, blended(run, fields), fields.number("strength", 0, 20, 2.0), None)


def complete(run: Opened, fields: Fields) -> Shown:
    """Samples that agree with an example where the mask says so: draws of the posterior."""
    spec = run.model.spec
    require(spec.kind == "image", "a mask is drawn on an image")
    size = spec.shape[0] * spec.shape[1]
    bits = fields.text("mask", 4096)
    good = len(bits) == size and set(bits) <= {"0", "1"}
    require(good, f"mask must be {size} times 0 or 1")
    require("1" in bits, "the mask keeps nothing: draw on the example")
    kept = np.array([bit == "1" for bit in bits], np.float32).reshape(*spec.shape[:2], 1)
    y, _ = example_of(run, fields.whole("index", 0, SEED, 0))
    mask = jnp.asarray(np.broadcast_to(kept, spec.shape))
    reward = Observation(jnp.asarray(y), mask, fields.number("noise", 0.02, 2, 0.2))
    return steered(run, fields, reward, 0.0, 1.0)


def example(run: Opened, fields: Fields) -> Shown:
    """The example of a number, and its class."""
    y, label = example_of(run, fields.whole("index", 0, SEED, 0))
    picture = shown(run, y[None])
    return Shown(picture.arrays, {**picture.said, "label": label})


def example_of(run: Opened, index: int) -> tuple[Float[np.ndarray, "*shape"], int | None]:
    """An example of the data as network values with its class. Raises `UserError` without data."""
    data = run.dataset()
    index = index % len(data)
    label = None if data.labels is None else int(data.labels[index])
    return np.asarray(data.decode(data.take(np.array([index]))))[0], label


def blended(run: Opened, fields: Fields) -> Reward:
    """The rewards that a request names, with their weights."""
    asked = fields.values.get("rewards")
    require(
        isinstance(asked, list) and 1 <= len(asked) <= MOST_REWARDS,
        f"rewards must be a list of 1 to {MOST_REWARDS}: choose one",
    )
    made, weights = [], []
    for each in asked or ():
        one = Fields(each if isinstance(each, dict) else {})
        name = one.word("name", [n for n in rewards() if n not in FILES])
        made.append(named(run, name, one))
        weights.append(one.number("weight", -10, 10, 1.0))
    return Blend(tuple(made), jnp.asarray(weights, jnp.float32))


def named(run: Opened, name: str, fields: Fields) -> Reward:
    """One reward with its argument."""
    kind, argument = argument_of(name), ""
    if kind == "index":
        argument = str(fields.whole("index", 0, SEED, 0))
    elif kind == "text":
        argument = fields.text("text", 200) + ",0.2"
    elif kind == "angle" and run.model.spec.shape == (2,):
        angle = np.radians(fields.number("angle", -180, 180, 0))
        argument = f"{np.cos(angle):.6f},{np.sin(angle):.6f}"
    return make_reward((f"{name}:{argument}" if argument else name,), (), context_of(run))


def steered(
    run: Opened, fields: Fields, reward: Reward, strength: float, lam: float | None
) -> Shown:
    """Steers by a reward, of a strength in standard deviations or of lambda itself."""
    model = run.model
    most = most_particles(model)
    n, seed = fields.whole("n", 2, most, min(64, most)), fields.whole("seed", 0, SEED, 0)
    word, steps = fields.word("method", steerings(), "snis"), fields.whole("steps", 1, 32, 8)
    settings = {"steps": steps} if hasattr(steerings()[word], "steps") else {}
    name, method = tilting.method_of(word, settings)
    label = fields.whole("label", 0, SEED) if fields.has("label") else None
    if label is not None:
        class_number(model.spec, label, model.name)
    key = ("prior", label)
    setting = tilting.set_up(
        model, reward, strength=strength, lam=lam, label=label, prior=run.kept.get(key)
    )
    run.kept[key] = setting.prior
    tilting.check_method(name, method, setting, model)
    with quiet():
        found = tilting.run(name, method, setting, n=n, islands=ISLANDS, seed=seed, progress=False)
    return reported(run, found, setting, method.normalises)


def reported(run: Opened, found: Steered, setting: tilting.Setting, normalises: bool) -> Shown:
    """The pictures of both distributions, and the figures of the weights."""
    few = SHOWN if view_of(run.model.spec) in ("tiles", "text") else POINTS
    before = shown(run, setting.prior[:few]).named("prior")
    after = shown(run, found.draw(few, 0)).named("tilted")
    reward = setting.tilt.reward
    before_r, after_r = (np.asarray(_values(reward, x)) for x in (setting.prior, found.x))
    weights = np.sort(found.weights)[::-1]
    said: dict[str, Any] = {
        "lambda": float(setting.tilt.strength),
        "reward_prior": float(before_r.mean()),
        "reward_tilted": float(found.weights @ after_r),
        "share": float(1 / np.sum(found.weights**2) / len(weights)),
        "log_z": found.log_z if normalises else None,
        "log_z_error": found.log_z_error if normalises else None,
        "ess": found.ess.tolist() if normalises else [],
        "particles": len(weights),
    }
    arrays = {"weights": (weights * len(weights)).astype(np.float32)}
    if reward.observed is not None:
        mean = np.tensordot(found.weights, np.asarray(found.x, np.float64), 1)
        arrays["mean"] = shown(run, mean[None].astype(np.float32)).arrays["tiles"]
        arrays["observed"] = shown(run, np.asarray(reward.observed)[None]).arrays["tiles"]
    return Shown({**arrays, **before.arrays, **after.arrays}, {**said, **before.said, **after.said})


@eqx.filter_jit
def _values(reward: Reward, x):
    return jax.vmap(reward)(x)
