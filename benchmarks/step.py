"""The cost of a training step, for each method and network: `python -m benchmarks.step`.

Operations are counted and times are taken in one process. Both are of the whole training step,
optimiser and average included; operations with the layers unrolled and nothing recomputed, so that
a loop over layers counts in full and recomputation does not count as work.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Literal

import jax
import jax.numpy as jnp
import jax.random as jr

from apps._main import launch
from benchmarks._steps import lower_step, training_step
from benchmarks._timing import (
    QUICK,
    cube,
    fresh_compiles,
    interleaved,
    products,
    rate,
    ratio,
    timed,
    utilisation,
)
from core.errors import UserError, require
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.methods.cost import Bench, compiled, flops, one_forward
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin, plugins
from core.nets import DiTConfig, MLPConfig, UNetConfig
from core.nets.layers import Dtype, Remat
from core.objectives.objective import Batch
from core.report.versions import caption, versions
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save

COLUMNS = (
    "net",
    "plugin",
    "parameters",
    "ms",
    "memory MiB",
    "FPE, operations",
    "FPE, time",
    "over fm, operations",
    "over fm, time",
    "of the square product",
    "of the net's products",
)
UNIT, JUMPS, CLASSES = "fm", "mf", 10
AIM, COMPILE_AIM = 1.15, 1 / 3
Net = Literal["mlp", "unet", "dit"]


@dataclass(frozen=True)
class StepConfig:
    """Time, memory and operations of training steps, method by method on the same networks.

    In each round come, one after the other: matrix products, a forward pass, a step of every
    method. Times are medians, ratios medians over rounds; a forward pass is the unit (FPE) of
    operations and of time. Memory is that of a step beside its state. Utilisation is the
    operations a second over those of matrix products in the same round: of a large square one, and
    of products of the network's own sizes.
    """

    plugins: tuple[str, ...] = ("fm", "mf", "imf", "lsd", "shortcut", "ct")
    """Methods; all: every one that trains from scratch. fm is always among them."""
    nets: tuple[Net, ...] = ("mlp", "unet", "dit")
    """Networks."""
    width: int = 128
    """Width of mlp and dit."""
    depth: int = 4
    """Layers of mlp and dit."""
    channels: int = 16
    """Channels of the unet at full resolution; it has a second level, of twice as many."""
    size: int = 16
    """Height and width of the images of unet and dit; patches are 2."""
    batch: int = 32
    """Images."""
    points: int = 512
    """Points, for the mlp."""
    dtype: Dtype = "float32"
    """Compute dtype of networks and products."""
    remat: Remat = "dots"
    """The activations that the dit's backward pass recomputes: none, dots or full."""
    unroll: int = 1
    """Blocks in a step of the dit's loop over layers."""
    rounds: int = 10
    """Rounds that are timed, after one that is not."""
    square: int = 2048
    """Side of the large product."""
    compile_depth: int = 12
    """Blocks of a dit whose steps of fm and mf are compiled as a loop and unrolled; 0: none are."""
    compile_width: int = 192
    """Width of that dit."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        least = min(self.width, self.depth, self.channels, self.size, self.batch, self.points)
        require(
            min(least, self.rounds, self.square, self.unroll, self.compile_width) >= 1
            and self.compile_depth >= 0,
            "sizes and --rounds must be at least 1, --compile-depth at least 0",
        )


@dataclass(frozen=True)
class Setting:
    """A network's flags, those for counting its operations, and its batch."""

    flags: Any
    counted: Any
    shape: tuple[int, ...]
    rows: int
    products: list[tuple[int, int, int]]

    @property
    def kind(self) -> str:
        """Which presets of the methods are taken."""
        return "points" if len(self.shape) == 1 else "image"

    def bench(self, flags: Any) -> Bench:
        """A network with these flags and a batch of noise."""
        classes = 0 if self.kind == "points" else CLASSES
        net = flags.build(self.shape, classes, key=jr.key(0))
        label = jnp.arange(self.rows) % CLASSES if classes else None
        batch = Batch(jr.normal(jr.key(1), (self.rows, *self.shape)), label)
        return Bench(net, net, batch, 1, classes, self.kind)


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the tables and writes them."""
    config = parse_flags(StepConfig, argv)
    names = chosen(config.plugins)
    result: dict[str, Any] = {"versions": versions(), "rates": {}, "rows": [], "left_out": {}}
    for net in config.nets:
        measured = of_net(config, net, names)
        for key in ("rates", "left_out"):
            result[key][net] = measured[key]
        result["rows"] += measured["rows"]
    result["mf_over_fm"] = over_fm(result["rows"])
    if config.compile_depth:
        result["compile"] = [compile_times(config, name) for name in (UNIT, JUMPS)]
    table = "Training steps", COLUMNS, [shown(row) for row in result["rows"]]
    print_table(*table)
    lines = summary(result)
    for line in lines:
        console.print(line)
    if config.out:
        notes = "\n\n".join([*lines, caption(result["versions"])])
        save(config.out, result, f"{markdown(*table)}\n{notes}\n")
    return result if config.json else None


def chosen(names: tuple[str, ...]) -> list[str]:
    """The methods to measure, fm first. Raises `UserError` for an unknown one, and for one that
    needs a teacher."""
    if names == ("all",):
        names = tuple(name for name, p in plugins().items() if from_scratch(p))
    for name in names:
        require(
            not find_plugin(name).needs_teacher,
            f"{name} needs a teacher; python -m apps.cost --plugins {name} counts its operations",
        )
    return [UNIT, *(name for name in names if name != UNIT)]


def from_scratch(plugin: type[Plugin]) -> bool:
    """Whether a method trains fresh networks from images alone."""
    of_images = plugin.card.kind == "method" and not plugin.tokens
    return of_images and not plugin.needs_teacher and not plugin.tunes


def setting_of(config: StepConfig, net: Net) -> Setting:
    """The measurements of a network."""
    width = config.width
    if net == "mlp":
        flags = MLPConfig(width=width, depth=config.depth, dtype=config.dtype)
        return Setting(flags, flags, (2,), config.points, [(config.points, width, width)] * 4)
    shape = config.size, config.size, 1
    if net == "unet":
        flags = UNetConfig(channels=config.channels, multipliers=(1, 2), dtype=config.dtype)
        return Setting(flags, flags, shape, config.batch, _of_unet(flags, config))
    heads = max(n for n in (1, 2, 4) if width % n == 0)
    flags = DiTConfig(width=width, depth=config.depth, heads=heads, dtype=config.dtype)
    counted = replace(flags, remat="none", unroll=config.depth)
    flags = replace(flags, remat=config.remat, unroll=config.unroll)
    rows = config.batch * (config.size // flags.patch) ** 2
    layers = [(width, 3 * width), (width, width), (width, 4 * width), (4 * width, width)]
    return Setting(flags, counted, shape, config.batch, [(rows, k, n) for k, n in layers])


def _of_unet(flags: UNetConfig, config: StepConfig) -> list[tuple[int, int, int]]:
    """The products that the 3 x 3 convolutions of each level amount to."""
    return [
        (config.batch * (config.size >> level) ** 2, 9 * width, width)
        for level, width in enumerate(flags.channels * m for m in flags.multipliers)
    ]


def of_net(config: StepConfig, net: Net, names: list[str]) -> dict[str, Any]:
    """Rates, rows and the methods left out, of one network."""
    setting = setting_of(config, net)
    bench, counted = setting.bench(setting.flags), setting.bench(setting.counted)
    steps, operations, left_out = {}, {}, {}
    for name in names:
        console.print(f"compiling {name} on {net}")
        plugin = find_plugin(name).preset(setting.kind)
        try:
            steps[name] = training_step(bench.method(plugin), bench.batch)
            same = setting.counted == setting.flags
            operations[name] = flops(steps[name].compiled) if same else count(counted, plugin)
        except UserError as error:  # a method for other networks or data
            left_out[name] = str(error)
    sizes = {"square": cube(config.square), "own": setting.products}
    unit, once = flops(once_forward(counted)[0]), once_forward(bench)[1]
    calls = {which: products(size, config.dtype) for which, size in sizes.items()}
    seconds = interleaved({**calls, "forward": once, **steps}, config.rounds)
    rates = {which: rate(size, seconds[which]) for which, size in sizes.items()}
    rows = [
        {
            "net": net,
            "plugin": name,
            "parameters": step.parameters,
            "milliseconds": round(1e3 * median(seconds[name]), 3),
            "memory_mib": round(step.memory_mib, 2),
            "fpe_operations": _round(operations[name] / unit),
            "fpe_time": round(ratio(seconds[name], seconds["forward"]), 3),
            "operations_over_fm": _round(operations[name] / operations[UNIT]),
            "time_over_fm": round(ratio(seconds[name], seconds[UNIT]), 3),
            "utilisation": {
                which: _round(utilisation(operations[name], seconds[name], size, seconds[which]))
                for which, size in sizes.items()
            },
        }
        for name, step in steps.items()
    ]
    return {"rates": rates, "rows": rows, "left_out": left_out}


def count(bench: Bench, plugin: Plugin) -> float:
    """Operations of a training step, by a program that is compiled and not run."""
    lowered, *_ = lower_step(bench.method(plugin), bench.batch)
    return flops(lowered.compile(QUICK))


def once_forward(bench: Bench) -> tuple[Any, Callable[[], Any]]:
    """One evaluation of the network on the batch: the program, and a call of it."""
    flow_map = AverageVelocityMap(net=bench.net, path=LinearPath())
    return compiled(one_forward, flow_map, bench.batch.x_0)


def over_fm(rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """For each network: how much more time mf takes than its operations say."""
    return {
        row["net"]: _round(row["time_over_fm"] / (row["operations_over_fm"] or math.nan))
        for row in rows
        if row["plugin"] == "mf"
    }


def compile_times(config: StepConfig, name: str) -> dict[str, Any]:
    """Seconds that the compiler takes for a step with a deep transformer, as a loop and unrolled;
    nothing is read from the compilation cache. Tracing, the same for both, is not in them."""
    depth, seconds = config.compile_depth, {}
    deep = replace(config, batch=8, nets=("dit",), depth=depth, width=config.compile_width)
    for form, unroll in (("scanned", 1), ("unrolled", depth)):
        console.print(f"compiling {name} on a dit of {depth} blocks, {form}")
        setting = setting_of(replace(deep, unroll=unroll), "dit")
        bench = setting.bench(setting.flags)
        method = bench.method(find_plugin(name).preset("image"))
        with fresh_compiles():
            jax.clear_caches()
            seconds[form] = timed(lower_step(method, bench.batch)[0].compile)[1]
    return {
        "plugin": name,
        "depth": depth,
        "width": config.compile_width,
        **{form: round(value, 2) for form, value in seconds.items()},
        "scanned_over_unrolled": round(seconds["scanned"] / seconds["unrolled"], 3),
    }


def summary(result: dict[str, Any]) -> list[str]:
    """The target of the parameters, in words, and the rates."""
    lines = [
        f"{net}: mf over fm: time ratio / operations ratio = {value} (aim at most {AIM})"
        for net, value in result["mf_over_fm"].items()
    ]
    for net, rates in result["rates"].items():
        each = ", ".join(f"{name} {value / 1e9:,.0f}" for name, value in rates.items())
        lines.append(f"{net}: rates of products in GFLOP/s: {each}")
    for found in result.get("compile", []):
        lines.append(
            f"compiling {found['plugin']} on a dit of {found['depth']} blocks of width "
            f"{found['width']}: scanned {found['scanned']} s, "
            f"unrolled {found['unrolled']} s, ratio {found['scanned_over_unrolled']} "
            f"(aim at most {COMPILE_AIM:.2f})"
        )
    for net, left_out in result["left_out"].items():
        lines += [f"{net}: {name} is left out: {why}" for name, why in left_out.items()]
    return lines


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table."""
    values = dict(row)
    used = values.pop("utilisation")
    return dict(zip(COLUMNS, (*values.values(), used["square"], used["own"]), strict=True))


def _round(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


if __name__ == "__main__":
    launch(main)
