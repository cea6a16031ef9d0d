"""Tables of results: rows in Python, a table in a notebook."""

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from portolan.tables import cell, markdown


@dataclass(frozen=True, repr=False)
class Table:
    """Rows of named values, shown with the columns that some row has.

    A sequence of dicts: `table[0]["frechet"]`; `print` writes Markdown, a notebook shows a table.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.rows[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def __repr__(self) -> str:
        return markdown(self.title, self.columns, self.rows).strip()

    def _repr_html_(self) -> str:
        shown = shown_columns(self.columns, self.rows)
        lines = [_line("th", shown)] + [
            _line("td", [cell(row.get(name)) for name in shown]) for row in self.rows
        ]
        return f"<table><caption>{html.escape(self.title)}</caption>{''.join(lines)}</table>"


def shown_columns(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> list[str]:
    """The columns that some row has."""
    return [name for name in columns if any(row.get(name) is not None for row in rows)]


def _line(tag: str, cells: Sequence[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(text)}</{tag}>' for text in cells)}</tr>"
