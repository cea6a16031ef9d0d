"""Steers a trained run by a reward: `python -m apps.tilt --reward brightness`."""

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.spatial.distance import pdist

from apps._main import launch
from apps._progress import Meter
from apps._table import console, markdown, print_table, save
from apps._tilt.rewards import (
    judged,
    open_judge,
    print_classes,
    print_rewards,
    reward_of,
)
from apps._tilt.self_test import self_test
from apps._tilt.specs import file_name, methods_of, print_methods
from core.condition import Condition
from core.errors import UserError, require
from core.gallery import draw_blocks
from core.plugin import find_plugin
from core.sampling import SAMPLERS
from core.steering.prior import OdeMap
from core.steering.reward import check_reward
from core.steering.steering import JACKKNIFE, Steered, Steering, Tilt, steer
from core.train.cli import parse_flags
from core.train.run import Run, open_run

COLUMNS = (
    "method", "exact", "reward", "success", "best", "diversity", "log Z", "ESS", "starts",
    "evaluations", "reward calls",
)  # fmt: skip


@dataclass(frozen=True)
class TiltConfig:
    """Draws from `p(x) exp(lambda r(x)) / Z`, where p is the law of a run's samples.

    Methods: smc (start here: exact weights from few particles), fk, tds and fmtt (other potentials,
    steps and weights), snis (scored samples), pcn, slice, hmc and waltz (Markov chains); searches
    without a law: bon (best of N), guide, reno, fmtt-search. --methods lists all with their
    settings, --rewards the rewards. Writes samples with their weights (npz), a picture and the
    table under <run>/tilt.
    """

    run: str = "runs/imf-digits"
    """Run folder."""
    plugin: tuple[str, ...] = ("smc",)
    """Methods of steering, side by side. A name, or a name with settings of its own, as in
    "smc:kernel=em,steps=50"; --methods lists both."""
    reward: tuple[str, ...] = ("brightness",)
    """Rewards, which are added up: NAME or NAME:ARGUMENT, as --rewards lists them."""
    classifier: str | None = None
    """Run of apps.features --task classifier, for the reward class:K."""
    judge: str | None = None
    """Run of a second classifier, trained by itself, that says which classes the samples are of."""
    weights: tuple[float, ...] = ()
    """A factor for each reward; default 1."""
    strength: float = 2.0
    """How strongly to tilt, in standard deviations of the reward: lambda = strength / sd(r)."""
    lam: float | None = None
    """lambda itself, in place of --strength; 1 for log-likelihoods such as mask."""
    n: int = 64
    """Particles of an island."""
    islands: int = 8
    """Independent islands, whose spread is the error."""
    budget: int = 0
    """Network evaluations of each method, in place of --islands; one backward counts as two."""
    steps: int | None = None
    """Steps from noise to data, for those methods that have them and name none."""
    look: str | None = None
    """Look-ahead of smc and fk: map, tweedie, naive or posterior."""
    twist: bool | None = None
    """smc: shift particles by the reward's gradient; default: where it has one."""
    moves: int | None = None
    """pcn, slice: moves of each chain; default 128 and 64."""
    chunk: int | None = None
    """Particles that go through the network at once, where memory is short; default all of them."""
    label: int | None = None
    """Class to draw from; default: all together, where the run has learned that."""
    seed: int = 0
    """Seed."""
    show: int = 20
    """Samples in the picture, of each method."""
    out: str | None = None
    """Output folder; default <run>/tilt."""
    rewards: bool = False
    """List all rewards, and do nothing else."""
    methods: bool = False
    """Print the table of all methods with their settings instead."""
    self_test: bool = False
    """Check every method against closed-form answers instead; exit status 1 if one fails."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Steers and writes, or tests itself."""
    config = parse_flags(TiltConfig, argv)
    if config.rewards:
        listed = print_rewards()
        return {"rewards": listed} if config.json else None
    if config.self_test:
        result = self_test()
        if not result["passed"]:
            sys.exit(1)
        return result if config.json else None
    if config.methods:
        result = print_methods()
        return result if config.json else None
    return tilted(config)


