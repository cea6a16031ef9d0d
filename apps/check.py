"""Holds methods against the exact oracle: `python -m apps.check --plugin imf`."""

import argparse
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro

from apps import _precision, _weighting
from apps._in_turn import in_turn
from apps._main import finished, launch
from core.conformance import SPACE_PROBLEMS, Check, check_plugin, gradient_checks
from core.errors import UserError, pick, require
from core.flow.path import PATHS
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin, plugins
from core.methods.spaces import check_space
from core.report.versions import caption, versions
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save

NOTE = (
    "Residuals are checked under the plain square, whatever distance and weight a method trains "
    "with: the norm, pseudo-Huber and adaptive weights move the minimiser from the conditional "
    "mean to a median, so that with sampled pairs the exact map is no stationary point of theirs."
)

Report = list[dict[str, Any]]

COLUMNS = ("plugin", "check", "kind", "value", "bound", "control", "passed")


@dataclass(frozen=True)
class CheckConfig:
    """Puts the exact flow map in the place of the network and holds the objective against it.

    P0: residuals with the marginal velocity, the largest over all rows, in float64. E0: the
    expected update with sampled pairs, in standard errors. O(h^k), for rules with a finite step:
    by how much the measured power of the step falls short of k. In a space that is not flat also
    EQ: how far an isometry does not move a residual with its rows. Each has a negative control, a
    map with a flipped sign, which must exceed the bound. G0: at maps that are not exact, the
    relative error of the loss's gradient against the one that the method declares; its controls are
    wrong stops and targets. A known bias is printed, as "biased". Exit status 1 if a check fails.
    """

    plugin: Annotated[str, tyro.conf.arg(name="plugin", metavar="NAME")] = "imf"
    """The method to check; its own flags set the variant that is checked."""
    all: bool = False
    """Check every registered method, in each of its variants."""
    path: Literal["linear", "trig", "cosine", "vp", "edm"] = "linear"
    """Probability path."""
    space: str = ""
    """Check in this space: sphere, torus, so3, or that of another package. Without it flat space
    and, with --all, every space for the methods that run there."""
    dtype: bool = False
    """Print instead how exactly residuals are computed in float32, with rounded products (TF32) and
    in bfloat16; --rows 64 are enough."""
    weights: bool = False
    """Print instead how much rows count by their source time, with the flags for images."""
    rows: int = 16_384
    """Training rows for each check."""
    seed: int = 0
    """Seed of the rows."""
    gradients: bool = True
    """Check where gradients flow, too (G0)."""
    out: str | None = None
    """JSON file to write, after each method; the table is written beside it as Markdown."""
    keep: bool = False
    """Keep the methods that --out has already and check the others, with the same flags: a stopped
    call goes on."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    plugin_flags: Annotated[Any, tyro.conf.arg(name="plugin")] = None
    """Flags of the method."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Runs the checks and prints their table."""
    name = _selected(argv)
    kind = "small-image" if "--dtype" in argv else "image" if "--weights" in argv else "points"
    default = CheckConfig(plugin=name, plugin_flags=find_plugin(name).preset(kind))
    config = parse_flags(CheckConfig, argv, default)
    if config.keep:
        alone = not (config.dtype or config.weights or _with_flags(argv))
        require(
            alone, "--keep knows methods by their names: leave out --dtype, --weights, --plugin.*"
        )
    make = _measured if config.dtype else _weighed if config.weights else _checked
    table, note, report = make(config, argv)
    print_table(*table)
    console.print(note)
    failed = [entry["name"] for entry in report if not entry["passed"]]
    return finished(_saved(config, table, note, report), failed, config.json)


def _saved(
    config: CheckConfig, table: _precision.Table, note: str, report: Report, said: bool = True
) -> dict[str, Any]:
    """The report with its versions, written where the flags say so."""
    result = {"versions": versions(), "plugins": report}
    if config.out:
        page = f"{markdown(*table)}\n{note}\n\n{caption(result['versions'])}\n"
        save(config.out, result, page, said)
    return result


def _measured(config: CheckConfig, argv: list[str]) -> tuple[_precision.Table, str, Report]:
    """The table of precisions, what it says, and the same as JSON."""
    if _with_flags(argv):
        chosen = {config.plugin: config.plugin_flags}
    else:
        every = [name for name in plugins() if not find_plugin(name).tokens]
        chosen = _precision.variants(every if config.all else [config.plugin])
    rows = min(config.rows, 64)
    table, report = _precision.measured(chosen, PATHS[config.path](), rows, config.seed)
    return table, _precision.NOTE, report


