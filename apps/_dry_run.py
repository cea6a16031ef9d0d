"""What a run would be: its configuration, size and cost, without running it."""

import dataclasses
from typing import Any

import jax
import tomli_w

from apps._table import console
from core.train.build import Built, build
from core.train.config import TrainConfig
from core.train.toml import to_dict
from core.train.trainer import Trainer


def describe(config: TrainConfig, built: Built) -> list[str]:
    """A few lines that say what is trained."""
    data = built.dataset
    classes = f", {data.num_classes} classes" if data.num_classes else ""
    device = jax.devices()[0]
    return [
        f"method {config.plugin}: {_fields(config.plugin_flags)}",
        f"data {config.data}: {len(data):,} examples of shape {data.shape}{classes}",
        f"network {config.net}: {built.num_parameters():,} parameters; "
        f"{config.steps:,} steps of {config.batch}; {device.platform} x {config.mesh.data}",
    ]


def _fields(flags: Any) -> str:
    pairs = ((f.name, getattr(flags, f.name)) for f in dataclasses.fields(flags))
    return ", ".join(f"{name} {value}" for name, value in pairs)


def dry_run(config: TrainConfig, built: Built) -> dict[str, Any] | None:
    """Prints the resolved config, parameters, operations a step and memory; runs nothing."""
    cost = step_cost(config, built)
    print(tomli_w.dumps(to_dict(config)))
    for line in describe(config, built):
        console.print(line)
    console.print(
        f"one step: {cost['flops']:.3g} floating-point operations; memory about "
        f"{cost['memory_bytes'] / 2**20:,.0f} MiB (state, data and temporary, by the compiler)"
    )
    result = {"run": config.folder, "parameters": built.num_parameters(), **cost}
    return result if config.json else None


def step_cost(config: TrainConfig, built: Built) -> dict[str, float]:
    """Operations and bytes of one training step, from the compiled program.

    The compiler counts a loop's body once, so the layers' scan is unrolled for the count of
    operations; memory is that of the program as it would run.
    """
    memory = Trainer(config, built).program_text().compile().memory_analysis()
    flat = config
    if hasattr(config.net_flags, "unroll"):
        unrolled = dataclasses.replace(config.net_flags, unroll=config.net_flags.depth)
        flat = dataclasses.replace(config, net_flags=unrolled)
    program = Trainer(flat, build(flat, data=built.dataset)).program_text().compile()
    analysis = program.cost_analysis() or {}
    total = 0
    if memory is not None:
        total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return {"flops": float(analysis.get("flops", float("nan"))), "memory_bytes": float(total)}
