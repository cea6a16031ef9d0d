"""Whether certified times beat equal steps: `python -m benchmarks.certificate --runs DIR ...`."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portolan as po
from apps import eval as apps_eval
from apps import inspect as apps_inspect
from apps._main import launch
from core.errors import require
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save

NFES = (2, 4, 8)
FIGURES = {"points": ("w2", "kl"), "image": ("frechet", "accuracy"), "series": ("frechet",)}
"""Columns of apps.eval by the kind of data; the first one decides."""


@dataclass(frozen=True)
class CertificateConfig:
    """Certifies runs and measures their samples at equal steps and at certified times.

    The certificate is made with seed 0, samples are drawn with `--seed`: noise that it has not
    seen. `certificate.json` and `certificate.png` are written into each run.
    """

    runs: tuple[str, ...] = ()
    """Run folders, of different methods."""
    n: int = 2048
    """Samples a figure."""
    examples: int = 64
    """Examples that certificates take."""
    nodes: int = 17
    """Times at which certificates measure."""
    seed: int = 1
    """Seed of the samples."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures each run and prints the table."""
    config = parse_flags(CertificateConfig, argv)
    require(len(config.runs) > 0, "--runs DIR [DIR ...]: name at least one run")
    rows, memory = [], {}
    for folder in config.runs:
        certificate = certify(config, folder)
        run = po.open(folder)
        rows += compared(config, folder, run.title, run.spec.kind, certificate)
        memory[run.title] = certificate["memory"]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    title = "Equal steps and certified times"
    print_table(title, columns, rows)
    better = sum(row["better"] for row in rows)
    console.print(f"certified times are better in {better} of {len(rows)} rows")
    settings = {"n": config.n, "examples": config.examples, "nodes": config.nodes}
    result = {**settings, "rows": rows, "memory": memory, "versions": versions()}
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    return result if config.json else None


def certify(config: CertificateConfig, folder: str) -> dict[str, Any]:
    """The certificate of a run, made again."""
    flags = ["--run", folder, "--certify", "--json"]
    flags += ["--n", str(config.examples), "--nodes", str(config.nodes)]
    found = apps_inspect.main(flags)
    assert found is not None
    return found


def compared(
    config: CertificateConfig, folder: str, title: str, kind: str, certificate: dict[str, Any]
) -> list[dict[str, Any]]:
    """A row for each number of evaluations."""
    equal, certified = (measured(config, folder, more) for more in ([], ["--times", "certified"]))
    rows = []
    for nfe in NFES:
        row: dict[str, Any] = {"run": title, "nfe": nfe}
        names = [name for name in FIGURES.get(kind, ()) if name in equal[nfe]]
        for name in names:
            row |= {f"{name}, equal": equal[nfe][name], f"{name}, certified": certified[nfe][name]}
        first = names[0]
        row["better"] = certified[nfe][first] < equal[nfe][first]
        row["times"] = " ".join(f"{unit:.3g}" for unit in certificate["times"][nfe])
        rows.append(row)
    return rows


def measured(config: CertificateConfig, folder: str, more: list[str]) -> dict[int, dict[str, Any]]:
    """The figures of a run's own sampler by the number of evaluations."""
    with tempfile.TemporaryDirectory() as place:
        flags = ["--run", folder, "--nfe", *map(str, NFES), "--n", str(config.n), "--json"]
        flags += ["--seed", str(config.seed), "--out", str(Path(place) / "eval.json"), *more]
        found = apps_eval.main(flags)
    assert found is not None
    return {row["nfe"]: row for row in found["rows"] if row.get("nfe") in NFES}


if __name__ == "__main__":
    launch(main)
