"""Edits examples by a trained map: `python -m apps.edit --run runs/imf-digits`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from apps._data import NoData, load, parse
from apps._main import launch
from core.data.dataset import Dataset
from core.errors import UserError, require
from core.files import write_arrays, write_json
from core.report.edits import Sheet, draw_sheet
from core.report.versions import versions
from portolan.editing import Editor, editor, round_trip
from portolan.runs import open as open_run
from portolan.stored import Stored, check_data
from portolan.tables import console

Edit = Literal["round-trip", "interpolate", "classes", "variations"]
EDITS: tuple[Edit, ...] = ("round-trip", "interpolate", "classes", "variations")
SHARES = np.linspace(0, 1, 9)


@dataclass(frozen=True)
class EditConfig:
    """Carries examples of the data to noise and back, and edits them in between: a picture (PNG)
    and values (npz) for each edit, and edit.json.

    round-trip: data, noise, data again, with the error of each. interpolate: from each example to
    another of its class through noise, along the sphere on which noise lies. classes: the noise of
    each example read as every class. variations: noise added up to each of --noise, and removed
    again (SDEdit); the more noise, the less is left of the example.

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


@dataclass(frozen=True)
class Given:
    """The examples that are edited, and as many others of the same classes: network values."""

    x: np.ndarray
    others: np.ndarray
    labels: np.ndarray | None
    names: tuple[str, ...]


def main(argv: list[str]) -> dict[str, Any] | None:
    """Edits, and writes pictures, values and the JSON file."""
    config = parse(EditConfig, argv)
    require(config.n >= 1 and config.first >= 0, "--n must be at least 1, --first at least 0")
    require(all(0 < t <= 1 for t in config.noise), "--noise are times in (0, 1]")
    run = open_run(config.run)
    given = load(config.data_flags)
    dataset = run.dataset() if given is None else check_data(run, given)
    editing = editor(run, config.sampler, config.steps, config.seed)
    examples = chosen(dataset, config.first, config.n)
    out = Path(config.out or Path(config.run) / "edit")
    asked = config.edit or tuple(e for e in EDITS if e != "classes" or run.spec.num_classes > 1)
    require(
        "classes" not in asked or run.spec.num_classes > 1,
        f"{run.name} was trained without classes: leave out --edit classes",
    )
    numbers: dict[str, Any] = {}
    for edit in asked:
        sheet, found = MADE[edit](editing, examples, config)
        numbers |= found
        write(run, edit, sheet, out)
    result = {"run": config.run, "sampler": config.sampler or run.sampler, "steps": config.steps}
    result |= {"n": len(examples.x), "edits": list(asked), **numbers, "versions": versions()}
    write_json(out / "edit.json", result)
    if "round_trip" in numbers:
        console.print(
            f"round trip in 2 x {config.steps} steps: relative error {numbers['round_trip']:.3f}, "
            f"worst {numbers['round_trip_worst']:.3f}"
        )
    return result if config.json else None


def chosen(dataset: Dataset, first: int, n: int) -> Given:
    """`n` examples from number `first` on, with the classes in turn where there are some, and
    another of the same class for each. Raises `UserError` where there are too few."""
    kinds = np.zeros(len(dataset), np.int32) if dataset.labels is None else dataset.labels
    after = kinds[first:]
    groups = [first + np.flatnonzero(after == k) for k in np.unique(after)]
    turns = [(groups[i % len(groups)], 2 * (i // len(groups))) for i in range(n if groups else 0)]
    enough = bool(turns) and all(place + 1 < len(group) for group, place in turns)
    require(enough, f"fewer than {2 * n:,} examples from number {first:,} on: lower --n or --first")
    x, others = (
        np.asarray(dataset.decode(dataset.take(np.array([g[place + k] for g, place in turns]))))
        for k in (0, 1)
    )
    labels = None if dataset.labels is None else kinds[[g[place] for g, place in turns]]
    return Given(x, others, labels, dataset.class_names)


def there_and_back(
    editing: Editor, given: Given, config: EditConfig
) -> tuple[Sheet, dict[str, Any]]:
    """Data, noise, and data again."""
    z, again, errors = round_trip(editing, given.x, given.labels)
    sheet = Sheet(
        "there and back", ("data", "noise", "again"), np.stack([given.x, z, again], axis=1)
    )
    mean, worst = float(errors.mean()), float(errors.max())
    return sheet, {"round_trip": mean, "round_trip_worst": worst}


def between(editing: Editor, given: Given, config: EditConfig) -> tuple[Sheet, dict[str, Any]]:
    """From each example to another of its class."""
    a, b = (editing.encode(x, given.labels) for x in (given.x, given.others))
    ways = editing.between(a, b, given.labels, SHARES)
    page = np.concatenate([given.x[:, None], ways, given.others[:, None]], axis=1)
    return Sheet("through noise", ("data", *(f"{w:.3g}" for w in SHARES), "data "), page), {}


def classes(editing: Editor, given: Given, config: EditConfig) -> tuple[Sheet, dict[str, Any]]:
    """Each example as every class."""
    kinds = np.arange(min(len(given.names), 10), dtype=np.int32)
    read = editing.as_classes(editing.encode(given.x, given.labels), kinds)
    page = np.concatenate([given.x[:, None], read], axis=1)
    return Sheet("the noise of each, as every class", ("data", *given.names[:10]), page), {}


def variations(editing: Editor, given: Given, config: EditConfig) -> tuple[Sheet, dict[str, Any]]:
    """Each example with more and more noise, and back."""
    varied = [editing.varied(given.x, given.labels, unit) for unit in config.noise]
    names = ("data", *(f"t = {unit:g}" for unit in config.noise))
    return Sheet("noise up to t, and back", names, np.stack([given.x, *varied], axis=1)), {}


MADE: dict[Edit, Callable[[Editor, Given, EditConfig], tuple[Sheet, dict[str, Any]]]] = {
    "round-trip": there_and_back,
    "interpolate": between,
    "classes": classes,
    "variations": variations,
}


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
