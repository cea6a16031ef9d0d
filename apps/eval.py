"""Measures a trained run: `python -m apps.eval --run runs/imf-digits`."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from apps._data import NoData, load, parse
from apps._main import launch
from apps._sampling import Sampling
from core.errors import UserError, require
from core.files import inside, write_json
from core.report.drawn import remove_stored
from core.report.versions import versions
from core.sampling import SAMPLERS, Sampler, drawing_of, usable
from portolan import likelihood
from portolan.certificate import CERTIFIED
from portolan.drawing import check, guided_map
from portolan.measuring import COLUMNS, Answer, Asked, measure
from portolan.runs import open as open_run
from portolan.stored import Stored, check_data
from portolan.tables import console, print_table

STORE = "eval"
"""The folder in a run where samples lie."""


@dataclass(frozen=True)
class EvalConfig:
    """Measures a run's samples against its data, at chosen numbers of evaluations.

    The last row is the floor: the same metrics between two disjoint sets of real data.

    `frechet` is the Frechet distance of two Gaussians fitted to the named features, `kid` the
    kernel distance, unbiased, for sets of about 1,000 on; less is better. `accuracy` is that of a
    nearest-neighbour classifier on the data, or of --classifier. `precision` and `density` say
    whether samples lie where data are, `recall` and `coverage` whether data lie where samples are.
    `inception_score` looks at the classes of the features' network alone. `map_error` is the mean
    distance to the exact flow map from the same noise (data of known distribution only).

    A distance in one network's features says nothing beside one in another's, and little beside one
    of another number of samples. FID stands only for features of Inception (2015) and 10,000
    samples or more; published numbers have 50,000. Each number of the JSON file says how it was
    made.

    Examples: --run runs/x; --run runs/x --features efficientnet-lite0 pooled;
    --run runs/x --features inception=DIR --stats cifar10.npz --n 50000 --nfe 1 2.
    """

    run: str = "runs/imf-digits"
    """Run folder, or model folder of apps.convert, which needs --data or --stats."""
    data: Annotated[str | None, tyro.conf.arg(name="data", metavar="NAME")] = None
    """Data set to compare with, by its name, in the place of the run's own."""
    vae: str | None = None
    """Model folder of the autoencoder whose latents a converted network makes."""
    sampler: tuple[str, ...] = ()
    """pushforward, restart, gamma (jumps); euler, heun, ddim, dpmpp-2m, adaptive (ODE); ancestral,
    churn, euler-maruyama (fresh noise); default: the method's own."""
    nfe: Annotated[tuple[int, ...], tyro.conf.arg(aliases=["--evals"])] = (1, 2, 4, 8)
    """Numbers of network evaluations a sample; a sampler leaves out those that it cannot use, and
    adaptive has one row with the number that it took."""
    times: tuple[Literal["certified"], ...] = ()
    """certified: stop at the times that apps.inspect --certify found, as --grid certified does."""
    sampling: tyro.conf.OmitArgPrefixes[Sampling] = Sampling()
    n: int = 0
    """Samples a row; 0 takes as many as the data, 10,000 at most, and 3,000 where features are
    those of a network."""
    features: tuple[str, ...] = ()
    """Features on which distances are taken, several in one pass over the samples: pixels (the
    default up to 1,024 numbers an example), pooled (means over 8 x 8 cells), efficientnet-lite0
    (the default of larger pictures, where the extra `features` is installed), inception=DIR,
    dinov2=DIR, or a run folder of apps.features."""
    stats: tuple[str, ...] = ()
    """Files of reference statistics (.npz of apps.stats, EDM, ADM, MeanFlow, clean-fid or
    pytorch-fid) in the place of the run's data, one for each features; the last row is then the
    data against the file."""
    classifier: str | None = None
    """Run folder of apps.features --task classifier, which judges `accuracy` in the place of the
    nearest neighbour."""
    allow_few: bool = False
    """Take Frechet distances in a network's features of no more samples than there are features
    too; they are far too high to be compared."""
    likelihood: tuple[Literal["ode", "hutchinson", "exact", "series", "head"], ...] = ()
    """Measure log-likelihoods of data instead: ode, the probability-flow ODE with its exact
    divergence (hutchinson: with one probe); exact, the determinants of --nfe jumps towards noise
    (series: estimated; head: by the divergence head of f2d2). With --data beside the run's own
    data."""
    keep_samples: bool = False
    """Keep samples in <run>/eval, in pieces that a stopped command goes on from. More than 10,000,
    or than 256 MB of them, always lie there. Pictures become bytes."""
    remove_samples: bool = False
    """Delete the samples of this call from <run>/eval in the end."""
    start: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """File of examples that samples start from (.npz or .npy), of a run trained with --source;
    default: the source itself."""
    seed: int = 0
    """Seed of the noise and of random subsets."""
    out: str | None = None
    """JSON file to write; default: <run>/eval.json, of --likelihood <run>/likelihood.json."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""
    data_flags: Annotated[Any, tyro.conf.arg(name="data")] = NoData()
    """Flags of the data set."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes the JSON file."""
    config = parse(EvalConfig, argv)
    if config.times:
        require(config.sampling.grid is None, "--times certified is a grid: leave out --grid")
        sampling = dataclasses.replace(config.sampling, grid=CERTIFIED)
        config = dataclasses.replace(config, sampling=sampling)
    if config.n < 0 or config.seed < 0 or not config.nfe or min(config.nfe) < 1:
        raise UserError("--n and --seed must not be negative, and each --nfe must be at least 1")
    config.sampling.samplers(config.sampler or tuple(SAMPLERS))
    if config.likelihood:
        return likelihoods(config)
    run = open_run(config.run, data=load(config.data_flags), vae=config.vae)
    run = config.sampling.adapted(run)
    answer = measure(run, asked(run, config))
    result = {"run": config.run, "step": run.step, "sampling": dataclasses.asdict(config.sampling)}
    result |= _figures(answer)
    for name in answer.features:
        by = "geodesic distances" if run.spec.space else f"{name} features"
        print_table(f"{run.place}: {by}", COLUMNS, answer.shown(name))
    for line in answer.lines:
        console.print(line)
    out = Path(config.out or Path(config.run) / "eval.json")
    save(result, out)
    if len(config.sampling.scales()) > 1:
        draw_guidance(answer, out, config.run)
    _say_stored(answer, config)
    return result if config.json else None


