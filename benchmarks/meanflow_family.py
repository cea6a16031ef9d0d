"""Changes that help MeanFlow at one total budget: `python -m benchmarks.meanflow_family`.

Plain MeanFlow against its descendants, every one with the same number of training steps in all,
those of its teacher or of the run that it starts from included. Stages are ordinary runs under
--out: an interrupted call goes on where it stood.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import tyro

from apps._main import launch
from benchmarks._in_features import in_features
from core.errors import UserError
from core.methods.registry import find_plugin
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save


@dataclass(frozen=True)
class Stage:
    """A run: its share of the steps, its flags; `start` and `teacher` name an earlier stage."""

    plugin: str
    share: float
    start: str | None = None
    teacher: str | None = None
    flags: tuple[str, ...] = ()


VELOCITY = Stage("fm", 0.5)
METHODS: dict[str, tuple[Stage, ...]] = {
    "mf": (Stage("mf", 1.0),),
    "alphaflow": (Stage("alphaflow", 1.0),),
    "fm, then mf": (VELOCITY, Stage("mf", 0.5, start="fm")),
    "fm, then dmf": (
        VELOCITY,
        Stage("dmf", 0.5, start="fm", flags=("--net.encoder-depth", "3")),
    ),
    "rmf": (
        VELOCITY,
        Stage("rmf", 0.5, start="fm", teacher="fm", flags=("--plugin.solver-steps", "8")),
    ),
    "cmt, then mf": (
        VELOCITY,
        Stage("cmt", 0.25, start="fm", teacher="fm"),
        Stage("mf", 0.25, start="cmt"),
    ),
}
NFES = (1, 2, 4)
PAIR = 16 / 3.75
"""Evaluations that a pair of reflow costs, by those of an example in a step of `rmf`."""


@dataclass(frozen=True)
class FamilyConfig:
    """Trains MeanFlow and its descendants on one data set at one total number of steps.

    Fréchet distance on pixels and, where the data have labels, nearest-neighbour accuracy at 1, 2
    and 4 evaluations: mean and standard deviation over seeds. Flags after -- go to every run:

        python -m benchmarks.meanflow_family --data idx -- --data.path FOLDER --net.width 96
    """

    data: str = "digits"
    """Data set of images."""
    steps: int = 2300
    """Training steps of all stages of a method together."""
    batch: int = 128
    """Examples of a step."""
    pairs: int = 8192
    """Pairs that reflow's teacher makes, by 8 Heun steps; paid for by fewer steps of training."""
    seeds: int = 3
    """Number of seeds, from 0 on."""
    methods: tuple[str, ...] = tuple(METHODS)
    """Which of them."""
    small: bool = False
    """Split and weigh rows as for digits, which suits short runs, on other images too."""
    features: str | None = None
    """Features of a network in which the Fréchet distance is taken too: efficientnet-lite0, ..."""
    out: str = "runs/meanflow-family"
    """Folder of the runs."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    flags: tyro.conf.Suppress[tuple[str, ...]] = ()
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains the missing runs and prints the table."""
    own, rest = (
        (argv[: argv.index("--")], argv[argv.index("--") + 1 :]) if "--" in argv else (argv, [])
    )
    config = replace(parse_flags(FamilyConfig, own), flags=tuple(rest))
    unknown = set(config.methods) - set(METHODS)
    if unknown:
        raise UserError(f"unknown methods {sorted(unknown)}; choose from {', '.join(METHODS)}")
    results = {name: [closing(config, name, seed) for seed in range(config.seeds)]
               for name in config.methods}  # fmt: skip
    rows = [row(name, summaries, config.features) for name, summaries in results.items()]
    if config.features:
        rows.append(floor(config, results[config.methods[0]][0]))
    title = f"MeanFlow and its descendants on {config.data}, {config.steps} steps in all"
    columns = list(dict.fromkeys(key for row in rows for key in row))
    print_table(title, columns, rows)
    result = {"versions": versions(), "steps": config.steps, "seeds": config.seeds, "rows": rows}
    result["runs"] = results
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    return result if config.json else None


