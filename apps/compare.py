"""Compares methods on one data set: `python -m apps.compare --plugins imf mf --seeds 3`."""

from pathlib import Path
from typing import Any

from apps._compare.outputs import write_outputs
from apps._compare.plan import Plan
from apps._compare.settings import CompareConfig, read_settings
from apps._compare.work import train_all
from apps._main import finished, launch
from core.report.compare.cell import cells_in
from core.train.folder import one_writer
from portolan.tables import print_table


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains the missing runs, and writes table, plots and samples of all that is there."""
    settings, extra = read_settings(argv)
    out = Path(settings.folder)
    if settings.report_only:
        result = write_outputs(out)
        return result if settings.json else None
    plan = Plan(settings, extra)
    if settings.dry_run:
        return dry_run(settings, plan)
    with one_writer(out):
        return compared(settings, plan, out)


def compared(settings: CompareConfig, plan: Plan, out: Path) -> dict[str, Any] | None:
    """Trains what is missing and writes what there is."""
    failed = train_all(settings, plan)
    result = write_outputs(out) if cells_in(out) or not failed else {"out": str(out)}
    result |= {"failed": failed}
    return finished(result, failed, settings.json)


def dry_run(settings: CompareConfig, plan: Plan) -> dict[str, Any] | None:
    """Prints the runs and which of them are there; runs and writes nothing."""
    teacher = plan.teacher()
    jobs = [*([teacher] if teacher else []), *plan.runs(missing=0)]
    rows = [
        {
            "run": job.folder,
            "steps": job.steps or "by operations",
            "state": "finished" if job.finished else "to do",
        }
        for job in jobs
    ]
    print_table(f"{plan.out}: equal {settings.budget}", ("run", "steps", "state"), rows)
    return {"out": str(plan.out), "runs": rows} if settings.json else None


if __name__ == "__main__":
    launch(main)
