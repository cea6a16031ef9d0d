"""From the command line to a `TrainConfig`.

The selectors --plugin, --data and --net are read first; they choose the dataclasses whose fields
become the other flags, and the recipe whose values are the defaults. A file named by --config
stands before the user's flags, so the flags override it.
"""

import argparse
import contextlib
import io
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import tyro

from core import trust
from core.data import DATA
from core.data.python import MARK
from core.errors import UserError, pick
from core.methods.registry import find_plugin, plugins
from core.nets import NETS
from core.train import toml
from core.train.begin import with_its_network
from core.train.config import NOISE, TrainConfig, check_numbers
from core.train.flags import unknown
from core.train.recipe import recipe, usual_plugin

Flags = TypeVar("Flags")


@dataclass(frozen=True)
class Selection:
    """The choices of the selectors, the folders that weights may come from, and all flags with
    those of the config file in front."""

    plugin: str
    data: str
    net: str | None
    source: str
    init: str | None
    teacher: str | None
    flags: list[str]


def select(argv: list[str]) -> Selection:
    """Reads the selectors and the config file. Raises `UserError` for an unknown name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in (*toml.SELECTORS, "config", "init", "teacher"):
        parser.add_argument(f"--{name}")
    flags = list(argv)
    trust.typed(flags)
    chosen = _parse_known(parser, flags)
    if chosen.config:
        tree = toml.read(Path(chosen.config))
        toml.check_flags(tree, chosen.config)
        flags = toml.to_flags(tree) + flags
        chosen = _parse_known(parser, flags)
    data, source = chosen.data or TrainConfig.data, chosen.source or NOISE
    if data.startswith(MARK):
        data, flags = "python", [*flags, "--data", "python", "--data.function", data]
    if source.startswith(MARK):
        source, flags = "python", [*flags, "--source", "python", "--source.function", source]
    elif source not in DATA and Path(source).exists():  # a file or folder in the place of a name
        shards = Path(source).is_dir() and any(Path(source).glob("*.npy"))
        kind = "images" if Path(source).is_dir() and not shards else "arrays"
        flags, source = [*flags, "--source", kind, "--source.path", source], kind
    plugin = chosen.plugin or usual_plugin(data)
    return Selection(plugin, data, chosen.net, source, chosen.init, chosen.teacher, flags)


def _parse_known(parser: argparse.ArgumentParser, flags: list[str]) -> argparse.Namespace:
    try:
        return parser.parse_known_args(flags)[0]
    except argparse.ArgumentError as error:
        raise UserError(f"{error}; --help lists the flags") from None


def parse(argv: list[str]) -> TrainConfig:
    """The resolved configuration of these flags. Raises `UserError`; `--help` prints and exits."""
    chosen = select(argv)
    find_plugin(chosen.plugin)
    pick(DATA, chosen.data, "data set")
    shape = _shape_by_path(chosen)
    default = _default(chosen, shape)
    config = parse_flags(TrainConfig, chosen.flags, default, _epilogue())
    sized = _default(chosen, shape_of(config.data_flags))
    if sized != default:
        config = parse_flags(TrainConfig, chosen.flags, sized, _epilogue())
    return replace(config, net_flags=config.plugin_flags.net_flags(config.net_flags))


def _default(chosen: Selection, shape: tuple[int, ...] | None) -> TrainConfig:
    """The recipe, with the network of the model folder that the run begins with."""
    plugin = find_plugin(chosen.plugin)
    found = recipe(plugin, chosen.data, chosen.net, shape=shape, source=chosen.source)
    if chosen.net is not None:
        return found
    return with_its_network(found, chosen.init, chosen.teacher)


def _shape_by_path(chosen: Selection) -> tuple[int, ...] | None:
    """The shape of one example, where the flags of data that say it by their file alone say it: it
    chooses the network, whose flags are then known."""
    kind = DATA[chosen.data]
    names = getattr(kind, "SHAPED_BY", ())
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name in names:
        parser.add_argument(f"--data.{name}", dest=name)
    found = vars(_parse_known(parser, chosen.flags)) if names else {}
    given = {name: value for name, value in found.items() if value is not None}
    with contextlib.suppress(UserError):  # parsing or loading will say it
        return shape_of(kind(**given)) if given else None
    return None


def shape_of(data_flags: Any) -> tuple[int, ...] | None:
    """The shape of one example, where a data set says it without being loaded."""
    peek = getattr(data_flags, "peek", None)
    if peek is None:
        return None
    with contextlib.suppress(UserError):  # loading will say it
        return peek()
    return None


def _epilogue() -> str:
    return (
        f"Methods: {', '.join(plugins())}. Data sets: {', '.join(DATA)}. "
        f"Networks: {', '.join(NETS)}. The flags below are those of the chosen three."
    )


def parse_flags(
    kind: type[Flags], argv: list[str], default: Flags | None = None, note: str = ""
) -> Flags:
    """Parses flags into a dataclass with tyro; a wrong flag raises `UserError` with one line.

    Whole numbers may be written as `1e4`. With its flag `--trust` the code may run that files name
    which are opened (`core.trust`).
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            parsed = _parsed(kind, argv, default, note)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        raise UserError(_explained(complaint.getvalue(), kind, default)) from None
    check_numbers(parsed)
    trust.trust_files(getattr(parsed, "trust", False))
    return parsed


