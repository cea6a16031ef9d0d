"""Few-step maps of text: which loss wins on a chain, a chain of a book's letters, names, the book:
`python -m benchmarks.text --file BOOK --names NAMES`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import portolan as po
from apps._main import launch
from core.errors import pick, require
from core.files import write_text
from core.report.texts import COLUMNS, yardstick_of
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.runs import Run
from portolan.tables import console, markdown, print_table, save
from portolan.texts import bits_a_symbol

METHODS = ("cat-mf", "dfm-psd", "dfm-esd", "dfm-lsd", "cfm-csd", "cfm-ecld")
NFES = (1, 4, 16)
SHOWN = 20
"""Strings of each run that are written."""


@dataclass(frozen=True)
class Case:
    """Data, the flag that names its file, and how long is trained on it."""

    data: dict[str, Any]
    file: str = ""
    steps: int = 4000
    batch: int = 64
    width: int = 64
    depth: int = 3


CASES = {
    "chain": Case({"name": "bigram"}, steps=3000, width=48, depth=2),
    "letters": Case({"name": "bigram", "length": 64}, "file", steps=12000),
    "names": Case({"name": "text", "unit": "line", "length": 14}, "names", batch=128),
    "book": Case({"name": "text", "length": 64}, "file"),
}


@dataclass(frozen=True)
class TextConfig:
    """Trains methods on texts and measures samples at 1, 4 and 16 evaluations.

    Rows have `bits`, the bound of held-out text; the columns of `apps.eval` by the number of
    evaluations, `nll_1` and so on, and those of held-out text, `nll_text`. Interrupted runs go on,
    finished ones are not trained again.
    """

    file: str = ""
    """Text for the cases letters, whose pairs of characters give a chain, and book."""
    names: str = ""
    """Text with one name a line, or an .npz of codes, for the case names."""
    cases: tuple[str, ...] = ("chain",)
    """chain (drawn, 8 symbols, 16 places), letters (of --file, 64 places), names, book."""
    methods: tuple[str, ...] = METHODS
    """Methods; those of the case chain, and the first alone of the others."""
    steps: int = 0
    """Training steps; 0: as the case has them."""
    neighbours: int = 5
    """Places that the network's short convolutions span; 0: attention alone."""
    n: int = 2000
    """Samples a figure."""
    out: str = "runs/text"
    """Folder of the runs."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    samples: str | None = None
    """Text file to write, with strings of each run."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains what is missing, measures, and prints the table."""
    config = parse_flags(TextConfig, argv)
    rows, pages = [], []
    for name in config.cases:
        case = pick(CASES, name, "case")
        for method in config.methods if name == "chain" else config.methods[:1]:
            run = trained(config, name, case, method)
            rows.append({"case": name, "method": method, **measured(run, config.n)})
            pages += [f"{name}, {method}: {run.show(SHOWN, steps=nfe)!r}" for nfe in NFES]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    title = "Text: bits a symbol and figures of samples, by evaluations"
    print_table(title, columns, rows)
    settings = {name: vars(CASES[name]) for name in config.cases}
    asked = {"cases": settings, "n": config.n, "neighbours": config.neighbours}
    result = asked | {"rows": rows, "versions": versions()}
    if config.table:
        save(config.table, result, markdown(title, columns, rows))
    if config.samples:
        write_text(Path(config.samples), "\n".join(pages) + "\n")
    return result if config.json else None


def trained(config: TextConfig, name: str, case: Case, method: str) -> Run:
    """The run of one method on one case."""
    data = dict(case.data)
    if case.file:
        given = getattr(config, case.file)
        require(Path(given).is_file(), f"--{case.file} {given or '(none)'}: no such file")
        data["path"] = given
    folder = Path(config.out) / f"{name}-{method}"
    console.print(f"{folder}")
    return po.train(
        method,
        data,
        run=folder,
        net={"width": case.width, "depth": case.depth, "neighbours": config.neighbours},
        steps=config.steps or case.steps,
        batch=case.batch,
        sample_every=0,
        save_every=200,
    )


def measured(run: Run, n: int) -> dict[str, float | int | None]:
    """The figures of one run: bits of held-out text, then samples and held-out text."""
    data = run.dataset()
    bits, error, _ = bits_a_symbol(run, data, 0, yardstick_of(data))
    *rows, held = run.evaluate(NFES, n=n).rows
    found: dict[str, Any] = {"steps": run.step, "bits": bits, "bits_error": error}
    for key in COLUMNS:
        if key in held:
            found |= {f"{key}_{nfe}": row.get(key) for nfe, row in zip(NFES, rows)}
            found[f"{key}_text"] = held[key]
    return found


if __name__ == "__main__":
    launch(main)
