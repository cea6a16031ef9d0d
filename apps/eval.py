"""Measures a trained run: `python -m apps.eval --run runs/imf-digits`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from apps._main import launch
from apps._sampling import Sampling
from core.errors import UserError
from core.files import write_json
from core.metrics.features import default_features
from core.report.evaluation import (
    check_measurable,
    evaluate_map,
    floor_row,
    samples_to_measure,
)
from core.sampling import SAMPLERS, Sampler, drawing_of, usable
from core.train.cli import parse_flags
from core.train.features import open_features
from portolan.drawing import check, guided_map
from portolan.measuring import COLUMNS
from portolan.model import Model
from portolan.progress import Meter
from portolan.runs import open as open_run
from portolan.tables import console, print_table


@dataclass(frozen=True)
class EvalConfig:
    """Measures a run's samples against its data, at chosen numbers of evaluations.

    The last row is the floor: the same metrics between two disjoint sets of real data.
    `frechet` is the Frechet distance on the named features, `accuracy` that of a nearest-neighbour
    classifier on the data, `map_error` the mean distance to the exact flow map from the same noise
    (data of known distribution only).
    """

    run: str = "runs/imf-digits"
    """Run folder."""
    sampler: tuple[str, ...] = ()
    """pushforward, restart, gamma (jumps); euler, heun, ddim, dpmpp-2m, adaptive (ODE); ancestral,
    churn, euler-maruyama (fresh noise); default: the method's own."""
    nfe: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--evals"])] = (1, 2, 4, 8)
    """Numbers of network evaluations a sample; a sampler leaves out those that it cannot use, and
    adaptive has one row with the number that it took."""
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = Sampling()
    n: int = 0
    """Samples a row; 0 takes as many as the data, 10,000 at most."""
    features: str | None = None
    """Features on which distances are taken: pixels (the default up to 4,096 numbers an example),
    pooled (the default beyond), or a run folder of apps.features."""
    seed: int = 0
    """Seed of the noise and of random subsets."""
    out: str | None = None
    """JSON file to write; default: <run>/eval.json."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes the JSON file."""
    config = parse_flags(EvalConfig, argv)
    if config.n < 0 or config.seed < 0 or not config.nfe or min(config.nfe) < 1:
        raise UserError("--n and --seed must not be negative, and each --nfe must be at least 1")
    config.sampling.samplers(config.sampler or tuple(SAMPLERS))
    grid = config.sampling.times()
    run = open_run(config.run)
    dataset = run.dataset()
    check_measurable(dataset)
    named = config.features or default_features(dataset.shape)
    features = open_features(named, dataset.shape)
    n = config.n or samples_to_measure(dataset)
    plan, scales = rows_to_measure(run, config), config.sampling.scales()
    field = run.flow_map
    if config.sampling.guidance:
        field = guided_map(run, [sampler for sampler, _ in plan.values()])
    drawings = {
        name: [
            drawing_of(sampler, field.path, nfe, grid=grid, guidance=scale)
            for scale in scales
            for nfe in nfes
        ]
        for name, (sampler, nfes) in plan.items()
    }
    with Meter("sampling and measuring", n * sum(map(len, drawings.values()))) as meter:
        rows = evaluate_map(
            field,
            dataset,
            drawings,
            n=n,
            features=features,
            seed=config.seed,
            progress=meter.more,
        )
    reference = floor_row(dataset, n, features=features)
    result = {"run": config.run, "step": run.step, "sampling": dataclasses.asdict(config.sampling)}
    result |= {"reference": reference, "rows": rows}
    shown = [{"data": "samples", **row} for row in rows]
    shown.append({"data": "real against real", **reference})
    print_table(f"{config.run}, step {run.step}: {named} features", COLUMNS, shown)
    out = Path(config.out or Path(config.run) / "eval.json")
    save(result, out)
    if len(scales) > 1:
        place = out.with_name(f"{out.stem}_guidance.png")
        from core.report.pictures import guidance_curves  # with Matplotlib

        picture = guidance_curves(rows, reference, place, config.run)
        console.print(f"wrote {picture}")
    return result if config.json else None


def rows_to_measure(run: Model, config: EvalConfig) -> dict[str, tuple[Sampler, list[int]]]:
    """Each sampler with the numbers of evaluations that it can use; says which are left out.

    Raises `UserError` for a sampler that the run does not allow, and where nothing is left.
    """
    names = config.sampler or (run.sampler,)
    plan, reasons = {}, []
    for name, sampler in config.sampling.samplers(names).items():
        most = check(run, name, sampler)
        try:
            plan[name] = sampler, usable(name, sampler, config.nfe, most)
        except UserError as error:
            reasons.append(error)
    if not plan:
        raise reasons[0]
    for name in names:
        used = plan[name][1] if name in plan else []
        if name != "adaptive" and set(used) != set(config.nfe):
            left = " ".join(str(nfe) for nfe in config.nfe if nfe not in used)
            console.print(f"{name}: no rows for {left} evaluations, which it cannot use")
    return plan


def save(result: dict[str, Any], out: Path) -> None:
    """Writes the JSON file. Raises `UserError` where it cannot."""
    try:
        write_json(out, result)
    except OSError as error:
        raise UserError(f"cannot write {out} ({error.strerror}); choose another --out") from None
    console.print(f"wrote {out}")


if __name__ == "__main__":
    launch(main)
