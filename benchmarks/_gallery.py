"""The table of the gallery: a picture a method and data set, with the commands that train it."""

from pathlib import Path
from typing import Any

from benchmarks.overview import RESULTS, family_page, listed, origin
from core.methods.plugin import Plugin

PICTURES = RESULTS.parent / "images" / "gallery"
SETTINGS = {"checkerboard": " --steps 3000 --ema 0.998", "digits": ""}
"""What the comparisons train with, where it is not the default."""
HEAD = "| method | checkerboard | digits, and the commands of both |\n|---|---|---|\n"


def gallery(rows: list[dict[str, Any]]) -> str:
    """The table, in the order of the overview's rows on the checkerboard."""
    ranked = sorted(rows, key=lambda row: row.get("checkerboard, 1", float("inf")))
    known = listed()
    lines = [_line(known[row["method"]]) for row in ranked]
    return HEAD + _cells("the data", "data", "") + "".join(lines)


def _line(plugin: type[Plugin]) -> str:
    """The row of a method; empty where it has no picture."""
    name, page = plugin.card.name, family_page(plugin.card.family)
    shown = [data for data in SETTINGS if _picture(data, name).exists()]
    commands = "".join(f"<br>`{_command(plugin, data)}`" for data in shown)
    return _cells(f"[{name}](methods/{page})", name, commands) if commands else ""


def _command(plugin: type[Plugin], data: str) -> str:
    """What trains the method, given a run of `fm` for those that need a teacher."""
    command = f"python -m apps.train --plugin {plugin.card.name} --data {data}{SETTINGS[data]}"
    if origin(plugin) == "teacher":
        return f"{command} --teacher runs/fm-{data}"
    beside = plugin.card.name == "fm" and data == "checkerboard"  # the teacher has the folder
    return f"{command} --run runs/fm-3000" if beside else command


def _cells(title: str, name: str, commands: str) -> str:
    shown = {
        data: f"![{name}, {data}](images/gallery/{file.name})"
        if (file := _picture(data, name)).exists()
        else ""
        for data in SETTINGS
    }
    return f"| {title} | {shown['checkerboard']} | {shown['digits']}{commands} |\n"


def _picture(data: str, name: str) -> Path:
    return PICTURES / f"{data}-{name}.png"