def closing(config: FamilyConfig, name: str, seed: int) -> dict[str, Any]:
    """The closing table of a method's last stage; trains the runs that are not there yet."""
    folders: dict[str, Path] = {}
    for index, stage in enumerate(METHODS[name]):
        own = stage == VELOCITY
        folder = Path(config.out) / ("fm" if own else f"{name.replace(', then ', '-')}-{index}")
        folders[stage.plugin] = folder.with_name(f"{folder.name}-{seed}")
        if not (folders[stage.plugin] / "summary.json").exists():
            console.print(f"{name}, seed {seed}: {stage.plugin}")
            train(config, stage, folders, seed)
    last = folders[METHODS[name][-1].plugin]
    found = json.loads((last / "summary.json").read_text())
    if config.features:
        found[config.features] = in_features(config.features, last, NFES)
    return found


def train(config: FamilyConfig, stage: Stage, folders: dict[str, Path], seed: int) -> None:
    """One stage in a process of its own."""
    flags = ["--plugin", stage.plugin, "--data", config.data, "--seed", str(seed)]
    flags += ["--batch", str(config.batch), "--steps", str(steps(config, stage))]
    flags += ["--run", str(folders[stage.plugin]), "--sample-every", "0"]
    flags += ["--evals", *map(str, NFES)]
    if stage.start:
        flags += ["--init", str(folders[stage.start])]
    if stage.teacher:
        flags += ["--teacher", str(folders[stage.teacher])]
    if config.small:
        flags += small_flags(stage.plugin)
    if stage.plugin == "rmf":
        flags += ["--plugin.pairs", str(config.pairs)]
    _run("apps.train", *flags, *stage.flags, *config.flags)


def _run(app: str, *flags: str) -> None:
    command = [sys.executable, "-m", app, *flags]
    if subprocess.run(command).returncode:
        raise UserError(f"stage failed: {' '.join(command[1:])}")


def small_flags(name: str) -> list[str]:
    """The flags in which a method's settings for digits differ from those for other images."""
    ours, usual = (vars(find_plugin(name).preset(kind)) for kind in ("small-image", "image"))
    changed = {key: value for key, value in ours.items() if value != usual[key]}
    return [
        word
        for key, value in changed.items()
        for word in (f"--plugin.{key.replace('_', '-')}", str(value))
    ]


def steps(config: FamilyConfig, stage: Stage) -> int:
    """Training steps of a stage; the pairs of reflow are taken off."""
    whole = stage.share * config.steps
    return round(whole - PAIR * config.pairs / config.batch if stage.plugin == "rmf" else whole)


def row(name: str, summaries: list[dict[str, Any]], features: str | None) -> dict[str, Any]:
    """A row of the table."""
    result: dict[str, Any] = {"method": name}
    for nfe in NFES:
        for metric in ("frechet", "accuracy"):
            _put(result, f"{metric} ({nfe})", [one["rows"] for one in summaries], metric, nfe)
        if features:
            rows = [one[features]["rows"] for one in summaries]
            _put(result, f"{features} ({nfe})", rows, "frechet", nfe)
    return result


def floor(config: FamilyConfig, summary: dict[str, Any]) -> dict[str, Any]:
    """The row of two disjoint parts of the data."""
    features = config.features or ""
    pixels, real = summary["reference"], summary[features]["reference"]
    result: dict[str, Any] = {"method": "real against real"}
    for nfe in NFES:
        for metric in ("frechet", "accuracy"):
            _put(result, f"{metric} ({nfe})", [[{**pixels, "nfe": nfe}]], metric, nfe)
        _put(result, f"{features} ({nfe})", [[{**real, "nfe": nfe}]], "frechet", nfe)
    return result


def _put(
    row: dict[str, Any], column: str, runs: list[list[dict[str, Any]]], metric: str, nfe: int
) -> None:
    """Puts mean and standard deviation of a metric over runs into a row, where they have it."""
    found = [one[metric] for rows in runs for one in rows if one["nfe"] == nfe and metric in one]
    if found:
        spread = f" ± {stdev(found):.3f}" if len(found) > 1 else ""
        row[column] = f"{mean(found):.3f}{spread}"


if __name__ == "__main__":
    launch(main)
