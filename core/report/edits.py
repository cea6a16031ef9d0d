"""Pictures of edits: a row an example, a column a stage."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.report.gallery import draw_points, tiles


@dataclass(frozen=True)
class Sheet:
    """Examples in stages: a title, a name a stage, and network values `(n, stages, *shape)`."""

    title: str
    names: tuple[str, ...]
    x: Float[np.ndarray, "n stages *shape"]


def draw_sheet(spec: DataSpec, sheet: Sheet, path: Path, dataset: Dataset | None = None) -> None:
    """Writes a grid of images or series, or of points one panel a stage, after one of the data."""
    if spec.kind == "points":
        panels = {name: sheet.x[:, i] for i, name in enumerate(sheet.names)}
        draw_points(spec, panels, path, None if "data" in panels else dataset)
        return
    from core.report import pictures  # with Matplotlib

    n, stages, *shape = sheet.x.shape
    shown = tiles(spec, sheet.x.reshape(-1, *shape))
    pictures.image_grid(shown, n, stages, path, sheet.names, title=sheet.title)