def flags_of(kind: type[Flags], default: Flags | None = None) -> list[str]:
    """The flags that `parse_flags` takes, as `--help` lists them."""
    page = io.StringIO()
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(page):
        _parsed(kind, ["--help"], default, "")
    heads = re.findall(r"^(?:[│|]| ) (--.*)$", page.getvalue(), re.MULTILINE)
    return [flag for head in heads for flag in re.findall(r"--[a-z][\w.-]*", _names(head))]


def _names(head: str) -> str:
    """The part of a line of `--help` that has the names of a flag, before what it does."""
    return re.split(r"\s{2,}", head)[0]


def _parsed(kind: type[Flags], argv: list[str], default: Flags | None, note: str) -> Flags:
    description = " ".join(f"{kind.__doc__ or ''} {note}".split())
    options: dict[str, Any] = {} if default is None else {"default": default}
    with _WHOLE_NUMBERS:
        return tyro.cli(kind, args=argv, description=description, **options)


_WHOLE_NUMBERS = tyro.constructors.ConstructorRegistry()


@_WHOLE_NUMBERS.primitive_rule
def _whole_number(info: tyro.constructors.PrimitiveTypeInfo):
    """Reads `1e4` as 10000, and refuses `1.5`."""
    if info.type is not int:
        return None

    def read(words: list[str]) -> int:
        try:
            return int(words[0])
        except ValueError:
            found = _number(words[0])
        if found is None or not found.is_integer():
            raise ValueError(f"{words[0]!r} is no whole number")
        return int(found)

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, int),
        str_from_instance=lambda value: [str(value)],
    )


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None


def _explained(box: str, kind: type[Flags], default: Flags | None) -> str:
    """One line on the first mistake in tyro's error box."""
    line = _one_line(box)
    if line.startswith("Unrecognized options:"):
        flags = [word.rstrip(",") for word in line.split() if word.startswith("--")]
        if flags:
            line = unknown(flags[0], flags_of(kind, default))
    return f"{line.removeprefix('Error parsing ')}; --help lists the flags"


def _one_line(box: str) -> str:
    """The message of tyro's error box on one line: the text before the first rule in it."""
    lines = [re.sub(r"^[│|]\s*|\s*[│|]$", "", line).strip() for line in box.splitlines()]
    message: list[str] = []
    for line in lines:
        if line.startswith(("╭", "╰")):
            continue
        if line.startswith("──"):
            break
        message.append(line)
    return " ".join(message).strip()