def tilted(config: TiltConfig) -> dict[str, Any] | None:
    """Steers and writes."""
    require(
        min(config.n, config.islands, config.show) >= 1 and min(config.seed, config.budget) >= 0,
        "--n, --islands and --show must be at least 1, --seed and --budget at least 0",
    )
    require(config.chunk is None or config.chunk >= 1, f"--chunk {config.chunk}: at least 1")
    flags = {key: getattr(config, key) for key in ("steps", "look", "twist", "moves")}
    methods = methods_of(config.plugin, flags)
    run = open_run(config.run)
    judge = open_judge(run, config.judge, config.classifier)
    tilt, prior = tilt_of(run, config)
    for name, method in methods.items():
        check_method(name, method, tilt, run)
    folder = Path(config.out or Path(config.run) / "tilt")
    make_folder(folder)
    rows, blocks = [prior_row(prior, tilt)], [prior[: config.show]]
    rows[0] |= judged(judge, tilt.reward, prior)
    for name, method in methods.items():
        found = steered_by(name, method, tilt, config)
        rows.append(method_row(name, method, found, tilt))
        rows[-1] |= judged(judge, tilt.reward, found.x, found.weights)
        blocks.append(found.draw(config.show))
        path = folder / f"{file_name(name)}.npz"
        np.savez_compressed(path, samples=found.x, weights=found.weights)
    picture = folder / "samples.png"
    dataset = dataclasses.replace(run.built.dataset, num_classes=0)
    draw_blocks(dataset, blocks, picture, " + ".join(config.reward), ["prior", *methods])
    title = f"{config.run} tilted by {' + '.join(config.reward)}, lambda {float(tilt.strength):.4g}"
    print_table(title, COLUMNS, rows)
    print_classes(rows, run.built.dataset.class_names)
    console.print(f"wrote {picture} and the samples with their weights beside it")
    result = {"run": config.run, "reward": config.reward, "lambda": float(tilt.strength)}
    result |= {"rows": rows, "picture": str(picture)}
    save(str(folder / "table.json"), result, markdown(title, COLUMNS, rows))
    return result if config.json else None


def make_folder(folder: Path) -> None:
    """Makes the output folder. Raises `UserError` where it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None


def steered_by(name: str, method: Steering, tilt: Tilt, config: TiltConfig) -> Steered:
    """The method's samples; a line on the screen where few particles carry the weight.

    Raises `UserError` where the reward was not finite on the way.
    """
    islands, n = islands_of(method, tilt, config), config.n
    together = min(16, max(1, (config.chunk or 16 * n) // n))
    with Meter(name, islands) as meter:
        found = steer(
            method,
            tilt,
            n=n,
            islands=islands,
            key=jr.key(config.seed),
            together=together,
            progress=meter.more,
        )
    require(
        bool(np.all(np.isfinite(found.weights))) and np.isfinite(found.log_z),
        f"{name}: the reward is not finite for some states on the way; mend it, or try snis",
    )
    if method.normalises and found.ess[-1] < 0.1:
        console.print(
            f"warning: {name}: few particles carry the weight (effective share "
            f"{found.ess[-1]:.3f}); lower --strength, or try smc"
        )
    if method.normalises and islands < JACKKNIFE:
        console.print(f"{name}: log Z has an error bar from {JACKKNIFE} --islands on")
    return found


def tilt_of(run: Run, config: TiltConfig) -> tuple[Tilt, np.ndarray]:
    """What is drawn from, and samples of the prior, on which the reward's spread is measured."""
    dataset, flow_map = run.built.dataset, run.flow_map
    reward = reward_of(run, config.reward, config.weights, config.classifier)
    if SAMPLERS[run.built.method.sampler].needs == "velocity":
        flow_map = OdeMap(flow_map=flow_map, path=flow_map.path)
    classes, label = dataset.num_classes, config.label
    require(label is None or 0 <= label < classes, f"--label {label}: classes 0 to {classes - 1}")
    require(
        not classes or label is not None or knows_all(run),
        "this run has learned each class but not all together (--plugin.label-drop 0): name a "
        "--label",
    )
    chosen = classes if label is None else label
    cond = Condition(label=jnp.asarray(chosen)) if classes else None
    tilt = Tilt(flow_map, reward, jnp.asarray(1.0), tuple(dataset.shape), cond)
    start = flow_map.path.time_of_unit(1.0)
    end = flow_map.path.time_of_unit(0.0)
    noise = tilt.noise(jr.key(config.seed + 1), 512)
    prior = jax.jit(jax.vmap(lambda z: flow_map(z, start, end, cond)))(noise)
    spread = float(jnp.std(check_reward(reward, prior)))
    strength = config.strength / max(spread, 1e-12) if config.lam is None else config.lam
    strong = dataclasses.replace(tilt, strength=jnp.asarray(strength), chunk=config.chunk)
    return strong, np.asarray(prior)


