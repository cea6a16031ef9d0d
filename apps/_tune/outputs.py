"""What a search leaves: a table, `trials.json`, and the best settings as config files."""

import datetime
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from apps._tune.search import FILE
from apps._tune.space import words_of
from apps._tune.study import recorded, state_of
from apps._tune.trial import Report, read_report
from core.errors import UserError
from core.files import write_json, write_text
from core.report.compare.cell import Cell, read_cell
from core.report.versions import versions
from core.train import toml
from core.train.cli import parse
from core.train.journal import last_step
from portolan.tables import cell as shown
from portolan.tables import console, print_table

Row = dict[str, Any]


def write_outputs(out: Path) -> Row:
    """Writes trials.json, best.toml and variants.toml, prints the table, and returns the result for
    --json. Raises `UserError` where the folder holds no search, or cannot be written."""
    try:
        about = json.loads((out / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        raise UserError(f"{out} holds no search; name another --out") from None
    rows = [_row(out, each) for each in recorded(out)]
    done = [row for row in rows if row["state"] == "complete"]
    best = min(done, key=lambda row: (row["value"], row["trial"]), default=None)
    batch = int(about["batch"])
    cost = cost_of(rows, int(about["steps"]), batch, _teacher(out))
    head = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", "-m", "apps.tune", *sys.argv[1:]]),
        "versions": versions(),
    }
    result = {"search": about["identity"], "cost": cost, "best": best, "trials": rows}
    try:
        write_json(out / "trials.json", {**head, **result})
        if best is not None:
            _write_best(out, best, _recipe(rows), about["identity"])
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    _print(out, rows, best, cost, about)
    return {"out": str(out), "cost": cost, "best": best, "trials": len(rows)}


def _row(out: Path, trial: Any) -> Row:
    """What is known of a trial."""
    folder = out / "trials" / f"trial-{trial.number:04d}"
    report, cell = read_report(folder), read_cell(folder) if folder.exists() else None
    state = state_of(trial)
    rungs = [report.rungs[key] for key in sorted(report.rungs, key=int)]
    return {
        "trial": trial.number, "state": state, "metric": report.metric,
        "value": report.value if state == "complete" else None,
        "figures": [] if cell is None else cell.rows, "rungs": rungs,
        "flags": trial.user_attrs.get("flags", {}), "why": trial.user_attrs.get("why"),
        "steps": _steps(folder, report, cell), "of": report.steps, "seconds": report.seconds,
        "flops": None if cell is None else cell.flops, "run": str(folder),
    }  # fmt: skip


def _steps(folder: Path, report: Report, cell: Cell | None) -> int:
    """Steps that were trained."""
    if cell is not None:
        return cell.steps
    rungs = [int(found["step"]) for found in report.rungs.values()]
    return max([last_step(folder), *rungs])


def _teacher(out: Path) -> Cell | None:
    folder = out / "trials" / "teacher"
    return read_cell(folder) if folder.exists() else None


def cost_of(rows: Sequence[Row], steps: int, batch: int, teacher: Cell | None) -> Row:
    """What the search itself took: steps and examples, trainings of a full budget that this would
    be (of `steps`, but where a trial counted its own: `of`), seconds of the machine (compilation
    and measuring included), and operations, of which those of stopped trials are counted by the
    mean of the others; of a teacher that it trained beside."""
    states = [row["state"] for row in rows]
    total = sum(row["steps"] for row in rows)
    counted = [row["flops"] for row in rows if row["flops"]]
    found = {
        **{name: states.count(name) for name in ("complete", "pruned", "diverged", "failed")},
        "steps": total,
        "examples": total * batch,
        "trainings": round(sum(row["steps"] / (row["of"] or steps) for row in rows), 2),
        "seconds": round(sum(row["seconds"] for row in rows), 1),
        "operations": total * statistics.fmean(counted) if counted else None,
    }
    if teacher is not None:
        found["teacher"] = {
            "steps": teacher.steps, "examples": teacher.samples,
            "seconds": round(teacher.seconds, 1), "operations": teacher.total_flops,
        }  # fmt: skip
    return found


def _write_best(out: Path, best: Row, usual: Row, identity: Mapping[str, Any]) -> None:
    recipe = usual["value"]
    said = "not finished" if recipe is None else shown(recipe)
    lines = [
        f"# {identity['plugin']} on {identity['data']}: {best['metric']} {shown(best['value'])} at",
        f"# {_evaluations(identity)}, the recipe's settings {said} (one seed each; trial",
        f"# {best['trial']} of a search by apps.tune, of which this is the best: expect more).",
    ]
    tree = least(toml.shaping(toml.read(Path(best["run"]) / "config.toml")))
    write_text(out / "best.toml", "\n".join([*lines, "", tomli_w.dumps(tree)]))
    name = {"plugin": {"name": tree["plugin"]["name"]}}
    variants = {"recipe": name}
    if best["flags"]:
        variants["best"] = merged(nested(best["flags"]), name)
    write_text(out / "variants.toml", tomli_w.dumps(variants))


def least(tree: Row) -> Row:
    """The lines of a run's configuration that `apps.train --config` needs to train like it: those
    that are not the recipe's; the seed is left out. All lines where fewer do not suffice."""
    tree = {key: value for key, value in tree.items() if key != "seed"}
    names = {key: {"name": tree[key]["name"]} for key in ("plugin", "data")}
    chosen = ["--plugin", names["plugin"]["name"], "--data", names["data"]["name"]]
    try:
        usual = toml.shaping(toml.to_dict(parse(chosen)))
        few = merged(_without(tree, usual), {**names, "steps": tree["steps"]})
        again = toml.shaping(toml.to_dict(parse(toml.to_flags(few))))
    except UserError:  # data that need more flags, or code of the user's
        return tree
    return few if {**again, "seed": 0} == {**tree, "seed": 0} else tree


def _without(tree: Row, usual: Row) -> Row:
    """The values that differ from the usual ones."""
    found: Row = {}
    for key, value in tree.items():
        other = usual.get(key)
        if isinstance(value, dict) and isinstance(other, dict):
            value = _without(value, other)
            if value:
                found[key] = value
        elif value != other:
            found[key] = value
    return found


def nested(flags: Mapping[str, Any]) -> Row:
    """Flags as tables: `{"optim.rate": 1}` as `{"optim": {"rate": 1}}`."""
    tree: Row = {}
    for flag, value in flags.items():
        *groups, last = flag.replace("-", "_").split(".")
        place = tree
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = value
    return tree


def merged(tree: Row, more: Row) -> Row:
    """Both trees, the values of `more` where both have one; single values before tables."""
    found = dict(tree)
    for key, value in more.items():
        old = found.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        found[key] = merged(old, value) if both else value  # pyright: ignore[reportArgumentType]
    return dict(sorted(found.items(), key=lambda item: isinstance(item[1], dict)))


def _recipe(rows: Sequence[Row]) -> Row:
    """The trial with the recipe's settings, the last where it failed at first."""
    own = [row for row in rows if not row["flags"]]
    return own[-1] if own else rows[0]


def _evaluations(identity: Mapping[str, Any]) -> str:
    counts = identity["nfe"]
    return f"{', '.join(map(str, counts))} evaluation{'s' if counts != [1] else ''}"


def _print(out: Path, rows: list[Row], best: Row | None, cost: Row, search: Row) -> None:
    identity = search["identity"]
    tail = f" -- {shlex.join(search['extra'])}" if search["extra"] else ""
    ranked = sorted(rows, key=lambda row: (row["value"] is None, row["value"] or 0.0))
    flags = list(identity["space"])
    lines = [
        {
            "trial": row["trial"], "state": row["state"], row["metric"] or "figure": row["value"],
            "steps": row["steps"], **{flag: row["flags"].get(flag) for flag in flags},
        }
        for row in ranked
    ]  # fmt: skip
    metrics = list(dict.fromkeys(row["metric"] for row in rows if row["metric"]))
    columns = ("trial", "state", *metrics, "steps", *flags)
    about = f"{identity['plugin']} on {identity['data']}, {_evaluations(identity)}"
    print_table(f"{about}; an empty cell: the recipe's value", columns, lines)
    console.print(
        f"cost of the search: {cost['steps']:,} steps ({cost['trainings']} trainings of the "
        f"budget), {cost['examples']:,} examples, {cost['seconds']:,.0f} s; trials: "
        f"{cost['complete']} complete, {cost['pruned']} stopped, {cost['diverged']} diverged, "
        f"{cost['failed']} failed",
        soft_wrap=True,
    )
    if best is None:
        console.print("no trial is complete yet")
        return
    words = " ".join(words_of(best["flags"])) or "the recipe's settings"
    console.print(
        f"best: trial {best['trial']}, {best['metric']} {shown(best['value'])}: {words}",
        soft_wrap=True,
    )
    console.print(
        f"train with it: python -m apps.train --config {out}/best.toml; over seeds: python -m "
        f"apps.compare --variants {out}/variants.toml --data {identity['data']} --steps "
        f"{best['steps']}{tail}",
        soft_wrap=True,
    )
