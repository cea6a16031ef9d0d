"""The flag --data of commands that measure or steer: data in the place of a run's own."""

import argparse
from dataclasses import dataclass
from typing import Any, TypeVar

from core import trust
from core.data import DATA
from core.data.dataset import Dataset
from core.data.python import MARK
from core.errors import UserError, pick
from core.train.cli import parse_flags

Flags = TypeVar("Flags")


@dataclass(frozen=True)
class NoData:
    """Without --data there are no flags of a data set."""


def parse(kind: type[Flags], argv: list[str]) -> Flags:
    """The flags of a command whose fields `data` and `data_flags` name a data set. Raises
    `UserError`."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--data")
    trust.typed(argv)
    try:
        named = parser.parse_known_args(argv)[0].data
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; --help lists the flags") from None
    if named is None:
        return parse_flags(kind, argv)
    if named.startswith(MARK):
        argv, named = [*argv, "--data", "python", "--data.function", named], "python"
    default: Any = kind(data=named, data_flags=pick(DATA, named, "data set")())  # pyright: ignore[reportCallIssue]
    return parse_flags(kind, argv, default)


def load(data_flags: Any) -> Dataset | None:
    """The data set of these flags; None without --data. Raises `UserError`."""
    return None if isinstance(data_flags, NoData) else data_flags.load()