def _weighed(config: CheckConfig, argv: list[str]) -> tuple[_precision.Table, str, Report]:
    """The table of weights in time, what it says, and the same as JSON."""
    chosen = {config.plugin: config.plugin_flags}
    if not _with_flags(argv):
        names = list(plugins()) if config.all else [config.plugin]
        chosen = {name: find_plugin(name).preset("image") for name in names}
    table, report = _weighting.tabulated(chosen, PATHS[config.path]())
    return table, _weighting.NOTE, report


def _checked(config: CheckConfig, argv: list[str]) -> tuple[_precision.Table, str, Report]:
    """The table of the oracle checks, what it says, and the same as JSON."""
    cases, kept = _cases(config, argv), _kept(config)
    missing = {label: case for label, case in cases.items() if label not in kept}
    for label, (plugin, space) in in_turn("checking", missing):
        checks = _checks(config, plugin, space)
        passed = all(check.passed for check in checks)
        kept[label] = {
            "name": label, "passed": passed, "checks": [check.to_json() for check in checks],
        }  # fmt: skip
        _saved(config, *_report(cases, kept), said=False)
    return _report(cases, kept)


def _report(
    cases: Iterable[str], known: dict[str, dict[str, Any]]
) -> tuple[_precision.Table, str, Report]:
    """The table of what is known, what it says, and the same as JSON: in the order of the cases,
    and then what else a file had."""
    report = [known[label] for label in dict.fromkeys([*cases, *known]) if label in known]
    rows = [_row(each["name"], check) for each in report for check in _of(each)]
    return ("A check passes if value <= bound < control", COLUMNS, rows), NOTE, report


def _kept(config: CheckConfig) -> dict[str, dict[str, Any]]:
    """The methods that the file has, by label. Raises `UserError` where it cannot be read."""
    file = Path(config.out or "")
    if not config.keep:
        return {}
    require(bool(config.out), "--keep goes on with a file: give --out FILE")
    if not file.exists():
        return {}
    try:
        found = {each["name"]: each for each in json.loads(file.read_text("utf-8"))["plugins"]}
        return {label: each for label, each in found.items() if _of(each)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file} is no file of checks ({type(error).__name__}); name another --out"
        ) from None


def _of(entry: dict[str, Any]) -> list[Check]:
    """The checks of an entry of the report."""
    return [Check.from_json(each) for each in entry["checks"]]


def _checks(config: CheckConfig, plugin: Plugin, space: str) -> list[Check]:
    """The checks of one plugin, in a space or ("") in flat space."""
    with jax.enable_x64(True):
        path = SPACE_PROBLEMS[space]().path if space else PATHS[config.path]()
        checks = check_plugin(plugin, path, rows=config.rows, seed=config.seed)
        more = gradient_checks(plugin, path, seed=config.seed) if config.gradients else []
    return [*checks, *more]


def _with_flags(argv: list[str]) -> bool:
    """Whether the method's own flags are given."""
    return any(argument.startswith("--plugin.") for argument in argv)


def _selected(argv: list[str]) -> str:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin", default=CheckConfig.plugin)
    return parser.parse_known_args(argv)[0].plugin


def _chosen(config: CheckConfig, with_flags: bool) -> dict[str, Plugin]:
    """The plugins to check by label: all variants of one or of all, or one with its flags."""
    if with_flags:
        return {config.plugin: config.plugin_flags}
    names = list(plugins()) if config.all else [config.plugin]
    return {
        f"{name} {variant}".strip(): plugin
        for name in names
        for variant, plugin in find_plugin(name).variants().items()
    }


def _cases(config: CheckConfig, argv: list[str]) -> dict[str, tuple[Plugin, str]]:
    """Plugin and space ("" for flat space) by label of everything that is checked.

    Learned guidance is checked in flat space alone, where its exact map is known.
    """
    chosen = _chosen(config, _with_flags(argv))
    if config.space:
        found = pick(SPACE_PROBLEMS, config.space, "space")().space
        if not config.all:
            check_space(find_plugin(config.plugin), found)
        spaces = [config.space]
    else:
        spaces = ["", *(SPACE_PROBLEMS if config.all else [])]
    return {
        f"{label} on {space}" if space else label: (plugin, space)
        for space in spaces
        for label, plugin in chosen.items()
        if not space or (plugin.spaces and not plugin.guided)
    }


def _row(label: str, check: Check) -> dict[str, Any]:
    return {
        "plugin": label,
        "check": check.name,
        "kind": check.kind,
        "value": f"{check.value:.1e}" if check.kind in ("P0", "G0", "EQ") else f"{check.value:.2f}",
        "bound": f"{check.bound:g}",
        "control": f"{check.control:.2g}",
        "passed": "biased" if check.biased else check.passed,
    }


if __name__ == "__main__":
    launch(main)
