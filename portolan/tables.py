"""Tables for people: on stderr, and as Markdown beside a JSON file."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from core.errors import UserError
from core.files import write_json, write_text

console = Console(
    stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else 140
)


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Nothing is printed on the console inside the `with`, if `silent`."""
    before, console.quiet = console.quiet, console.quiet or silent
    try:
        yield
    finally:
        console.quiet = before


def print_table(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    """Prints the columns that some row has; numbers with a few significant digits. The last ones
    are named only, where the console is not wide enough for all."""
    have = [name for name in columns if any(row.get(name) is not None for row in rows)]
    shown = have[: _that_fit(have, rows, console.width)]
    table = Table(title=title, title_justify="left")
    for name in shown:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(cell(row.get(name)) for name in shown))
    console.print(table)
    if len(shown) < len(have):
        console.print(f"too wide for the screen: {', '.join(have[len(shown) :])}")


def _that_fit(columns: Sequence[str], rows: Sequence[dict[str, Any]], width: int) -> int:
    """How many columns fit beside each other; the first may break its lines, and ten are shown
    however narrow they get."""
    used = 1
    for count, name in enumerate(columns):
        cells = [len(cell(row.get(name))) for row in rows]
        used += 3 + max([len(name), *(cells if count else [min(cells, default=0)])])
        if used > width:
            return max(count, 10)
    return len(columns)


def markdown(title: str, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """The same table as Markdown under a heading."""
    return f"# {title}\n\n{markdown_table(columns, rows)}"


def markdown_table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """The same table as Markdown; without rows the heading alone."""
    used = [name for name in columns if any(row.get(name) is not None for row in rows)]
    shown = used if rows else list(columns)
    lines = [shown, ["---"] * len(shown)]
    lines += [[cell(row.get(name)).replace("|", "\\|") for name in shown] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def save(out: str, result: dict[str, Any], page: str, said: bool = True) -> None:
    """Writes the JSON file and, beside it, the page of Markdown, and says so where it is `said`.

    Raises `UserError` where it cannot.
    """
    path = Path(out)
    try:
        write_json(path, result)
        write_text(path.with_suffix(".md"), page)
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another --out") from None
    if said:
        console.print(f"wrote {path} and {path.with_suffix('.md').name}")


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 0.01 or abs(value) >= 1000 else f"{value:.3f}"
    return str(value)
