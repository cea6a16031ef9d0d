"""Says what a run folder holds, and whether it is whole: `python -m apps.inspect --run DIR`."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from apps._main import launch, print_json
from core.errors import UserError, require
from core.files import check_links
from core.flow.path import path_name
from core.models import is_model, open_model
from core.train import packed
from core.train.checkpoint import Checkpoints
from core.train.cli import parse_flags
from core.train.folder import read_marker
from core.train.run import OWN, open_run
from portolan.tables import console, print_table

COLUMNS = ("step", "arrays", "bytes", "state")


@dataclass(frozen=True)
class InspectConfig:
    """Lists the checkpoints of a run, the format of its folder, and what it began with.

    Of a model folder it says which network it holds, and whether its weights are whole.
    With --verify every array of every checkpoint is read and compared with its checksum. Exit
    status 1 where one is damaged. Nothing is written.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert."""
    verify: bool = False
    """Read everything and compare it with its checksums."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Lists, and verifies where asked."""
    config = parse_flags(InspectConfig, argv)
    folder = Path(config.run)
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
