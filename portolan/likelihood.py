"""Log-likelihoods of a model: `Model.log_prob`, and the table of `apps.eval --likelihood`."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.data.dataset import Dataset
from core.data.spaces import words
from core.data.spec import DataSpec
from core.errors import require
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.solve import AdaptiveSteps
from core.likelihood import (
    ExactDivergence,
    ExactLogDet,
    HeadLogDet,
    Hutchinson,
    LogDet,
    SeriesLogDet,
    Traced,
    bits_per_dimension,
    dequantised,
    log_prob,
    ode_log_prob,
    round_trip,
)
from portolan.model import Model
from portolan.progress import Meter

ODES = {"ode": ExactDivergence, "hutchinson": Hutchinson}
DETERMINANTS = {"exact": ExactLogDet, "series": SeriesLogDet}
HEAD = "head"
WAYS = (*ODES, *DETERMINANTS, HEAD)
"""By the probability-flow ODE, with the exact divergence or one probe; by jumps towards noise, with
the exact determinant, a series, or a trained divergence head."""
EXACT = 1024
"""Numbers of an example up to which Jacobians are taken whole."""
EXAMPLES = 256
"""Examples of a row where no number is given."""
CHUNK = 32
"""Examples at once."""
STEPPING = AdaptiveSteps(rtol=1e-5, atol=1e-5)
COLUMNS = ("data", "by", "steps", "n", "nats", "bits", "error", "round_trip", "folds", "no_number")


def log_probs(
    model: Model,
    x: Float[np.ndarray, " n *shape"],
    *,
    by: str,
    steps: int,
    label: Int[np.ndarray, " n"] | None,
    seed: int,
) -> Float[np.ndarray, " n"]:
    """See `Model.log_prob`. Raises `UserError`."""
    spec = model.spec
    good = np.shape(x)[1:] == spec.shape and len(x) > 0
    require(good, f"x has shape {np.shape(x)}, not (n, *{spec.shape}) with n of at least 1")
    check(model, by, steps)
    check_labels(model, label, len(x))
    network = np.asarray(spec.scale.network(jnp.asarray(x, jnp.float32)))
    found = traced(model, network, label, by=by, steps=steps, seed=seed)
    return np.asarray(found["log_prob"]) - log_spread(spec)


def table(
    model: Model,
    sets: dict[str, Dataset],
    ways: Sequence[str],
    steps: Sequence[int],
    *,
    n: int = 0,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """One row for each data set, way and, of jumps, number of them.

    `nats` is the mean log-likelihood of an example in the units of the data, `bits` the bits per
    dimension of values that were spread evenly over their levels, where the data have levels, and
    `error` the standard error of the bits; `round_trip` the mean relative error of the jumps to
    noise and back, `folds` the share of examples with a negative determinant, `no_number` that of
    examples whose series did not converge, which the means leave out. Raises `UserError`.
    """
    require(
        model.spec.kind != "tokens",
        "text has no density: apps.eval gives its bits a symbol without --likelihood",
    )
    for way in ways:
        for count in steps:
            check(model, way, count)
    return [
        row
        for name, dataset in sets.items()
        for way in ways
        for row in _rows(model, name, dataset, way, steps, n or EXAMPLES, seed)
    ]


def _rows(
    model: Model,
    name: str,
    dataset: Dataset,
    way: str,
    steps: Sequence[int],
    n: int,
    seed: int,
) -> list[dict[str, Any]]:
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:n]
    x = dequantised(dataset.decode(dataset.take(chosen)), dataset.levels, key=jr.key(seed))
    label = None if dataset.labels is None else dataset.labels[chosen]
    rows = []
    for count in (None,) if way in ODES else steps:
        found = traced(model, np.asarray(x), label, by=way, steps=count or 1, seed=seed)
        rows.append(
            {"data": name, "by": way, "steps": count, "n": len(chosen)} | summary(found, model.spec)
        )
    return rows


def summary(found: dict[str, Float[np.ndarray, " n"]], spec: DataSpec) -> dict[str, float]:
    """The means of a row, over the examples whose series converged."""
    size = int(np.prod(spec.shape))
    nats = found["log_prob"][np.isfinite(found["log_prob"])]
    lost = 1 - len(nats) / len(found["log_prob"])
    if not len(nats):
        return {"no_number": lost}
    bits = bits_per_dimension(nats, size, spec.levels)
    row = {"nats": nats.mean() - log_spread(spec), "bits": bits.mean()}
    row["error"] = bits.std(ddof=1) / np.sqrt(len(bits)) if len(bits) > 1 else float("nan")
    row |= {name: found[name].mean() for name in ("round_trip", "folds") if name in found}
    row |= {"no_number": lost} if lost else {}
    return {name: float(value) for name, value in row.items()}


def log_spread(spec: DataSpec) -> float:
    """`log |d stored / d network|` of a whole example: 0 where network values are the units."""
    channels = spec.shape[-1]
    places = int(np.prod(spec.shape)) // channels
    return places * float(np.sum(np.log(spec.scale.spread))) if spec.scale else 0.0


def check(model: Model, by: str, steps: int) -> None:
    """Raises `UserError` where a model has no such likelihood."""
    spec = model.spec
    require(by in WAYS, f"unknown likelihood {by!r}; choose among {', '.join(WAYS)}")
    require(steps >= 1, f"steps must be at least 1, got {steps}")
    require(
        not spec.space,
        f"{model.name} makes points on {words(spec.space)}, whose negative log-likelihood (nll) "
        "apps.eval gives without --likelihood",
    )
    require(not spec.codec, f"{model.name} makes latents, and pictures have no density from them")
    require(
        model.abilities.noise != "none",
        f"{model.name} starts from data, whose density is not known; it has no likelihood",
    )
    require(
        by != HEAD or model.divergence is not None,
        f"{model.name} has no divergence head: take --likelihood exact, or train one by apps.train "
        "--plugin f2d2",
    )
    size = int(np.prod(spec.shape))
    require(
        size <= EXACT or by in ("hutchinson", "series", HEAD),
        f"{by} takes as many derivatives as an example has numbers, {size:,}, and serves "
        f"{EXACT:,}; take hutchinson or series",
    )
    require(
        model.flow_map.abilities.two_times and model.abilities.most_nfe is None,
        f"{model.name} has learned jumps to the data alone, which have no velocity and no way "
        "back; train another method, such as apps.train --plugin imf",
    )


def check_labels(model: Model, label: Int[np.ndarray, " m"] | None, n: int) -> None:
    """Raises `UserError` where these are no labels of `n` examples: a network would take a class
    that there is not for another one."""
    if label is None:
        return
    classes = model.spec.num_classes
    require(classes > 0, f"{model.name} has no classes: leave out label")
    require(np.shape(label) == (n,), f"label has shape {np.shape(label)}, not ({n},)")
    most = classes if model.abilities.all_classes else classes - 1
    for one in np.unique(label):
        require(bool(0 <= one <= most), f"label {one}: {model.name} has classes 0 to {classes - 1}")


def traced(
    model: Model,
    x: Float[np.ndarray, " n *shape"],
    label: Int[np.ndarray, " n"] | None,
    *,
    by: str,
    steps: int,
    seed: int,
) -> dict[str, Float[np.ndarray, " n"]]:
    """Log densities of network values in nats; by jumps also the round trip and folds."""
    field, n = model.flow_map, len(x)
    classes = model.spec.num_classes
    if classes and label is None:
        require(
            model.abilities.all_classes,
            f"{model.name} has classes: give the label of each example",
        )
        label = np.full(n, classes, np.int32)
    times = jnp.asarray(model.grid(field.path, steps)[::-1].copy(), jnp.float32)
    one = _by_ode(by) if by in ODES else _by_jumps
    run = functools.partial(_batch, field, times, one, log_det_of(model, by))
    parts = []
    with Meter(f"likelihood, {by}", n) as meter:
        for start in range(0, n, CHUNK):
            index = np.minimum(np.arange(start, start + CHUNK), n - 1)
            given = None if not classes else jnp.asarray(np.asarray(label)[index])
            part = run(jnp.asarray(x[index]), given, jr.fold_in(jr.key(seed), start))
            parts.append({k: np.asarray(v)[: n - start] for k, v in part.items()})
            meter.more(min(CHUNK, n - start))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def log_det_of(model: Model, by: str) -> LogDet | None:
    """How determinants are taken; None by the ODE."""
    if by == HEAD and model.divergence is not None:
        return HeadLogDet(model.divergence)
    return DETERMINANTS[by]() if by in DETERMINANTS else None


One = Callable[[FlowMap, Array, Any, Array, Condition | None, Key[Array, ""]], dict[str, Array]]


@functools.cache
def _by_ode(by: str) -> One:
    def one(
        field: FlowMap,
        times: Array,
        log_det: None,
        x: Array,
        cond: Condition | None,
        key: Key[Array, ""],
    ) -> dict[str, Array]:
        del times, log_det
        found, _ = ode_log_prob(field, x, cond, key=key, divergence=ODES[by](), stepping=STEPPING)
        return {"log_prob": found}

    return one


def _by_jumps(
    field: FlowMap,
    times: Array,
    log_det: LogDet,
    x: Array,
    cond: Condition | None,
    key: Key[Array, ""],
) -> dict[str, Array]:
    found: Traced = log_prob(field, x, times, cond, key=key, log_det=log_det)
    trip = round_trip(field, x, times, cond)
    return {"log_prob": found.log_prob, "round_trip": trip, "folds": jnp.sign(found.folds)}


@eqx.filter_jit
def _batch(
    field: FlowMap,
    times: Float[Array, " nodes"],
    one: One,
    log_det: LogDet | None,
    x: Float[Array, " m *shape"],
    label: Int[Array, " m"] | None,
    key: Key[Array, ""],
) -> dict[str, Float[Array, " m"]]:
    def example(x: Array, label: Array | None, key: Key[Array, ""]) -> dict[str, Array]:
        cond = None if label is None else Condition(label)
        return one(field, times, log_det, x, cond, key)

    return jax.vmap(example)(x, label, jr.split(key, len(x)))
