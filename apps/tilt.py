"""Steers a trained run by a reward: `python -m apps.tilt --reward brightness`."""

import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from apps._data import load, parse
from apps._main import launch
from apps._tilt.config import TiltConfig
from apps._tilt.rewards import judged, open_judge, print_classes, print_rewards
from apps._tilt.self_test import self_test
from apps._tilt.setup import islands_of, setting_of
from apps._tilt.specs import file_name, methods_of, print_methods
from apps._tilt.target import weigh_target
from core.errors import UserError, require
from core.files import write_arrays
from core.report.gallery import MOST_COLUMNS, draw_blocks
from core.report.strings import shown_in
from core.steering.own import check_reward
from core.steering.steering import Tilt
from portolan.adapting import adapted_map, parsed
from portolan.runs import open as open_run
from portolan.tables import console, markdown, print_table, save
from portolan.tilt_rows import COLUMNS, method_row, prior_row
from portolan.tilting import check_method
from portolan.tilting import run as steered


def main(argv: list[str]) -> dict[str, Any] | None:
    """Steers and writes, or tests itself."""
    config = parse(TiltConfig, argv)
    if config.rewards:
        listed = print_rewards()
        return {"rewards": listed} if config.json else None
    if config.self_test:
        result = self_test()
        if not result["passed"]:
            sys.exit(1)
        return result if config.json else None
    if config.methods:
        result = print_methods()
        return result if config.json else None
    if config.target is not None:
        return weigh_target(config)
    return tilted(config)


def tilted(config: TiltConfig) -> dict[str, Any] | None:
    """Steers and writes."""
    require(
        min(config.n, config.islands, config.show) >= 1 and min(config.seed, config.budget) >= 0,
        "--n, --islands and --show must be at least 1, --seed and --budget at least 0",
    )
    require(config.chunk is None or config.chunk >= 1, f"--chunk {config.chunk}: at least 1")
    flags = {key: getattr(config, key) for key in ("steps", "look", "twist", "moves")}
    methods = methods_of(config.plugin, flags)
    run = open_run(config.run, data=load(config.data_flags), vae=config.vae)
    if config.adapter:
        run = run.with_map(adapted_map(run, tuple(map(parsed, config.adapter))))
    judge = open_judge(run, config.judge, config.classifier)
    setting = setting_of(run, config)
    tilt, prior = setting.tilt, setting.prior
    for name, method in methods.items():
        check_method(name, method, setting, run)
    folder = Path(config.out or Path(config.run) / "tilt")
    make_folder(folder)
    rows, blocks = [prior_row(prior, tilt)], [prior[: config.show]]
    best = [highest(prior, tilt, config.show)]
    rows[0] |= judged(judge, tilt.reward, prior)
    for name, method in methods.items():
        begin = time.perf_counter()
        islands = islands_of(method, tilt, config)
        found = steered(name, method, setting, n=config.n, islands=islands, seed=config.seed)
        rows.append(method_row(name, method, found, tilt))
        rows[-1] |= {"seconds": round(time.perf_counter() - begin, 1)}
        rows[-1] |= judged(judge, tilt.reward, found.x, found.weights)
        blocks.append(found.draw(config.show))
        best.append(highest(found.x, tilt, config.show))
        path = folder / f"{file_name(name)}.npz"
        arrays = {"samples": run.spec.restore(found.x), "weights": found.weights}
        if run.spec.kind == "tokens":
            arrays["texts"] = np.array(run.spec.texts(found.x))
        write_arrays(path, arrays)
    title = f"{config.run} tilted by {' + '.join(config.reward)}, lambda {float(tilt.strength):.4g}"
    spec, names = dataclasses.replace(run.spec, num_classes=0), ["prior", *methods]
    data = run.data_beside()
    if spec.kind not in ("points", "tokens") and tilt.reward.observed is not None:
        names.append("observation")
        blocks.append(alone(np.asarray(tilt.reward.observed), config.show))
        best.append(blocks[-1])
    draw_blocks(spec, blocks, folder / "samples.png", title, names, data)
    shown, best_of = (shown_in(spec, folder / f"{name}.png") for name in ("samples", "best"))
    draw_blocks(spec, best, folder / "best.png", f"{title}: highest rewards", names, data)
    from core.report.pictures import reward_plot  # with Matplotlib

    reward_plot(rows, folder / "reward.png", title)
    print_table(title, COLUMNS, rows)
    print_classes(rows, run.spec.class_names)
    console.print(
        f"wrote {shown.name} (drawn by weight), {best_of.name}, reward.png, table.json and the "
        f"weighted samples to {folder}"
    )
    result = {"run": config.run, "reward": config.reward, "lambda": float(tilt.strength)}
    result |= {"rows": rows, "picture": str(shown)}
    save(str(folder / "table.json"), result, markdown(title, COLUMNS, rows))
    return result if config.json else None


def highest(x: np.ndarray, tilt: Tilt, count: int) -> np.ndarray:
    """The samples with the highest rewards, the best first; all different."""
    x = np.unique(x, axis=0)
    order = np.argsort(-np.asarray(check_reward(tilt.reward, jnp.asarray(x))))
    return x[np.resize(order, count)]


def alone(image: np.ndarray, count: int) -> np.ndarray:
    """The image and room for `count - 1` others, white as the page, as one row at most."""
    row = np.ones((min(count, MOST_COLUMNS), *image.shape), image.dtype)
    row[0] = image
    return row


def make_folder(folder: Path) -> None:
    """Makes the output folder. Raises `UserError` where it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None


if __name__ == "__main__":
    launch(main)
