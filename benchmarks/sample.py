"""Latency and throughput of sampling: `python -m benchmarks.sample --run runs/imf-digits`."""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from apps._main import launch
from benchmarks._timing import interleaved
from core.data.spec import DataSpec
from core.errors import pick, require
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.report.versions import caption, versions
from core.sampling import SAMPLERS, Sampler, uniform_grid, usable
from core.train.build import build
from core.train.cli import parse, parse_flags
from core.train.run import open_run
from core.train.teachers import open_teacher
from portolan.tables import console, markdown, print_table, save

LATENCY = ("program", "p50 ms", "p90 ms")
THROUGHPUT = ("evaluations", "batch", "ms a batch", "samples/s")


@dataclass(frozen=True)
class SampleConfig:
    """Time to one sample, and samples a second, of a trained run or of a fresh network.

    Latency is that of one evaluation at batch 1, noise drawn inside, the result waited for: by
    `jax.jit`, and by the same program compiled ahead of time, in turn. Throughput is at a large
    batch, for each number of evaluations; medians over rounds, in each of which every number has
    its turn.
    """

    run: str | None = None
    """Run folder; default: a fresh network, as --train describes it."""
    train: str = ""
    """Flags of apps.train that describe the fresh network, in one word:
    --train="--plugin imf --data digits"."""
    sampler: str | None = None
    """Sampler; default: the method's own."""
    evaluations: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Numbers of evaluations."""
    batch: int = 1024
    """Examples in a large batch."""
    calls: int = 200
    """Calls at batch 1 that are timed, after ten that are not."""
    rounds: int = 5
    """Rounds of throughput that are timed, after one that is not."""
    out: str | None = None
    """JSON file to write; the tables are written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        require(
            min((self.batch, self.calls, self.rounds, *self.evaluations)) >= 1,
            "--batch, --calls, --rounds and --evaluations must be at least 1",
        )


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the tables and writes them."""
    config = parse_flags(SampleConfig, argv)
    what, own, spec, flow_map, most = opened(config)
    name = config.sampler or own
    sampler = pick(SAMPLERS, name, "sampler")
    counts = usable(name, sampler, config.evaluations, most)
    shape, classes = spec.shape, spec.num_classes
    delays = latency(flow_map, shape, classes, config.calls)
    speeds = throughput(flow_map, shape, classes, sampler, counts, config.batch, config.rounds)
    result: dict[str, Any] = {
        "versions": versions(),
        "what": what,
        "sampler": name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(_arrays(flow_map))),
        "latency": delays,
        "throughput": speeds,
    }
    tables = [
        (f"Latency of one evaluation, {what}", LATENCY, _rows(LATENCY, delays)),
        (f"Throughput of {name}, {what}", THROUGHPUT, _rows(THROUGHPUT, speeds)),
    ]
    for table in tables:
        print_table(*table)
    if config.out:
        page = "\n".join(markdown(*table) for table in tables)
        save(config.out, result, f"{page}\n{caption(result['versions'])}\n")
    return result if config.json else None


def opened(config: SampleConfig) -> tuple[str, str, DataSpec, FlowMap, int | None]:
    """The source of the samples: its name, its own sampler, the spec of its data, its map, its most
    evaluations."""
    if config.run is not None:
        require(not config.train, "--run names a trained network; leave out --train")
        run = open_run(config.run)
        most = type(run.config.plugin_flags).most_nfe
        return config.run, run.sampler, run.spec, run.flow_map, most
    flags = parse(shlex.split(config.train))
    built = build(flags, open_teacher(flags), train=False)
    console.print(f"a fresh network: {flags.plugin} on {flags.data}")
    name = f"{flags.plugin} on {flags.data}, fresh"
    method, most = built.method, type(flags.plugin_flags).most_nfe
    return name, method.sampler, built.dataset.spec, method.flow_map, most


def latency(
    flow_map: FlowMap, shape: tuple[int, ...], classes: int, calls: int
) -> list[dict[str, Any]]:
    """Quantiles of the milliseconds of one sample in one evaluation."""
    draw = drawer(flow_map, shape, classes, SAMPLERS["pushforward"], 1)
    arrays, times = _arrays(flow_map), jnp.asarray(uniform_grid(flow_map.path, 1), jnp.float32)
    program = jax.jit(draw)
    ahead = program.lower(arrays, times, jr.key(0)).compile()
    variants = {
        "jit": partial(program, arrays, times, jr.key(1)),
        "compiled ahead": partial(ahead, arrays, times, jr.key(1)),
    }
    seconds = interleaved(variants, calls, warm=10)
    return [
        {"program": name, **{f"p{p}_ms": _ms(np.percentile(each, p)) for p in (50, 90)}}
        for name, each in seconds.items()
    ]


def throughput(
    flow_map: FlowMap,
    shape: tuple[int, ...],
    classes: int,
    sampler: Sampler,
    counts: Sequence[int],
    batch: int,
    rounds: int,
) -> list[dict[str, Any]]:
    """Samples a second at a large batch, for each number of evaluations."""
    draw, arrays = drawer(flow_map, shape, classes, sampler, batch), _arrays(flow_map)
    variants = {}
    for count in counts:
        steps = sampler.steps(count)
        times = jnp.asarray(uniform_grid(flow_map.path, steps), jnp.float32)
        program = jax.jit(draw).lower(arrays, times, jr.key(0)).compile()
        variants[str(count)] = partial(program, arrays, times, jr.key(1))
    seconds = interleaved(variants, rounds)
    return [
        {
            "evaluations": count,
            "batch": batch,
            "ms": _ms(median(seconds[str(count)])),
            "samples_per_second": round(batch / median(seconds[str(count)]), 1),
        }
        for count in counts
    ]


def drawer(
    flow_map: FlowMap, shape: tuple[int, ...], classes: int, sampler: Sampler, batch: int
) -> Callable[[Any, jax.Array, jax.Array], jax.Array]:
    """`(arrays of the map, times, key) -> (batch, *shape)`: noise, and the sampler."""
    static = eqx.partition(flow_map, eqx.is_array)[1]

    def draw(arrays: Any, times: jax.Array, key: jax.Array) -> jax.Array:
        whole = eqx.combine(arrays, static)

        def one(key: jax.Array, number: jax.Array) -> jax.Array:
            key_noise, key_sampler = jr.split(key)
            cond = Condition(number % classes) if classes else None
            x = whole.path.sigma(times[0]) * whole.path.noise(key_noise, shape)
            return sampler(whole, x, times, cond, key=key_sampler).x

        return jax.vmap(one)(jr.split(key, batch), jnp.arange(batch))

    return draw


def _arrays(flow_map: FlowMap) -> Any:
    return eqx.filter(flow_map, eqx.is_array)


def _ms(seconds: float) -> float:
    return round(1e3 * float(seconds), 4)


def _rows(columns: Sequence[str], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [dict(zip(columns, row.values(), strict=True)) for row in rows]


if __name__ == "__main__":
    launch(main)
