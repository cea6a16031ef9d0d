"""Lists the registered methods: `python -m apps.plugins`."""

from dataclasses import dataclass
from typing import Any

from apps._main import launch
from apps._table import print_table
from core.methods.registry import plugins
from core.train.cli import parse_flags

COLUMNS = ("name", "kind", "family", "rule", "supervision", "parameterisation", "cost", "source")


@dataclass(frozen=True)
class PluginsConfig:
    """Lists the registered methods: rule, supervision, parameterisation, cost and source.

    The cost is that of one training example in forward passes, with the method's own row split.
    """

    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Prints the table."""
    config = parse_flags(PluginsConfig, argv)
    rows = [{key: getattr(plugin.card, key) for key in COLUMNS} for plugin in plugins().values()]
    print_table("methods (--plugin NAME)", COLUMNS, rows)
    return {"plugins": rows} if config.json else None


if __name__ == "__main__":
    launch(main)
