"""`apps.tilt --target`: importance weights for an energy, with log Z."""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from apps._tilt.config import TiltConfig
from core.errors import UserError, require
from core.report.gallery import draw_points
from portolan.runs import open as open_run
from portolan.tables import console, markdown, print_table, save
from portolan.weighing import save_weighing, target, weigh

COLUMNS = ("steps", "n", "log_z", "error", "clipped", "exact", "effective", "folds")
STEPS = 4


def weigh_target(config: TiltConfig) -> dict[str, Any] | None:
    """Draws samples, weighs them, prints log Z and writes them."""
    assert config.target is not None
    require(
        min(config.n, config.islands) >= 1 and config.seed >= 0,
        "--n and --islands must be at least 1, --seed at least 0",
    )
    run = open_run(config.run)
    energy, known = target(config.target, run.spec.shape)
    steps, n = config.steps or STEPS, config.n * config.islands
    found = weigh(run, energy, n=n, steps=steps, seed=config.seed)
    row = found.row(steps, known)
    title = f"{run.place} weighed for {config.target}"
    print_table(title, COLUMNS, [row])
    if found.folds:
        console.print(
            f"{found.folds:.1%} of the samples have a negative determinant: the map is not "
            "one-to-one there, so log Z and the weights are biased by an unknown amount"
        )
    folder = Path(config.out or Path(config.run) / "tilt")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_weighing(found, folder / "target.npz")
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None
    if run.spec.kind == "points":
        weights = np.asarray(found.found.log_w)
        chance = np.exp(weights - weights.max())
        drawn = np.random.default_rng(config.seed).choice(n, n, p=chance / chance.sum())
        shown = np.asarray(run.spec.scale.network(jnp.asarray(found.x)))
        panels = {"samples": shown, "drawn by weight": shown[drawn]}
        draw_points(run.spec, panels, folder / "target.png", run.data_beside())
    result = {"run": config.run, "target": config.target, "rows": [row]}
    save(str(folder / "target.json"), result, markdown(title, COLUMNS, [row]))
    console.print(f"wrote target.npz, target.json and the table to {folder}")
    return result if config.json else None
