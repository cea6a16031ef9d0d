"""A configuration as TOML, and TOML as a configuration or as command-line flags.

The file has the shape of the flags: `[plugin] name = "imf"`, `diagonal = 0.5` says
`--plugin imf --plugin.diagonal 0.5`. A command given a file puts its flags before the user's, so
that those override the file. The configuration of a run that is only opened is read directly.
"""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import tomli_w

from core import trust
from core.errors import UserError
from core.files import write_text
from core.records import plain as plain
from core.records import typed
from core.train.config import LoopConfig, check_numbers

Filled = TypeVar("Filled")

SELECTORS = ("plugin", "data", "net", "source")
NOT_KEPT = (
    *("config", "run", "restart", "extend", "dry_run", "json", "cluster", "wandb", "trust"),
    "changed",
)
"""Flags of one call, not of the run."""
NEVER_IN_A_FILE = (
    *("config", "run", "restart", "extend", "dry_run", "json", "trust", "changed", "help", "h"),
    *("cluster", "distributed", "coordinator", "processes", "process"),
)
"""Flags that only a command line may have: a file that somebody hands around does not choose what
is deleted, where is written, and whom to connect to."""
NOT_SHAPING = (
    "log_every",
    "sample_every",
    "save_every",
    "keep",
    "evals",
    "on_nan",
    "wandb",
    "mesh",
    "accumulate",
)
"""Flags that may change when an interrupted run goes on: they do not shape its parameters."""


def to_dict(config: LoopConfig) -> dict[str, Any]:
    """The resolved configuration as nested plain values, without fields that do not shape the run.

    A field that is None is left out too: TOML has no null.
    """
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        kept = item.metadata.get("kept", True)  # not what a command has no flag for
        if not kept or item.name in NOT_KEPT or item.name.endswith("_flags"):
            continue
        if item.name in SELECTORS:
            flags = dataclasses.asdict(getattr(config, f"{item.name}_flags"))
            result[item.name] = {"name": value, **flags}
        elif dataclasses.is_dataclass(value):
            result[item.name] = dataclasses.asdict(value)  # pyright: ignore[reportArgumentType]
        else:
            result[item.name] = value
    return plain(result)


def shaping(tree: dict[str, Any]) -> dict[str, Any]:
    """A configuration as `to_dict` or `read` give it, without the flags that may change."""
    return {key: value for key, value in tree.items() if key not in NOT_SHAPING}


def write(config: LoopConfig, path: Path) -> None:
    """Writes the resolved configuration as TOML."""
    write_text(path, tomli_w.dumps(to_dict(config)))


def write_record(record: Any, path: Path) -> None:
    """Writes a dataclass of plain values as TOML."""
    write_text(path, tomli_w.dumps(plain(dataclasses.asdict(record))))


def read(path: Path) -> dict[str, Any]:
    """Reads a TOML file; the code that it names does not run (`core.trust`). Raises `UserError`
    where it is missing or is not TOML."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"no config file {path}; name one with --config FILE") from None
    except RecursionError:
        raise UserError(f"config file {path} is nested too deeply; write it again") from None
    except (ValueError, OSError) as error:
        said = f"config file {str(path)[:300]} is not readable TOML: {error}"
        raise UserError(said[:900]) from None
    trust.opened(path, tree)
    return tree


def selected(tree: dict[str, Any], selector: str) -> str | None:
    """The name that a file gives for a selector, or None."""
    chosen = tree.get(selector)
    return chosen.get("name") if isinstance(chosen, dict) else chosen


def filled(default: Filled, tree: dict[str, Any], where: str, prefix: str = "--") -> Filled:
    """`default`, a dataclass, with the values of `tree`: `to_dict` the other way round.

    Raises `UserError` for a value that the dataclass has no field for, or of another type; `where`
    names the file.
    """
    hints = get_type_hints(type(default))
    changes: dict[str, Any] = {}
    for key, value in tree.items():
        flag, field = f"{prefix}{key}".replace("_", "-"), key
        if key in SELECTORS and isinstance(value, dict):
            changes[key] = value.get("name", getattr(default, key))
            value = {name: item for name, item in value.items() if name != "name"}
            field = f"{key}_flags"
        if field not in hints:
            raise UserError(f"{where}: {flag} is no setting of this version; leave it out there")
        old = getattr(default, field)
        if dataclasses.is_dataclass(old) and isinstance(value, dict):
            changes[field] = filled(old, value, where, f"{flag}.")
        else:
            changes[field] = typed(value, hints[field], f"{where}: {flag}")
    found = dataclasses.replace(default, **changes)  # pyright: ignore[reportArgumentType]
    check_numbers(found, prefix)
    return found


def check_flags(tree: dict[str, Any], where: str, top: bool = True) -> None:
    """Raises `UserError` where a tree from the file `where` says what only a command line may
    (`NEVER_IN_A_FILE`, and to log online), or holds names or texts that are no flags or values."""
    for key, value in tree.items():
        name = key.replace("-", "_")
        if not re.fullmatch(r"[A-Za-z]\w*", name):
            raise UserError(f"{where}: {key!r} is no name of a flag; leave it out there")
        online = name == "wandb" and value == "online"
        if top and (online or name.removeprefix("no_") in NEVER_IN_A_FILE):
            raise UserError(
                f"{where}: {key}{' online' if online else ''} is taken from the command line only; "
                f"leave it out there, and say --{key.replace('_', '-')} where it is meant"
            )
        if isinstance(value, dict):
            check_flags(value, where, top=False)
            continue
        for word in value if isinstance(value, list) else [value]:
            if isinstance(word, dict | list) or (isinstance(word, str) and word.startswith("-")):
                raise UserError(f"{where}: {key} = {word!r} is no value of a flag; change it there")


def to_flags(tree: dict[str, Any], prefix: str = "") -> list[str]:
    """Nested values as command-line flags, `["--optim.rate", "0.001", ...]`."""
    flags: list[str] = []
    for key, value in tree.items():
        name = f"{prefix}{key}".replace("_", "-")
        if isinstance(value, dict):
            flags += to_flags(value, f"{name}.")
        elif not prefix.strip(".") or key != "name" or prefix[:-1] not in SELECTORS:
            flags += _flag(name, value)
        else:
            flags = [f"--{prefix[:-1]}", str(value), *flags]
    return flags


def _flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        *groups, last = name.split(".")
        return ["--" + ".".join([*groups, last if value else f"no-{last}"])]
    words = value if isinstance(value, list) else [value]
    return [f"--{name}", *(str(word) for word in words)]


def difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    """The first flag in which two configurations differ, as `--flag old against new`, or None.

    A selector comes before the flags that it selects.
    """
    for key in sorted(set(old) | set(new), key=lambda key: (key != "name", key)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            deeper = difference(a, b, f"{prefix}{key}.")
            if deeper:
                return deeper
        elif a != b:
            flag = prefix[:-1] if key == "name" else f"{prefix}{key}".replace("_", "-")
            return f"--{flag} {a} there, {b} asked"
    return None
