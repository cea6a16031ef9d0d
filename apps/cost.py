"""Measures the cost of each method: `python -m apps.cost --all`."""

import sys
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import jax.random as jr

from apps._main import launch
from core.errors import UserError
from core.methods.cost import Bench, Cost
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin, plugins
from core.methods.row_plugin import RowPlugin
from core.nets.dit import DiTConfig
from core.objectives.guidance import GuidanceConfig
from core.objectives.objective import Batch
from core.report.versions import caption, versions
from core.train.cli import parse_flags
from portolan.progress import Meter
from portolan.tables import console, markdown, print_table, save

COLUMNS = (
    "plugin",
    "survey",
    "count",
    "whole batch",
    "split count",
    "split",
    "time",
    "split time",
    "split memory",
)
MARGIN = 1.07
CLASSES = 10


@dataclass(frozen=True)
class CostConfig:
    """Operations, time and memory of each method's loss and gradient over one forward pass.

    All on one transformer and one batch. `survey` is the published estimate for
    the whole batch, `count` ours, `split count` ours with the method's own division of the batch;
    beside each stands the measurement: operations from the compiled program, times from this
    run (the least of --repeats). A measured figure above 1.07 times its count is marked with !.
    """

    plugins: tuple[str, ...] = ("imf",)
    """Methods to measure."""
    all: bool = False
    """Measure every registered method but those of tokens."""
    size: int = 16
    """Height and width of the images; with --patch 2, 16 makes 64 tokens."""
    patch: int = 2
    """Side of a patch."""
    width: int = 128
    """Width of the transformer."""
    depth: int = 3
    """Its blocks."""
    encoder_depth: int = 0
    """Its blocks that see the source time alone; 0: an ordinary transformer."""
    batch: int = 64
    """Examples."""
    guidance: bool = False
    """Measure the methods as they learn guidance as an input of the network."""
    repeats: int = 3
    """Timings of each program."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures and prints the table."""
    config = parse_flags(CostConfig, argv)
    if min(config.batch, config.size, config.repeats, config.depth) < 1:
        raise UserError("--batch, --size, --repeats and --depth must be at least 1")
    images = [name for name in plugins() if not find_plugin(name).tokens]
    names = images if config.all else list(config.plugins)
    chosen = {name: find_plugin(name) for name in names}
    bench, rows = bench_of(config), []
    with Meter("measuring", len(chosen)) as meter:
        for done, plugin in enumerate(chosen.values()):
            meter.to(done, plugin.card.name)
            rows.append(guided(plugin, bench) if config.guidance else measured(plugin, bench))
        meter.to(len(chosen), "")
    table = title(config), COLUMNS, [shown(row) for row in rows]
    print_table(*table)
    result = {"versions": versions(), "rows": rows, "sums": sums(rows)}
    for line in summary(result["sums"]):
        console.print(line)
    if config.out:
        notes = "\n\n".join([*summary(result["sums"]), caption(result["versions"])])
        save(config.out, result, f"{markdown(*table)}\n{notes}\n")
    above = [row["plugin"] for row in rows if row["above"]]
    if above:
        print(f"above {MARGIN} times the count: {', '.join(above)}", file=sys.stderr)
    return result if config.json else None


def bench_of(config: CostConfig) -> Bench:
    """The network, its teacher and the batch."""
    flags = DiTConfig(
        patch=config.patch,
        width=config.width,
        depth=config.depth,
        encoder_depth=config.encoder_depth,
        unroll=config.depth,
        remat="none",
        guidance=True,
    )
    shape = (config.size, config.size, 1)
    net, taught = (flags.build(shape, CLASSES, key=jr.key(seed)) for seed in (0, 1))
    label = jnp.arange(config.batch) % CLASSES
    batch = Batch(jr.normal(jr.key(2), (config.batch, *shape)), label)
    return Bench(net, taught, batch, config.repeats, CLASSES)


def guided(plugin: type[Plugin], bench: Bench) -> dict[str, Any]:
    """One row of the table for a method that learns guidance, without a count to hold it to."""
    preset = plugin.preset("image")
    if not isinstance(preset, RowPlugin):
        raise UserError(
            f"{plugin.card.name} does not learn guidance as an input; leave out --guidance"
        )
    split = bench.flags(replace(preset, guidance=GuidanceConfig(most=8.0)))
    figures = {"whole": None, "split": _figures(split), "above": False}
    return {
        "plugin": plugin.card.name,
        "survey": None,
        "count": None,
        "split_count": None,
        **figures,
    }


def measured(plugin: type[Plugin], bench: Bench) -> dict[str, Any]:
    """One row of the table, as JSON."""
    whole, split = bench.whole(plugin), bench.split(plugin)
    over_whole = (
        plugin.card.whole_cost is not None and whole.flops > MARGIN * plugin.card.whole_cost
    )
    return {
        "plugin": plugin.card.name,
        "survey": plugin.card.seed_cost,
        "count": plugin.card.whole_cost,
        "split_count": plugin.card.cost,
        "whole": _figures(whole),
        "split": _figures(split),
        "above": bool(over_whole or split.flops > MARGIN * plugin.card.cost),
    }


def _figures(cost: Cost) -> dict[str, float]:
    return {
        "fpe": round(cost.flops, 3),
        "time": round(cost.time, 2),
        "temporary_mib": round(cost.temporary_bytes / 2**20, 1),
    }


def sums(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Sums over the methods that the survey lists."""
    listed = [row for row in rows if row["survey"] is not None]
    return {
        "methods": len(listed),
        "survey": sum(row["survey"] for row in listed),
        "whole": round(sum(row["whole"]["fpe"] for row in listed), 2),
        "split": round(sum(row["split"]["fpe"] for row in listed), 2),
    }


def summary(totals: dict[str, float]) -> list[str]:
    """A line about the sums, where the survey lists any of the methods."""
    if not totals["methods"]:
        return []
    share = totals["split"] / totals["survey"]
    return [
        f"sum over the survey's {totals['methods']} methods: survey {totals['survey']:g}, whole "
        f"batch {totals['whole']:g}, split {totals['split']:g} ({share:.3f} of the survey)"
    ]


def title(config: CostConfig) -> str:
    """The measurements."""
    tokens = (config.size // config.patch) ** 2
    return (
        f"Forward-pass equivalents: transformer of width {config.width}, {config.depth} blocks, "
        f"{tokens} tokens, batch {config.batch}"
    )


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table."""
    whole, split = row["whole"], row["split"]
    return {
        "plugin": row["plugin"],
        "survey": "" if row["survey"] is None else f"{row['survey']:g}",
        "count": "" if row["count"] is None else f"{row['count']:g}",
        "whole batch": "" if whole is None else f"{whole['fpe']:.2f}",
        "split count": "" if row["split_count"] is None else f"{row['split_count']:g}",
        "split": f"{split['fpe']:.2f}{' !' if row['above'] else ''}",
        "time": "" if whole is None else f"{whole['time']:.1f}",
        "split time": f"{split['time']:.1f}",
        "split memory": f"{split['temporary_mib']:.0f} MiB",
    }


if __name__ == "__main__":
    launch(main)
