"""Memory a device for each mesh: `python -m benchmarks.mesh`.

One training step of a transformer is compiled for virtual CPU devices and not run: nothing of the
network is ever made, so a network of any size can be asked about on a laptop. The arguments (state
and batch) are exact; temporaries are those of the CPU's compiler, and another's differ.
"""

from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from apps._main import launch
from core.errors import UserError
from core.flow.path import LinearPath
from core.methods.plugin import Method, Task
from core.methods.registry import find_plugin
from core.nets.dit import DiTConfig
from core.nets.layers import Dtype, Remat
from core.objectives.objective import Batch, Objective, Players
from core.report.versions import versions
from core.train.cli import parse_flags
from core.train.config import MeshConfig, OptimConfig
from core.train.optim import optimizer
from core.train.sharding import Placement
from core.train.state import init_state
from core.train.step import make_step, many_steps
from portolan.tables import console, markdown, print_table, save

COLUMNS = ("mesh", "parameters", "state", "temporary", "together")
SIZES = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
SHAPE, CLASSES = (32, 32, 4), 1000


@dataclass(frozen=True)
class MeshesConfig:
    """Memory of one step a device, in GiB, from programs compiled ahead for virtual devices."""

    plugin: str = "mf"
    """Method, without a teacher."""
    size: str = "B"
    """Transformer for latents of 32 x 32 x 4: S, B, L or XL; patches are 2."""
    devices: int = 8
    """Virtual devices."""
    fsdp: tuple[int, ...] = (1, 2, 4, 8)
    """Devices along fsdp; the others are along data."""
    batch: int = 256
    """Examples of all devices together."""
    accumulate: int = 1
    """Pieces of a step."""
    remat: Remat = "dots"
    """The activations that the backward pass recomputes: none, dots or full."""
    dtype: Dtype = "float32"
    """Compute dtype."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Compiles one step for each mesh and prints the memory that a device needs."""
    config = parse_flags(MeshesConfig, argv)
    if config.size not in SIZES:
        raise UserError(f"--size {config.size} is none of {', '.join(SIZES)}")
    jax.config.update("jax_num_cpu_devices", config.devices)
    rows = [memory(config, config.devices // fsdp, fsdp) for fsdp in config.fsdp]
    result: dict[str, Any] = {"versions": versions(), "rows": rows}
    title = f"{config.plugin}, DiT-{config.size}/2, batch {config.batch}: GiB a device"
    print_table(title, COLUMNS, rows)
    if config.out:
        save(config.out, result, markdown(title, COLUMNS, rows))
    return result if config.json else None


def memory(config: MeshesConfig, data: int, fsdp: int) -> dict[str, Any]:
    """The memory of one device on a mesh, by the compiled program."""
    console.print(f"compiling for data {data} x fsdp {fsdp}")
    place = Placement(MeshConfig(data, fsdp), config.batch, config.accumulate)
    players, objective = abstract(config)
    rule = optimizer(OptimConfig(), 1000)
    state, static = eqx.filter_eval_shape(init_state, players, objective, rule, jr.key(0))
    step = make_step(static, rule, 0.999, pieces=config.accumulate)
    arrays, fixed = eqx.partition(objective, eqx.is_array)
    shardings = place.shardings(state)
    inside = shardings, (place.shardings(arrays), None, None), place.divided
    program = many_steps(step, _batch, fixed, (inside, (shardings, place.everywhere)))
    raw = {
        "x": jax.ShapeDtypeStruct((1, config.batch, *SHAPE), jnp.float32),
        "label": jax.ShapeDtypeStruct((1, config.batch), jnp.int32),
    }
    found = program.lower(state, (arrays, None, None), raw).compile().memory_analysis()
    kept, temporary = found.argument_size_in_bytes, found.temp_size_in_bytes
    row = {
        "mesh": f"data {data} x fsdp {fsdp}",
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(state.players)),
        "state": round(kept / 2**30, 3),
        "temporary": round(temporary / 2**30, 3),
        "together": round((kept + temporary) / 2**30, 3),
    }
    console.print(", ".join(f"{name} {value}" for name, value in row.items()))
    return row


def abstract(config: MeshesConfig) -> tuple[Players, Objective]:
    """The networks as shapes, and the objective, which does not depend on their size."""
    width, depth, heads = SIZES[config.size]
    small = DiTConfig(width=4, depth=1, heads=1, remat=config.remat, dtype=config.dtype)
    flags = replace(small, width=width, depth=depth, heads=heads)
    plugin = find_plugin(config.plugin).preset("image")
    task = Task(SHAPE, "image", CLASSES, 1000)

    def made(flags: DiTConfig) -> Method:
        net = flags.build(SHAPE, CLASSES, key=jr.key(0))
        return plugin.method(net, LinearPath(), None, task, key=jr.key(1))

    return eqx.filter_eval_shape(lambda: {"model": made(flags).flow_map}), made(small).objective


def _batch(store: Any, raw: dict[str, jax.Array], key: jax.Array) -> Batch:
    del store, key
    return Batch(raw["x"], raw["label"])


if __name__ == "__main__":
    launch(main)
