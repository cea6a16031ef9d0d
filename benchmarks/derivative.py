"""Exact derivative against difference quotient: `python -m benchmarks.derivative`.

The same GCM step twice, on one transformer and one batch: with the total derivative by a
Jacobian-vector product, and by a quotient over a finite step. Both need two passes of the network
forward and one back; the question is how much more the first costs.
"""

from dataclasses import dataclass, replace
from statistics import median, quantiles
from typing import Any

import jax.random as jr

from apps._main import launch
from core.methods.cost import Bench
from core.methods.registry import find_plugin
from core.nets.dit import DiTConfig
from core.nets.layers import Remat
from core.objectives.objective import Batch
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save

COLUMNS = ("derivative", "milliseconds", "memory")
NAMES = ("difference", "exact")


@dataclass(frozen=True)
class DerivativeConfig:
    """Times the GCM step with its derivative exact and as a difference, in turn, in one process.

    The ratio is the median over pairs timed one right after the other; memory is the amount that
    the program needs beside its arguments.
    """

    plugin: str = "gcm-vu"
    """gcm-vu or gcm-cu."""
    size: int = 16
    """Height and width of the images; patches are 2."""
    width: int = 128
    """Width of the transformer."""
    depth: int = 4
    """Its blocks."""
    remat: Remat = "dots"
    """The activations that the backward pass recomputes: none, dots or full."""
    batch: int = 64
    """Examples."""
    repeats: int = 40
    """Pairs of timings."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures both and prints their ratio."""
    config = parse_flags(DerivativeConfig, argv)
    flags = DiTConfig(width=config.width, depth=config.depth, remat=config.remat)
    shape = (config.size, config.size, 1)
    net, taught = (flags.build(shape, 0, key=jr.key(seed)) for seed in (0, 1))
    batch = Batch(jr.normal(jr.key(2), (config.batch, *shape)))
    bench = Bench(net, taught, batch, config.repeats)
    preset = find_plugin(config.plugin).preset("image")
    plugins = [replace(preset, derivative=name) for name in NAMES]  # pyright: ignore
    pairs = bench.duel(*plugins)
    ratios = [exact / difference for difference, exact in pairs]
    memory = [bench.flags(plugin).temporary_bytes for plugin in plugins]
    result: dict[str, Any] = {
        "versions": versions(),
        "time_ratio": round(median(ratios), 3),
        "time_ratio_quartiles": [round(q, 3) for q in quantiles(ratios, n=4)[::2]],
        "memory_ratio": round(memory[1] / memory[0], 3),
        "rows": [
            {
                "derivative": name,
                "milliseconds": f"{1e3 * median(pair[i] for pair in pairs):.1f}",
                "memory": f"{memory[i] / 2**20:.1f} MiB",
            }
            for i, name in enumerate(NAMES)
        ],
    }
    print_table("GCM's step", COLUMNS, result["rows"])
    low, high = result["time_ratio_quartiles"]
    console.print(
        f"exact over difference: time {result['time_ratio']} (quartiles {low} to {high}), "
        f"memory {result['memory_ratio']}"
    )
    if config.out:
        save(config.out, result, markdown("GCM's step", COLUMNS, result["rows"]))
    return result if config.json else None


if __name__ == "__main__":
    launch(main)
