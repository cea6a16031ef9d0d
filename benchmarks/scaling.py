"""Examples a second on 1, 2, ... devices: `python -m benchmarks.scaling`.

The loop of `apps.train` on meshes of more and more devices. On a CPU the devices are virtual: they
share its cores, so nothing gets quicker, and the result is the cost of dividing. For memory a
device see `python -m benchmarks.mesh`.
"""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import jax

from apps._main import launch
from benchmarks._steps import dispatches, turn
from benchmarks._timing import interleaved, ratio
from core.errors import require
from core.report.versions import caption, versions
from core.train.cli import parse, parse_flags
from portolan.tables import console, markdown, print_table, save

COLUMNS = ("scaling", "mesh", "devices", "batch", "ms a step", "examples/s", "efficiency")
VIRTUAL = "These devices are virtual and share one CPU: efficiency says nothing about real ones."
Axis = Literal["data", "fsdp"]


@dataclass(frozen=True)
class ScalingConfig:
    """Examples a second against the number of devices.

    Weak: the batch grows with the devices; strong: it stays. The mesh has all devices along data
    (each has the whole state) or along fsdp (the state is divided). Efficiency is the rate a device
    over that on the fewest devices: 1 is ideal. Medians over rounds, in each of which every case
    has its turn.
    """

    devices: tuple[int, ...] = (1, 2, 4)
    """Numbers of devices; more than there are of real ones are left out."""
    axes: tuple[Axis, ...] = ("data", "fsdp")
    """Axes of the mesh along which the devices lie."""
    batch: int = 32
    """Examples of a device where scaling is weak."""
    total: int = 128
    """Examples of all devices where scaling is strong."""
    train: str = "--plugin mf --data digits"
    """Flags of apps.train for the run, in one word."""
    dispatches: int = 1
    """Dispatches of a case in a round."""
    rounds: int = 5
    """Rounds that are timed, after one that is not."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        least = min((self.batch, self.total, self.dispatches, self.rounds, *self.devices))
        require(least >= 1, "--devices, --batch, --total and --rounds must be at least 1")
        wrong = [n for n in self.devices if self.total % n]
        require(not wrong, f"--total {self.total} is not divisible by --devices {wrong}")


@dataclass(frozen=True)
class Case:
    """One mesh and batch."""

    scaling: str
    axis: Axis
    devices: int
    batch: int

    @property
    def mesh(self) -> tuple[int, int]:
        """Devices along data and along fsdp."""
        return (self.devices, 1) if self.axis == "data" else (1, self.devices)

    @property
    def flags(self) -> list[str]:
        """Flags of apps.train."""
        data, fsdp = self.mesh
        return f"--mesh.data {data} --mesh.fsdp {fsdp} --batch {self.batch}".split()


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes it."""
    config = parse_flags(ScalingConfig, argv)
    numbers = there(config.devices)
    cases = list(cases_of(config, numbers))
    runs = {}
    for case in cases:
        console.print(f"compiling {case.scaling}, {case.axis} {case.devices}")
        run = parse([*shlex.split(config.train), *case.flags])
        loop = dispatches(run)
        next(loop)  # compiles
        runs[case] = run, loop
    turns = {_name(case): turn(loop, config.dispatches) for case, (_, loop) in runs.items()}
    found = interleaved(turns, config.rounds)
    steps = {case: config.dispatches * run.dispatch for case, (run, _) in runs.items()}
    seconds = {case: [s / steps[case] for s in found[_name(case)]] for case in cases}
    virtual = jax.default_backend() == "cpu"
    rows = rows_of(seconds)
    result: dict[str, Any] = {"versions": versions(), "virtual": virtual, "rows": rows}
    table = "Scaling", COLUMNS, [shown(row) for row in rows]
    print_table(*table)
    if virtual:
        console.print(VIRTUAL)
    if config.out:
        notes = f"{VIRTUAL}\n\n" if virtual else ""
        save(config.out, result, f"{markdown(*table)}\n{notes}{caption(result['versions'])}\n")
    return result if config.json else None


def there(devices: tuple[int, ...]) -> list[int]:
    """The numbers of devices that can be had; of a CPU any, unless JAX has begun."""
    try:
        jax.config.update("jax_num_cpu_devices", max(devices))
    except RuntimeError:  # too late: as many as there are
        pass
    most = jax.device_count()
    found = sorted({n for n in devices if n <= most})
    require(bool(found), f"there are {most} devices, fewer than any of --devices")
    if len(found) < len(set(devices)):
        console.print(f"there are {most} devices; more than that is left out")
    return found


def cases_of(config: ScalingConfig, numbers: list[int]) -> Iterator[Case]:
    """All cases; on a single device the axes are one and the same."""
    for scaling in ("weak", "strong"):
        for n in numbers:
            batch = n * config.batch if scaling == "weak" else config.total
            for axis in config.axes if n > 1 else config.axes[:1]:
                yield Case(scaling, axis, n, batch)


def rows_of(seconds: dict[Case, list[float]]) -> list[dict[str, Any]]:
    """The rows, from the seconds of a step in each round."""
    rows = []
    for case, each in seconds.items():
        unit = min(
            (other for other in seconds if other.scaling == case.scaling),
            key=lambda other: (other.devices, other.axis != case.axis),
        )
        quicker = ratio(seconds[unit], each)
        share = case.batch * unit.devices / (unit.batch * case.devices)
        data, fsdp = case.mesh
        rows.append(
            {
                "scaling": case.scaling,
                "mesh": f"data {data} x fsdp {fsdp}",
                "devices": case.devices,
                "batch": case.batch,
                "milliseconds": round(1e3 * median(each), 3),
                "examples_per_second": round(case.batch / median(each), 1),
                "efficiency": round(quicker * share, 3),
            }
        )
    return rows


def shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the printed table."""
    return dict(zip(COLUMNS, row.values(), strict=True))


def _name(case: Case) -> str:
    return f"{case.scaling} {case.axis} {case.devices}"


if __name__ == "__main__":
    launch(main)
