"""Searches settings for a method: `python -m apps.tune --plugin lsd --data digits --trials 30`."""

from pathlib import Path
from typing import Any

from apps._main import finished, launch
from apps._tune.outputs import write_outputs
from apps._tune.search import Setup, searched
from apps._tune.settings import TuneConfig, read_settings
from apps._tune.study import optuna_module
from core.train.folder import one_writer
from portolan.tables import console, print_table


def main(argv: list[str]) -> dict[str, Any] | None:
    """Runs the trials that are missing, and writes what is known."""
    settings, extra = read_settings(argv)
    optuna_module()
    out = Path(settings.folder)
    if settings.report_only:
        result = write_outputs(out)
        return result if settings.json else None
    setup = Setup(settings, extra)
    if settings.dry_run:
        return dry_run(settings, setup)
    with one_writer(out):
        failed = searched(setup)
        result = write_outputs(out) | {"failed": failed}
    return finished(result, failed, settings.json)


def dry_run(settings: TuneConfig, setup: Setup) -> dict[str, Any] | None:
    """Prints the search space and the budget; runs and writes nothing."""
    rows = [
        {
            "flag": one.flag,
            "searched": one.words,
            "recipe": one.usual,
            "only with": " ".join([one.when[0], *map(str, one.when[1])]) if one.when else None,
        }
        for one in setup.space
    ]
    columns = ("flag", "searched", "recipe", "only with")
    print_table(f"{setup.recipe.plugin} on {setup.recipe.data}", columns, rows)
    budget = settings.budget or setup.steps
    console.print(
        f"{settings.trials} trials of {budget:,g} {settings.unit} at most, batch "
        f"{setup.recipe.batch}; ema is searched as 1 / (1 - ema), the steps that it averages over, "
        "and plugin.uniform as a share of what plugin.full leaves",
        soft_wrap=True,
    )
    return {"out": settings.folder, "space": rows} if settings.json else None


if __name__ == "__main__":
    launch(main)
