"""Models with adapters: files, folders and runs that hold one, summed with weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from core.adapters import Adapter, read_adapter, with_adapters
from core.errors import UserError, require
from core.flow.flow_map import FlowMap
from core.train.run import open_run

if TYPE_CHECKING:
    from portolan.model import Model

Source = str | Path | Adapter
"""A file, a folder, a run that trained one, or the adapter itself."""
Given = Source | tuple[Source, float]
"""An adapter, or one with its weight."""


def adapted_map(model: "Model", given: tuple[Given, ...]) -> FlowMap:
    """The model's map with these adapters. Raises `UserError` for those that it has no place
    for."""
    pairs = [one if isinstance(one, tuple) else (one, 1.0) for one in given]
    found = [(opened(model, source), float(weight)) for source, weight in pairs]
    return with_adapters(model.flow_map, found)


def opened(model: "Model", source: Source) -> Adapter:
    """The adapter of a file, folder or run, for this model's network. Raises `UserError`."""
    if isinstance(source, Adapter):
        return source
    if not (Path(source) / "config.toml").exists():
        return read_adapter(source, model.flow_map, model.spec.shape)
    found = open_run(source).adapter
    require(
        found is not None,
        f"{source} is a run without an adapter; make one by apps.train --adapter.rank 8",
    )
    assert found is not None
    return found


def parsed(text: str) -> tuple[str, float]:
    """`FILE` or `FILE:WEIGHT`. Raises `UserError` for a weight that is no number."""
    name, colon, weight = text.rpartition(":")
    if not colon or Path(text).exists():
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError:
        raise UserError(f"--adapter {text}: write FILE:WEIGHT, such as fast:0.8") from None
