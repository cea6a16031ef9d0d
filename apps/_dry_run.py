"""Preview of a run: its configuration, size and cost, without running it."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import tomli_w

from core.report.compare import has_loop
from core.train.build import Built, build
from core.train.config import TrainConfig
from core.train.teachers import open_teacher
from core.train.toml import to_dict
from core.train.trainer import Trainer
from portolan.tables import console
from portolan.training import describe


def dry_run(config: TrainConfig, built: Built) -> dict[str, Any] | None:
    """Prints the resolved config, parameters, operations a step and memory; runs nothing."""
    cost = step_cost(config, built)
    print(tomli_w.dumps(to_dict(config)))
    for line in describe(config, built):
        console.print(line)
    console.print(f"a checkpoint: about {cost['checkpoint_bytes'] / 2**20:,.1f} MiB")
    console.print(
        f"one step: {cost['flops']:.3g} floating-point operations; memory about "
        f"{cost['memory_bytes'] / 2**20:,.0f} MiB (state, data and temporary, by the compiler)"
    )
    trained, still = built.sizes()
    result = {"run": config.folder, "parameters": trained, "frozen": still, **cost}
    return result if config.json else None


def step_cost(config: TrainConfig, built: Built) -> dict[str, float]:
    """Operations and bytes of one training step, and bytes of a checkpoint.

    The first are those of the compiled program. Operations are counted before the compiler has
    rewritten the program: 2 to 3 % too few, and no program without loops is compiled for them.
    """
    trainer = Trainer(config, built)
    kept = jax.tree.leaves(eqx.filter(trainer.state, eqx.is_inexact_array))
    memory = trainer.program().lower().compile().memory_analysis()
    total = 0
    if memory is not None:
        total = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    operations = _counted(unrolled(config, built).lower())
    saved = float(sum(leaf.nbytes for leaf in kept))
    return {"flops": operations, "memory_bytes": float(total), "checkpoint_bytes": saved}


def step_flops(config: TrainConfig, built: Built) -> tuple[float, bool]:
    """Operations of one training step, of the compiled program, and whether they are too few: a
    loop that remains makes them too few."""
    program = unrolled(config, built)
    return _counted(program.lower().compile()), has_loop(program.jaxpr.jaxpr)


def unrolled(config: TrainConfig, built: Built) -> jax.stages.Traced:
    """One training step, the layers' scan unrolled for a count, which takes a loop's body once."""
    if hasattr(config.net_flags, "unroll"):
        net = dataclasses.replace(config.net_flags, unroll=config.net_flags.depth)
        config = dataclasses.replace(config, net_flags=net)
    fresh = build(config, open_teacher(config, built.dataset.spec), data=built.dataset, train=False)
    fresh = dataclasses.replace(fresh, training=built.training)  # training consumed the old one
    return Trainer(config, fresh).program()


def _counted(program: jax.stages.Lowered | jax.stages.Compiled) -> float:
    """Floating-point operations; NaN where JAX does not count."""
    return float((program.cost_analysis() or {}).get("flops", float("nan")))
