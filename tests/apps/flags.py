"""The flags of every command, and those that the texts in the code name."""

import ast
import dataclasses
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints

import tyro

from apps._compare.settings import CompareConfig
from apps._tilt.config import TiltConfig
from apps._tune.settings import TuneConfig
from apps.check import CheckConfig
from apps.convert import ConvertConfig
from apps.cost import CostConfig
from apps.edit import EditConfig
from apps.eval import EvalConfig
from apps.export import ExportConfig
from apps.inspect import InspectConfig
from apps.latents import LatentsConfig
from apps.plugins import PluginsConfig
from apps.sample import SampleConfig
from apps.stats import StatsConfig
from apps.studio import StudioConfig
from core.data import DATA
from core.methods.registry import plugins
from core.nets import NETS
from core.train.config import TrainConfig
from core.train.features import FeaturesConfig

ROOT = Path(__file__).parents[2]
FLAG = re.compile(r"(?<![\w-])--([a-z][\w-]*(?:\.[a-z][\w-]*)*)")
COMMANDS: dict[str, Any] = {
    "train": TrainConfig, "features": FeaturesConfig, "sample": SampleConfig, "eval": EvalConfig,
    "export": ExportConfig, "compare": CompareConfig, "tilt": TiltConfig, "check": CheckConfig,
    "cost": CostConfig, "plugins": PluginsConfig, "latents": LatentsConfig, "stats": StatsConfig,
    "convert": ConvertConfig, "edit": EditConfig, "tune": TuneConfig, "studio": StudioConfig,
    "inspect": InspectConfig,
}  # fmt: skip
GROUPS = {
    "plugin": plugins, "data": lambda: DATA, "source": lambda: DATA, "net": lambda: NETS,
}  # fmt: skip


@functools.cache
def flags_of_command(name: str) -> frozenset[str]:
    """The flags of a command, for whatever is selected."""
    kind = COMMANDS[name]
    found = set(_fields(kind, ""))
    for group, kinds in GROUPS.items():
        if any(field.name == f"{group}_flags" for field in dataclasses.fields(kind)):
            found |= {flag for each in kinds().values() for flag in _fields(each, f"{group}.")}
    return frozenset(found | {"help"})


def _fields(kind: Any, prefix: str) -> Iterator[str]:
    hints = get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        if field.name.endswith("_flags"):
            continue
        marks = getattr(hints[field.name], "__metadata__", ())
        own = next((m for m in marks if hasattr(m, "aliases")), None)
        name = field.name if own is None or own.name is None else own.name
        inner = getattr(hints[field.name], "__origin__", hints[field.name])
        if dataclasses.is_dataclass(inner):
            flat = name == "" or tyro.conf.OmitArgPrefixes in marks or bool(marks and own is None)
            yield from _fields(inner, prefix if flat else f"{prefix}{name.replace('_', '-')}.")
            continue
        for one in (name, *(alias.lstrip("-") for alias in (own and own.aliases) or ())):
            dashed = one.replace("_", "-")
            yield f"{prefix}{dashed}"
            if inner is bool:
                yield f"{prefix}no-{dashed}"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text in the code that is no docstring: placeholders are `{}`."""

    file: str
    line: int
    text: str

    @property
    def flags(self) -> list[tuple[str | None, str]]:
        """The flags that it names, each with the command that stands before it in its clause."""
        found, command = [], None
        for match in re.finditer(r"([,;()])|\bapps\.([a-z]+)|" + FLAG.pattern, self.text):
            command = None if match[1] else match[2] or command
            if match[3] and self.text[match.end() :][:2] != ".{":
                found.append((command, match[3].rstrip("-.")))
        return found


@functools.cache
def texts() -> list[Text]:
    """All texts of the project's code, those of documentation left out."""
    found = []
    for room in ("core", "plugins", "portolan", "apps"):
        for path in sorted((ROOT / room).rglob("*.py")):
            tree = ast.parse(path.read_text())
            name = str(path.relative_to(ROOT))
            docs = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
            inside = {
                part
                for node in ast.walk(tree)
                if isinstance(node, ast.JoinedStr)
                for part in ast.walk(node)
                if part is not node and isinstance(part, ast.Constant | ast.JoinedStr)
            }
            for node in ast.walk(tree):
                if node in docs or node in inside:
                    continue
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(Text(name, node.lineno, node.value))
                elif isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
                    found.append(Text(name, node.lineno, "".join(map(str, parts))))
    return found