def likelihoods(config: EvalConfig) -> dict[str, Any] | None:
    """Measures log-likelihoods, of the run's own data and of --data."""
    run = config.sampling.adapted(open_run(config.run, data=None, vae=config.vae))
    sets, given = {"own": run.dataset()}, load(config.data_flags)
    if given is not None:
        sets["--data"] = check_data(run, given)
    rows = likelihood.table(run, sets, config.likelihood, config.nfe, n=config.n, seed=config.seed)
    title = f"{run.place}: log-likelihood a dimension in bits"
    print_table(title, likelihood.COLUMNS, rows)
    result = {"run": config.run, "step": run.step, "rows": rows, "versions": versions()}
    save(result, Path(config.out or Path(config.run) / "likelihood.json"))
    return result if config.json else None


def asked(run: Stored, config: EvalConfig) -> Asked:
    """What the flags ask for. Raises `UserError`."""
    grid, scales = config.sampling.times(run), config.sampling.scales()
    plan, field = rows_to_measure(run, config), run.flow_map
    if config.sampling.guidance:
        samplers = [sampler for sampler, _ in plan.values()]
        field = guided_map(run, samplers, config.sampling.guidance_channels)
    drawings = {
        name: [
            drawing_of(sampler, field.path, nfe, grid=grid, guidance=scale)
            for scale in scales
            for nfe in nfes
        ]
        for name, (sampler, nfes) in plan.items()
    }
    return Asked(
        field, drawings, config.n, config.features, config.stats, config.classifier,
        config.allow_few, config.seed, inside(run.folder, STORE), config.keep_samples,
        config.start,
    )  # fmt: skip


def _figures(answer: Answer) -> dict[str, Any]:
    """What the JSON file has: the rows as a table, and each number with what it depends on."""
    real = answer.real
    return {
        "features": list(answer.features),
        "reference": real.rows[0] if real.rows else {},
        "references": list(real.rows),
        "rows": list(answer.found.rows),
        "numbers": [*answer.found.numbers, *real.numbers],
        "versions": versions(),
    }


def draw_guidance(answer: Answer, out: Path, run: str) -> None:
    """Draws how the rows depend on the guidance scale."""
    from core.report.pictures import guidance_curves  # with Matplotlib

    place = out.with_name(f"{out.stem}_guidance.png")
    reference = dict(answer.real.rows[0]) if answer.real.rows else {}
    first = [row for row in answer.found.rows if row["features"] == answer.features[0]]
    console.print(f"wrote {guidance_curves(first, reference, place, run)}")


def _say_stored(answer: Answer, config: EvalConfig) -> None:
    """Says where samples lie, or deletes them."""
    folders = {one.folder for one in answer.found.stored if one.folder is not None}
    if not folders:
        return
    if config.remove_samples:
        for folder in folders:
            remove_stored(folder)
        return
    size = sum(file.stat().st_size for folder in folders for file in folder.iterdir())
    console.print(
        f"samples lie in {Path(config.run) / STORE} ({size / 2**20:,.0f} MiB); the same command "
        "takes them from there, with --remove-samples it deletes them in the end"
    )


def rows_to_measure(run: Stored, config: EvalConfig) -> dict[str, tuple[Sampler, list[int]]]:
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
