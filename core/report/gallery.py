"""Pictures of samples: a grid with one column a class, or points beside the data."""

from collections.abc import Sequence
from pathlib import Path

import jax.random as jr
import numpy as np
from jaxtyping import Int

from core.data.dataset import Dataset
from core.flow.flow_map import FlowMap
from core.sampling import SAMPLERS, generate, uniform_grid

MOST_COLUMNS = 10


def grid_labels(num_classes: int, rows: int) -> Int[np.ndarray, " n"]:
    """Labels of a grid with one column a class (the first ten), row by row."""
    return np.tile(np.arange(min(num_classes, MOST_COLUMNS)), rows)


def sample_picture(
    flow_map: FlowMap,
    dataset: Dataset,
    path: Path,
    *,
    sampler: str = "pushforward",
    nfe: int = 1,
    rows: int = 8,
    seed: int = 0,
    title: str | None = None,
) -> np.ndarray:
    """Draws samples, writes their picture and returns them as network values.

    Images: `rows` rows, one column a class, or ten columns without labels. Points: a panel of
    2,000 samples beside the data.
    """
    grid = uniform_grid(flow_map.path, SAMPLERS[sampler].steps(nfe))
    labels: np.ndarray | int = 2000 if dataset.kind == "points" else MOST_COLUMNS * rows
    if dataset.num_classes and dataset.kind == "image":
        labels = grid_labels(dataset.num_classes, rows)
    elif dataset.labels is not None:
        labels = dataset.labels[:2000]
    samples = generate(flow_map, SAMPLERS[sampler], grid, dataset.shape, labels, key=jr.key(seed))
    plural = "evaluation" if samples.nfe == 1 else "evaluations"
    draw(dataset, samples.x, path, rows, title or f"{sampler}, {samples.nfe} {plural}")
    return samples.x


def draw(dataset: Dataset, samples: np.ndarray, path: Path, rows: int, title: str) -> None:
    """Writes samples (network values) as a picture that suits the data."""
    from core.report import pictures  # with Matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    if dataset.kind == "points":
        data = np.asarray(dataset.decode(dataset.take(np.arange(min(len(dataset), 2000)))))
        pictures.points_plot({"data": data, title: samples}, path)
        return
    cols = len(samples) // rows
    names = list(dataset.class_names[:cols]) if dataset.num_classes else None
    pictures.image_grid(dataset.encode(samples), rows, cols, path, names, title=title)


def draw_blocks(
    dataset: Dataset, blocks: Sequence[np.ndarray], path: Path, title: str, names: Sequence[str]
) -> None:
    """Writes one picture of several sets of samples: blocks of rows, or panels of points.

    `names`, if any, has one for each block. The first block says how many images a row has; images
    that do not fill a row of a block are left out.
    """
    from core.report import pictures  # with Matplotlib

    if dataset.kind == "points":
        if not names:
            draw(dataset, blocks[0], path, 1, title)
            return
        data = np.asarray(dataset.decode(dataset.take(np.arange(min(len(dataset), 2000)))))
        pictures.points_plot({"data": data, **dict(zip(names, blocks, strict=True))}, path)
        return
    cols = min(dataset.num_classes or MOST_COLUMNS, MOST_COLUMNS, len(blocks[0]))
    rows = [len(block) // cols for block in blocks]
    sides = None
    if names:
        sides = [
            name if row == 0 else ""
            for name, count in zip(names, rows, strict=True)
            for row in range(count)
        ]
    heads = list(dataset.class_names[:cols]) if dataset.num_classes else None
    shown = [dataset.encode(block[: count * cols]) for block, count in zip(blocks, rows)]
    pictures.image_grid(np.concatenate(shown), sum(rows), cols, path, heads, sides, title=title)