def knows_all(run: Run) -> bool:
    """Whether the null class was trained, which stands for all classes together."""
    flags = run.config.plugin_flags
    guidance = getattr(flags, "guidance", None)
    return getattr(flags, "label_drop", 0) > 0 or bool(getattr(guidance, "on", False))


def check_method(name: str, method: Steering, tilt: Tilt, run: Run) -> None:
    """Raises `UserError` where the method cannot serve this reward or this run."""
    instead = "add --no-twist" if hasattr(method, "twist") else "use smc, fk, snis, pcn or slice"
    require(
        tilt.reward.differentiable or not method.needs_gradient(tilt.reward),
        f"{name} takes the reward's gradient, and this reward has none: {instead}",
    )
    require(
        tilt.flow_map.two_times or not method.needs_velocity(),
        f"{run.config.plugin} has learned no velocity, which {name} looks ahead or steps by; "
        "use smc with look=map and kernel=renoise",
    )
    only_noise = find_plugin(run.config.plugin).most_nfe == 1
    require(
        not only_noise or not method.needs_between(),
        f"{run.config.plugin} jumps from noise only: use snis, bon, pcn or slice",
    )


def islands_of(method: Steering, tilt: Tilt, config: TiltConfig) -> int:
    """How many islands the budget pays for, or those asked for."""
    if not config.budget:
        return config.islands
    per_island = config.n * method.cost(tilt.reward).evaluations(tilt.flow_map.evaluations)
    return max(config.budget // per_island, 1)


def prior_row(prior: np.ndarray, tilt: Tilt) -> dict[str, Any]:
    """The row of the map's own samples."""
    values = np.asarray(check_reward(tilt.reward, jnp.asarray(prior)))
    return {
        "method": "prior",
        "reward": f"{values.mean():.4g}",
        "best": float(values.max()),
        "diversity": diversity(prior[:256]),
    }


def method_row(name: str, method: Steering, steered: Steered, tilt: Tilt) -> dict[str, Any]:
    """The row of a method."""
    values = np.asarray(check_reward(tilt.reward, jnp.asarray(steered.x)), np.float64)
    cost, particles = method.cost(tilt.reward), len(steered.x)
    mean = float(steered.weights @ values)
    effective = 1 / float(np.sum(steered.weights**2))
    spread = float(np.sqrt(steered.weights @ (values - mean) ** 2 / effective))
    known = "" if np.isnan(steered.log_z_error) else f" ± {steered.log_z_error:.3f}"
    log_z = f"{steered.log_z:.3f}{known}" if method.normalises else None
    return {
        "method": name,
        "exact": method.exact,
        "reward": f"{mean:.4g} ± {spread:.2g}",
        "best": float(values.max()),
        "diversity": diversity(steered.draw(256)),
        "log Z": log_z,
        "ESS": float(steered.ess[-1]) if method.normalises else None,
        "starts": steered.starts if method.normalises else None,
        "evaluations": particles * cost.evaluations(tilt.flow_map.evaluations),
        "reward calls": particles * cost.reward,
    }


def diversity(samples: np.ndarray) -> float:
    """The mean distance between two samples."""
    return float(pdist(samples.reshape(len(samples), -1)).mean())


if __name__ == "__main__":
    launch(main)
