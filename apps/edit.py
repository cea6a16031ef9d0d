"""Edits examples by a trained map: `python -m apps.edit --run runs/imf-digits`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from apps._data import NoData, load, parse
from apps._main import launch
from core.data.dataset import Dataset
from core.data.spaces import words
from core.errors import UserError, require
from core.files import write_arrays, write_json
from core.report.edits import Sheet, draw_sheet
from core.report.versions import versions
from portolan.edit_sheets import EDITS, MADE, Edit, Given, chosen, of_two_classes
from portolan.editing import editor
from portolan.runs import open as open_run
from portolan.stored import Stored, check_data
from portolan.tables import console


@dataclass(frozen=True)
class EditConfig:
    """Carries examples of the data to noise and back, and edits them in between: a picture (PNG)
    and values (npz) for each edit, and edit.json.

    round-trip: data, noise, data again, with the error of each. interpolate: from each example to
    another of its class through noise, along the sphere on which noise lies, or a geodesic of the
    space that samples are points of. classes: the noise of each example read as every class.
    variations: noise added up to each of --noise, and removed again (SDEdit); the more noise, the
    less is left of the example. attributes, of runs without classes and data with them: what sets
    one class apart from another, added to the noise of examples of the first.

    The way to noise is a jump with s < t: runs trained with --plugin.both know it best, and
    --sampler heun takes the ODE, which every run with velocities has in both directions.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert, which needs --data."""
    data: Annotated[str | None, tyro.conf.arg(name="data", metavar="NAME")] = None
    """Data set to take examples from, by its name, in the place of the run's own."""
    edit: tuple[Edit, ...] = ()
    """Which edits; default: all that the run allows."""
    n: int = 8
    """Number of examples."""
    first: int = 0
    """Number of the first example; the classes take turns from there on."""
    sampler: str | None = None
    """A sampler without noise of its own: pushforward (jumps), euler, heun, ... (the ODE); default:
    the method's own."""
    steps: int = 4
    """Steps of it from end to end."""
    noise: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8)
    """Times of the variations, in (0, 1]."""
    attribute: Annotated[tuple[str, ...], tyro.conf.arg(metavar="FROM TO")] = ()
    """Two classes of --data for the edit attributes; default: the first two."""
    seed: int = 0
    """Seed of the noise of the variations."""
    out: str | None = None
    """Folder of the pictures; default: <run>/edit."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = NoData()
    """Flags of the data set."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Edits, and writes pictures, values and the JSON file."""
    config = parse(EditConfig, argv)
    require(config.n >= 1 and config.first >= 0, "--n must be at least 1, --first at least 0")
    require(all(0 < t <= 1 for t in config.noise), "--noise are times in (0, 1]")
    run = open_run(config.run)
    given = load(config.data_flags)
    dataset = run.dataset() if given is None else check_data(run, given)
    editing = editor(run, config.sampler, config.steps, config.seed)
    out = Path(config.out or Path(config.run) / "edit")
    require(len(config.attribute) in (0, 2), "--attribute takes two classes, such as 3 8")
    asked = config.edit or tuple(e for e in EDITS if not hindrance(e, run, dataset))
    for edit in asked:
        why = hindrance(edit, run, dataset)
        require(not why, f"{why}: leave out --edit {edit}")
    examples = {edit: examples_for(edit, config, dataset) for edit in asked}
    numbers: dict[str, Any] = {}
    for edit in asked:
        sheet, found = MADE[edit](editing, examples[edit], config.noise)
        numbers |= found
        write(run, edit, sheet, out)
    result = {"run": config.run, "sampler": config.sampler or run.sampler, "steps": config.steps}
    result |= {"n": config.n, "edits": list(asked), **numbers, "versions": versions()}
    write_json(out / "edit.json", result)
    if "round_trip" in numbers:
        console.print(
            f"round trip in 2 x {config.steps} steps: relative error {numbers['round_trip']:.3f}, "
            f"worst {numbers['round_trip_worst']:.3f}"
        )
    return result if config.json else None


def hindrance(edit: Edit, run: Stored, dataset: Dataset) -> str:
    """Why a run and data do not allow an edit; empty where they do."""
    classes, space = run.spec.num_classes, run.spec.space
    if edit == "classes" and classes < 2:
        return f"{run.name} was trained without classes"
    if edit != "attributes":
        return ""
    if classes:
        return f"{run.name} knows the classes, and its noise little of them (classes does it)"
    if space:
        return f"samples of {run.name} are points on {words(space)}, which cannot be added"
    if len(dataset.class_names) < 2:
        return "it needs data with classes, of which the run knows nothing; name such with --data"
    return ""


def examples_for(edit: Edit, config: EditConfig, dataset: Dataset) -> Given:
    """The examples of an edit. Raises `UserError` where there are too few."""
    if edit == "attributes":
        return of_two_classes(dataset, config.attribute, config.first, config.n)
    return chosen(dataset, config.first, config.n)


def write(run: Stored, edit: str, sheet: Sheet, out: Path) -> None:
    """Writes the picture and the values of an edit. Raises `UserError` where it cannot."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_arrays(out / f"{edit}.npz", {"values": run.spec.restore(sheet.x)})
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    picture = out / f"{edit}.png"
    draw_sheet(run.spec, sheet, picture, run.data_beside())
    console.print(f"wrote {picture}")


if __name__ == "__main__":
    launch(main)
