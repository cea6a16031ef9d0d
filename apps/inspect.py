"""Says what a run folder holds, and whether it is whole: `python -m apps.inspect --run DIR`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import equinox as eqx
import jax
import tyro

from apps._data import NoData, load, parse
from apps._main import launch, print_json
from core.errors import UserError, require
from core.files import check_links
from core.flow.path import path_name
from core.models import is_model, open_model
from core.train import packed
from core.train.checkpoint import Checkpoints
from core.train.folder import read_marker
from core.train.run import OWN, open_run
from portolan.certificate import EXAMPLES, NODES, certify, write
from portolan.runs import open as open_model_or_run
from portolan.stored import check_data
from portolan.tables import console, print_table

MEMORY = ("t", "map_training", "set_training", "map_other", "set_other")
MEASURED = ("measured", "median", "whole jump", "worst", "s", "t")
TIMES = ("jumps", "certified", "error", "equal steps")
COLUMNS = ("step", "arrays", "bytes", "state")


@dataclass(frozen=True)
class InspectConfig:
    """Lists the checkpoints of a run, the format of its folder, and what it began with.

    Of a model folder it says which network it holds, and whether its weights are whole.
    With --verify every array of every checkpoint is read and compared with its checksum. Exit
    status 1 where one is damaged. Nothing is written but by --certify.

    With --certify the map is held against its own three rules and its own ODE at all pairs of
    times: certificate.json and certificate.png in the run, a table, the best times for 2 to 8
    jumps (apps.sample --times certified), and how far one-jump samples are from the ODE's; and the
    diagonal is held against the exact one of the training set, which shows what the map has learned
    by heart: with --data also on examples that it has not seen.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert."""
    verify: bool = False
    """Read everything and compare it with its checksums."""
    certify: bool = False
    """Measure where the map is wrong."""
    n: int = EXAMPLES
    """Examples that --certify takes."""
    nodes: int = NODES
    """Times between noise and data, both included, at which --certify measures."""
    seed: int = 0
    """Seed of the examples and noise of --certify."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it --certify refuses such a run, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = NoData()
    """Examples of --certify that the run was not trained on."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Lists, and verifies where asked."""
    config = parse(InspectConfig, argv)
    folder = Path(config.run)
    require(config.n >= 2 and config.nodes >= 3, "--n must be at least 2, --nodes at least 3")
    require(config.seed >= 0, "--seed must not be negative")
    if config.certify:
        return _certify(config)
    if is_model(folder):
        found = _model(folder)
        return {"run": str(folder), "model": found} if config.json else None
    require((folder / "config.toml").exists(), f"{folder} is not a run folder (no config.toml)")
    check_links(folder, OWN)
    marker = read_marker(folder)
    said = "format 0, from before runs were marked"
    if marker is not None:
        said = f"format {marker.format}, begun with Portolan {marker.version}"
    console.print(f"{folder}: {said}")
    rows = _checkpoints(folder, config.verify)
    if (folder / packed.FILE).exists():
        rows.append(_packed(folder, config.verify))
    print_table(f"checkpoints of {folder}", COLUMNS, rows)
    damaged = [row["step"] for row in rows if row["damaged"]]
    result = {"run": str(folder), "marker": marker and vars(marker), "checkpoints": rows}
    if damaged:
        print(f"damaged: {', '.join(map(str, damaged))}", file=sys.stderr)
        if config.json:
            print_json(result)
        sys.exit(1)
    return result if config.json else None


def _certify(config: InspectConfig) -> dict[str, Any] | None:
    """Measures, prints the table, and writes the certificate."""
    run, other = open_model_or_run(config.run), load(config.data_flags)
    other = None if other is None else check_data(run, other)
    found = certify(run, n=config.n, nodes=config.nodes, seed=config.seed, other=other)
    print_table(f"{run.place}: root mean squares of jumps", MEASURED, found.summary())
    rows = [
        {
            "jumps": k, "certified": _words(found.times[k]), "error": error, "equal steps": even,
        }
        for k, (error, even) in found.errors.items()
    ]  # fmt: skip
    print_table("times to stop at, and the measured error at the data end", TIMES, rows)
    console.print(
        f"one jump against the ODE from the same noise: {found.distance:.4g} on average over whole "
        f"examples, which bounds the Wasserstein-2 distance of the two distributions; Gronwall's "
        f"bound from residuals and slopes at {found.examples} examples: {found.bound:.4g}"
    )
    if found.memory:
        title = "error of the denoised mean: of the map, and of the training set's own exact map"
        print_table(title, MEMORY, [row for row in found.memory if row["t"] > 0])
    place, picture = write(found, run.folder)
    console.print(f"wrote {place} and {picture}")
    return {"run": config.run, **found.to_json()} if config.json else None


def _words(units: tuple[float, ...]) -> str:
    return " ".join(f"{unit:.4g}" for unit in units)


def _model(folder: Path) -> dict[str, Any]:
    """Prints what a model folder holds, whose weights are read and compared with their hash.

    Raises `UserError` for one that is damaged, and for one without a flow map."""
    check_links(folder, OWN)
    model = open_model(folder)
    arrays = jax.tree.leaves(eqx.filter(model.net, eqx.is_array))
    count = sum(leaf.size for leaf in arrays)
    shape = " x ".join(map(str, model.spec.shape))
    console.print(
        f"{folder}: {model.title or model.kind}, {model.net_name} of {count:,} numbers "
        f"for examples of {shape} and {model.spec.num_classes:,} classes, "
        f"on the {path_name(model.path)} path; licence {model.licence or 'unknown'}; "
        "the weights are those that were written"
    )
    known = {"kind": model.kind, "title": model.title, "net": model.net_name, "numbers": count}
    return known | {"shape": list(model.spec.shape), "classes": model.spec.num_classes}


def _checkpoints(folder: Path, verify: bool) -> list[dict[str, Any]]:
    """A row for each checkpoint."""
    if not (folder / "checkpoints").is_dir():
        return []
    checkpoints, rows = Checkpoints(folder), []
    for step in checkpoints.steps():
        place = folder / "checkpoints" / str(step)
        size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file())
        row: dict[str, Any] = {"step": step, "bytes": size, "damaged": False}
        try:
            row["arrays"] = len(checkpoints.names(step))
            row["state"] = checkpoints.verify(step) if verify else "not read"
        except UserError as error:
            row |= {"state": str(error).partition("; ")[0], "damaged": True}
        rows.append(row)
    checkpoints.close()
    return rows


def _packed(folder: Path, verify: bool) -> dict[str, Any]:
    """The row of a packed run's weights."""
    size = (folder / packed.FILE).stat().st_size
    row: dict[str, Any] = {"step": packed.FILE, "bytes": size, "damaged": False}
    try:
        return row | {"state": f"step {open_run(folder).step}, verified" if verify else "not read"}
    except UserError as error:
        return row | {"state": str(error).partition("; ")[0], "damaged": True}


if __name__ == "__main__":
    launch(main)
