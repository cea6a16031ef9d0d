"""A configuration as TOML, and TOML as command-line flags.

The file has the shape of the flags: `[plugin] name = "imf"`, `diagonal = 0.5` says
`--plugin imf --plugin.diagonal 0.5`. Reading a file means putting its flags before the user's, so
there is one parser, and flags override the file.
"""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from core.errors import UserError
from core.train.config import RunConfig

SELECTORS = ("plugin", "data", "net")
NOT_KEPT = ("config", "run", "restart", "dry_run", "json", "cluster")
"""Flags of one call, not of the run."""
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


def to_dict(config: RunConfig) -> dict[str, Any]:
    """The resolved configuration as nested plain values, without fields that do not shape the run.

    A field that is None is left out too: TOML has no null.
    """
    result: dict[str, Any] = {}
    for item in dataclasses.fields(config):  # pyright: ignore[reportArgumentType]
        value = getattr(config, item.name)
        if item.name in NOT_KEPT or item.name.endswith("_flags"):
            continue
        if item.name in SELECTORS:
            flags = dataclasses.asdict(getattr(config, f"{item.name}_flags"))
            result[item.name] = {"name": value, **flags}
        elif dataclasses.is_dataclass(value):
            result[item.name] = dataclasses.asdict(value)  # pyright: ignore[reportArgumentType]
        else:
            result[item.name] = value
    return _without_none(result)


def shaping(tree: dict[str, Any]) -> dict[str, Any]:
    """A configuration as `to_dict` or `read` give it, without the flags that may change."""
    return {key: value for key, value in tree.items() if key not in NOT_SHAPING}


def _without_none(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_none(value)
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, tuple)
        else value
        for key, value in tree.items()
        if value is not None
    }


def write(config: RunConfig, path: Path) -> None:
    """Writes the resolved configuration as TOML."""
    path.write_text(tomli_w.dumps(to_dict(config)))


def read(path: Path) -> dict[str, Any]:
    """Reads a TOML file. Raises `UserError` where it is missing or is not TOML."""
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"no config file {path}; name one with --config FILE") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"config file {path} is not readable TOML: {error}") from None


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
