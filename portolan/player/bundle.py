"""Modules of JavaScript as one script, so that a page runs from the disk, where browsers let a
script import no other."""

import re
from collections.abc import Sequence
from importlib.resources import files

from core.errors import require

_IMPORT = re.compile(r'^import (\{[^}]*\}) from "\./([\w-]+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?(?:function|class|const|let) (\w+))", re.MULTILINE)
PLACES = {"studio": "portolan.studio", "player": "portolan.player"}


def text(place: str, name: str) -> str:
    """A file of a front end: `place` is studio or player."""
    return (files(PLACES[place]) / "static" / name).read_text("utf-8")


def bundle(modules: Sequence[tuple[str, str]]) -> str:
    """Modules `(place, name)` as functions that are called in this order, each after those that it
    imports: `import { a } from "./b.js"` reads the names that `b` exports."""
    parts, known = ['"use strict";\n'], set()
    for place, name in modules:
        source = text(place, f"{name}.js")
        for words, other in _IMPORT.findall(source):
            require(other in known, f"{name}.js imports {other}.js, which comes later")
            require(" as " not in words, f"{name}.js renames what it imports of {other}.js")
        source = _IMPORT.sub(lambda found: f"const {found[1]} = module_{found[2]};\n", source)
        names = [found[1] for found in _EXPORT.findall(source)]
        body = _EXPORT.sub(r"\1", source)
        require("\nimport " not in body and "\nexport " not in body, f"{name}.js is not understood")
        given = f"return {{ {', '.join(names)} }};"
        parts.append(f"const module_{name} = (() => {{\n{body}\n{given}\n}})();\n")
        known.add(name)
    return "\n".join(parts)


PANEL = [("studio", name) for name in ("api", "dom", "draw", "view", "sample")]
"""The panel Sample of the studio."""
