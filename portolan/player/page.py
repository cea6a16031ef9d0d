"""A folder with a page that plays a run, without a server and without a network."""

import base64
import dataclasses
import json
from pathlib import Path
from typing import Any

from core.data.scale import Scale
from core.errors import UserError
from core.export.function import SamplerFunction
from core.export.jump import JumpFunction
from core.files import finite, write_bytes, write_text
from portolan.player import runtime
from portolan.player.bundle import PANEL, bundle, text

PLAYER = [*PANEL, ("player", "threefry"), ("player", "engine"), ("player", "player")]


def graph_of(function: SamplerFunction, jumps: bool) -> SamplerFunction | JumpFunction:
    """What the page runs: one jump, of which it takes as many as it likes, or the whole sampler; in
    network values."""
    plain = dataclasses.replace(function, scale=Scale())
    return JumpFunction(plain) if jumps else plain


def write_page(
    folder: Path, graph: bytes, about: dict[str, Any], files: dict[str, bytes]
) -> dict[str, int]:
    """Writes the page, and returns the sizes of its files. `files` are those of
    `runtime.runtime`."""
    run = {"about": finite(about), "graph": _coded(graph)}
    code = {"glue": _coded(files[runtime.GLUE]), "wasm": _coded(files[runtime.CODE])}
    texts = {
        "index.html": text("player", "index.html"),
        "style.css": text("studio", "style.css"),
        "run.js": f"window.portolan = {_script(run)};\n",
        "runtime.js": f"Object.assign(window.portolan, {_script(code)});\n",
        "page.js": bundle(PLAYER),
    }
    try:
        for name, content in texts.items():
            write_text(folder / name, content)
        write_bytes(folder / runtime.SCRIPT, files[runtime.SCRIPT])
        write_bytes(folder / "map.onnx", graph)
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None
    names = [*texts, runtime.SCRIPT, "map.onnx"]
    return {name: (folder / name).stat().st_size for name in names}


def _coded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _script(value: Any) -> str:
    """A value as JavaScript, in ASCII."""
    return json.dumps(value, allow_nan=False)
