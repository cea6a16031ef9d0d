"""The certificate of a model: where its map is wrong, and the times at which it should stop."""

import contextlib
import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from core.certificate import (
    KINDS,
    Examples,
    Tables,
    best_times,
    gronwall,
    measure,
    memory,
    stretch,
)
from core.data.dataset import Dataset
from core.errors import UserError, require
from core.files import write_json
from core.flow.path import gaussian
from core.report.evaluation import labels_like
from core.sampling import Grid, at_units
from portolan.model import Model
from portolan.progress import Meter

FILE = "certificate.json"
CERTIFIED = "certified"
"""The name of the grid whose times a certificate found."""
JUMPS = tuple(range(2, 9))
"""Numbers of jumps for which the best times are found."""
NODES = 17
MOST_NUMBERS = 2**28
"""Numbers of a training set up to which a map is held against the set's own."""
EXAMPLES = 64
WORDS = {
    "eulerian": "Eulerian rule", "lagrangian": "Lagrangian rule",
    "compositional": "compositional rule", "round_trip": "there and back",
    "ode": "distance to its ODE", "end": "the same at the data end",
}  # fmt: skip


@dataclass(frozen=True)
class Certificate:
    """What was measured, on `examples` pairs of data and noise.

    **Fields:** `units`, the unit times of the nodes, from 1 to 0; `tables`, see
    `core.certificate.measure`; `times`, the best unit times by the number of jumps; `errors`, for
    each number of jumps the sum of the measured costs at the data end of these times and of equally
    spaced nodes (where the nodes allow); `distance`, the root mean square distance of one-jump
    samples to the ODE's from the same noise, over whole examples; `bound`, Gronwall's; `memory`,
    rows of `core.certificate.memory` by time, of training examples and of others.
    """

    units: tuple[float, ...]
    tables: Tables
    times: dict[int, tuple[float, ...]]
    errors: dict[int, tuple[float, float | None]]
    distance: float
    bound: float
    examples: int
    memory: tuple[dict[str, float], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values; tables as lists with null where there is nothing."""
        tables = {
            kind: [[None if np.isnan(v) else float(v) for v in row] for row in table]
            for kind, table in self.tables.items()
        }
        plain = dataclasses.asdict(self)
        return plain | {"tables": tables}

    def summary(self) -> list[dict[str, Any]]:
        """A row for each kind: the median over all jumps, the whole jump, and the worst one."""
        rows = []
        for kind, table in self.tables.items():
            i, j = np.unravel_index(np.nanargmax(table), table.shape)
            rows.append(
                {
                    "measured": WORDS[kind],
                    "median": float(np.nanmedian(table)),
                    "whole jump": float(table[0, -1]),
                    "worst": float(table[i, j]),
                    "s": self.units[int(i)],
                    "t": self.units[int(j)],
                }  # fmt: skip
            )
        return rows


def certify(
    model: Model,
    *,
    n: int = EXAMPLES,
    nodes: int = NODES,
    seed: int = 0,
    other: Dataset | None = None,
) -> Certificate:
    """Measures a map against its own rules, its own ODE and the exact map of its training set;
    `other` has examples that it was not trained on. Raises `UserError`."""
    check(model, n, nodes)
    path, dataset = gaussian(model.flow_map.path), model.dataset()
    key_noise, key_stretch = jr.split(jr.key(seed))
    drawn = _drawn(model, dataset, n, seed, key_noise)
    x_0, z, label = drawn.x_0, drawn.z, drawn.label
    units = np.linspace(1, 0, nodes)
    times = np.array([float(path.time_of_unit(float(u))) for u in units])
    with Meter("jumps", nodes - 1) as meter:
        tables = measure(model.flow_map, x_0, z, label, times, progress=meter.more)
    check_finite(tables, model.name)
    size = float(np.sqrt(np.prod(model.spec.shape)))
    stretches = np.array([
        float(
            stretch(
                model.flow_map,
                path.interpolate(x_0, z, float(t)),
                label,
                jnp.asarray(t, jnp.float32),
                key=key_stretch,
            )
        )
        for t in times
    ])  # fmt: skip
    gaps = times[0] - times[1:]
    residuals = np.concatenate([[0.0], tables["lagrangian"][0, 1:] / gaps * size])
    bound = gronwall(times, residuals, stretches)
    ways = _ways(tables["end"])
    return Certificate(
        units=tuple(units.tolist()),
        tables=tables,
        times={k: tuple(units[way].tolist()) for k, way in ways.items()},
        errors={k: (_cost(tables["end"], way), _even(tables["end"], k)) for k, way in ways.items()},
        distance=float(tables["ode"][0, -1]) * size,
        bound=bound,
        examples=len(x_0),
        memory=_memory(model, dataset, drawn, other, times, seed),
    )


def _drawn(model: Model, dataset: Dataset, n: int, seed: int, key: Key[Array, ""]) -> Examples:
    """Random examples with noise, and labels where the model has classes."""
    chosen = np.random.default_rng(seed).permutation(len(dataset))[:n]
    x_0, label = dataset.decode(dataset.take(chosen)), None
    if model.spec.num_classes and not isinstance(labels_like(dataset, 1), int):
        label = jnp.asarray(dataset.labels)[chosen]
    return Examples(x_0, gaussian(model.flow_map.path).noise(key, x_0.shape), label)


def _memory(
    model: Model,
    dataset: Dataset,
    own: Examples,
    other: Dataset | None,
    times: Float[np.ndarray, " nodes"],
    seed: int,
) -> tuple[dict[str, float], ...]:
    """The map beside the training set's own, of its examples and of others; nothing for text and
    latents, of sets that are too large, or that have no labels where the map has, and of maps whose
    noise goes with the data, of which the set's own map is another."""
    if model.abilities.noise != "independent":
        return ()
    size = len(dataset) * int(np.prod(model.spec.shape))
    fresh = own.label is None and model.spec.num_classes > 0
    if dataset.kind == "tokens" or model.spec.codec or size > MOST_NUMBERS or fresh:
        return ()
    training = dataset.decode(dataset.take(np.arange(len(dataset))))
    labels = None if own.label is None else jnp.asarray(dataset.labels)
    sets = {"training": own}
    other = model.held_out() if other is None else other
    if other is not None:
        sets["other"] = _drawn(model, other, len(own.x_0), seed, jr.key(seed + 1))
    with Meter("training set", len(sets) * len(times)) as meter:
        found = {
            name: memory(model.flow_map, training, labels, one, times, progress=meter.more)
            for name, one in sets.items()
        }
    return tuple(
        {"t": float(times[i])}
        | {f"{kind}_{name}": float(row[kind][i]) for name, row in found.items() for kind in row}
        for i in range(len(times))
    )


def _cost(table: Float[np.ndarray, "nodes nodes"], way: Sequence[int]) -> float:
    return float(sum(table[i, j] for i, j in zip(way, way[1:])))


def _even(table: Float[np.ndarray, "nodes nodes"], jumps: int) -> float | None:
    """The cost of equally spaced times, where they are nodes."""
    width, rest = divmod(len(table) - 1, jumps)
    return None if rest else _cost(table, range(0, len(table), width))


def check(model: Model, n: int, nodes: int) -> None:
    """Raises `UserError` for a model that has no jumps between any two times."""
    require(n >= 2 and nodes >= 3, "--n must be at least 2 and --nodes at least 3")
    require(
        model.flow_map.abilities.two_times and model.abilities.most_nfe is None,
        f"{model.name} has learned jumps to the data alone: there is no rule to hold it against; "
        "see apps.eval for its samples",
    )
    require(
        model.abilities.noise != "none",
        f"{model.name} starts from data: its certificate would need pairs of both ends",
    )


def check_finite(tables: Tables, name: str) -> None:
    """Raises `UserError` where a whole table has no finite number."""
    require(
        all(np.isfinite(table).any() for table in tables.values()),
        f"the jumps of {name} are not finite, so nothing can be certified; train it by apps.train "
        "with a lower --optim.rate",
    )


def _ways(cost: Float[np.ndarray, "nodes nodes"]) -> dict[int, list[int]]:
    """The best ways by their numbers of jumps, where the nodes allow one that is finite."""
    found = {}
    for jumps in JUMPS:
        with contextlib.suppress(ValueError):
            found[jumps] = best_times(cost, jumps)
    return found


def write(found: Certificate, folder: Path) -> tuple[Path, Path]:
    """Writes `certificate.json` and its heat maps, and returns both paths."""
    from core.report import pictures  # with Matplotlib

    place, picture = folder / FILE, folder / "certificate.png"
    write_json(place, found.to_json())
    tables = {WORDS[kind]: found.tables[kind] for kind in KINDS}
    title = f"{folder.name}: how far jumps from s to t are off"
    pictures.heat_maps(tables, found.units, picture, title, "rms")
    return place, picture


def certified_times(folder: Path, jumps: int) -> tuple[float, ...]:
    """The unit times of a run's certificate for so many jumps; the only ones for one jump.

    Raises `UserError` where there is no certificate, or none for that number.
    """
    if jumps == 1:
        return (1.0, 0.0)
    try:
        times = json.loads((folder / FILE).read_text(encoding="utf-8"))["times"]
        found = tuple(float(one) for one in times[str(jumps)])
    except FileNotFoundError:
        raise UserError(
            f"{folder} has no {FILE}: make it by python -m apps.inspect --run {folder} --certify"
        ) from None
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{folder / FILE} has no times for {jumps} jumps (2 to {JUMPS[-1]}): make it again by "
            "python -m apps.inspect --certify, or leave out certified times"
        ) from None
    return found


def certified_grid(folder: Path) -> Grid:
    """The grid of a run's certificate; asking it for times raises `UserError` without one."""
    return lambda path, steps: at_units(path, certified_times(folder, steps))
