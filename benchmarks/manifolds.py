"""Few-step maps on spheres, tori and in SO(3), on the sets of the papers: `python -m
benchmarks.manifolds --files DIR`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portolan as po
from apps._main import launch
from core.data import CellsData
from core.errors import pick, require
from core.report.gallery import draw_blocks
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.runs import Run
from portolan.tables import console, markdown, print_table, save

_EARTH = {"name": "arrays", "path": "sphere/earth_events.npz", "space": "sphere", "part": "train"}
SETS: dict[str, dict[str, Any]] = {
    **{name: {**_EARTH, "array": name} for name in ("volcano", "earthquake", "flood", "fire")},
    "rna": {
        "name": "arrays", "path": "torus/rna_torsions.npz", "array": "degrees", "space": "torus",
        "part": "train",
    },
    "general": {
        "name": "cells", "path": "torus/ramachandran_top500.npz", "array": "general",
        "n": 500_000,
    },
    "frames": {
        "name": "arrays", "path": "so3/protein_frames.npz", "array": "quaternion_wxyz",
        "space": "so3", "part": "train",
    },
}  # fmt: skip
"""Data of each set, with its file below --files."""
SAMPLES = 400_000
"""Samples of a set whose density is known on cells."""
POINTS = 5000
"""Samples in a picture."""


@dataclass(frozen=True)
class ManifoldsConfig:
    """Trains a map on each set and measures it on the part that was held out.

    `mmd_k` and `mmd2_k` by k jumps, see `core.metrics.geodesic`, with `real`, the same between data
    and data, and `noise`; `nll` by the ODE, in nats; `kl_k` on cells where the density is known,
    with `kl_real` of as many draws from it. Finished runs are not trained again.
    """

    files: str = ""
    """Folder of the sets, with sphere/earth_events.npz, torus/rna_torsions.npz and so on."""
    sets: tuple[str, ...] = tuple(SETS)
    """Which sets: volcano, earthquake, flood, fire, rna, general, frames."""
    plugin: str = "lsd"
    """Training method."""
    steps: int = 4000
    """Training steps."""
    batch: int = 512
    """Examples in one step."""
    width: int = 128
    """Width of the network, which has four hidden layers."""
    nfe: tuple[int, ...] = (1, 4, 16)
    """Numbers of jumps."""
    out: str = "runs/manifolds"
    """Folder of the runs."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    pictures: str | None = None
    """Folder for a picture of each set: data, and samples by one and by four jumps."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains what is missing, measures, and prints the table."""
    config = parse_flags(ManifoldsConfig, argv)
    require(Path(config.files).is_dir(), f"--files {config.files or '(none)'}: no such folder")
    rows = []
    for name in config.sets:
        run = trained(config, name)
        rows.append({"set": name, "steps": run.config.steps, **measured(run, config.nfe)})
        if config.pictures:
            draw(run, Path(config.pictures) / f"manifolds-{name}.png")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    title = f"Held-out data: {config.plugin}, steps of {config.batch}"
    print_table(title, columns, rows)
    shared = {key: getattr(config, key) for key in ("plugin", "steps", "batch", "width")}
    result = {**shared, "rows": rows, "versions": versions()}
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    return result if config.json else None


def trained(config: ManifoldsConfig, name: str) -> Run:
    """The run of one set."""
    data = dict(pick(SETS, name, "set"))
    data["path"] = str(Path(config.files) / data["path"])
    folder = Path(config.out) / f"{name}-{config.plugin}"
    console.print(f"{folder}")
    return po.train(
        config.plugin,
        data,
        run=folder,
        net={"name": "mlp", "width": config.width, "depth": 4},
        steps=config.steps,
        batch=config.batch,
        sample_every=0,
        save_every=500,
    )


def measured(run: Run, nfes: Sequence[int]) -> dict[str, float | int | None]:
    """The figures of one run, on the part of the data that was held out."""
    known = isinstance(run.config.data_flags, CellsData)
    rows = run.evaluate(nfes, n=SAMPLES if known else None).rows
    real, noise, ode = (
        next((row for row in rows if row["data"] == name), {})
        for name in ("real against real", "noise", "reference by the ODE")
    )
    held = run.held_out()
    found: dict[str, Any] = {"test": 0 if held is None else len(held)}
    for key in ("mmd", "mmd2", "kl") if known else ("mmd", "mmd2"):
        found |= {f"{key}_{nfe}": row[key] for nfe, row in zip(nfes, rows)}
        found |= {f"{key}_real": real[key], f"{key}_noise": noise[key]}
    return {**found, "nll": ode.get("nll"), "nll_std": ode.get("nll_std")}


def draw(run: Run, path: Path) -> None:
    """Writes the data beside samples."""
    nfes = (1, 4)
    blocks = [run.sample(POINTS, steps=nfe) for nfe in nfes]
    names = [f"{nfe} {'jump' if nfe == 1 else 'jumps'}" for nfe in nfes]
    draw_blocks(run.spec, blocks, path, "", names, run.dataset())


if __name__ == "__main__":
    launch(main)
