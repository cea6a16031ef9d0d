"""Pictures of samples: a grid with one column a class, or points beside the data.

Images and series stand in the grid, each as the small picture that `DataSpec.encode` makes of it;
points are dots in the units of the data, those of other than two numbers by `core.report.planar`;
points on the sphere, on the torus and in SO(3) are drawn as densities.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int, UInt8

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.data.starts import starts_like
from core.flow.flow_map import FlowMap
from core.report.planar import in_plane
from core.report.strings import write_strings
from core.sampling import SAMPLERS, drawing_of, generate
from core.sampling.usual import usual_grid

MOST_COLUMNS = 10
MOST_BESIDE = 10_000
"""Examples whose density is drawn beside that of samples, at most."""
MOST_ROWS = 40
"""Rows of a picture of samples; of more samples the first are shown."""


def grid_labels(num_classes: int, rows: int) -> Int[np.ndarray, " n"]:
    """Labels of a grid with one column a class (the first ten), row by row."""
    return np.tile(np.arange(min(num_classes, MOST_COLUMNS)), rows)


def in_columns(
    spec: DataSpec, x: Float[np.ndarray, " n *shape"], labels: Int[np.ndarray, " n"]
) -> tuple[DataSpec, Float[np.ndarray, " m *shape"]]:
    """Examples row by row with one column a class, and the description of these classes.

    `MOST_ROWS` rows at most. Where a class has fewer than another stand examples of NaN, which are
    drawn white.

    Of one class, or of more than ten, the first examples as they come, without classes.
    """
    found = np.unique(labels)
    if not 1 < len(found) <= MOST_COLUMNS:
        plain = dataclasses.replace(spec, num_classes=0, class_names=())
        return plain, x[: MOST_ROWS * MOST_COLUMNS]
    groups = [x[labels == k][:MOST_ROWS] for k in found]
    page = np.full((max(map(len, groups)), len(found), *x.shape[1:]), np.nan, x.dtype)
    for column, group in enumerate(groups):
        page[: len(group), column] = group
    names = tuple(spec.class_names[k] for k in found)
    shown = dataclasses.replace(spec, num_classes=len(found), class_names=names)
    return shown, page.reshape(-1, *x.shape[1:])


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

    Images and series: `rows` rows, one column a class, or ten columns without labels. Points: a
    panel of 2,000 samples beside the data. Text: a file of strings beside `path`.
    """
    drawing = drawing_of(SAMPLERS[sampler], flow_map.path, nfe, grid=usual_grid(dataset.spec))
    labels: np.ndarray | int = 2000 if dataset.kind == "points" else MOST_COLUMNS * rows
    if dataset.num_classes and dataset.kind != "points":
        labels = grid_labels(dataset.num_classes, rows)
    elif dataset.labels is not None:
        labels = dataset.labels[:2000]
    count = labels if isinstance(labels, int) else len(labels)
    drawing = dataclasses.replace(drawing, starts=starts_like(dataset, count, seed))
    samples = generate(flow_map, drawing, dataset.shape, labels, key=jr.key(seed))
    plural = "evaluation" if samples.nfe == 1 else "evaluations"
    title = title or f"{sampler}, {samples.nfe} {plural}"
    if dataset.kind == "points":
        draw_points(dataset.spec, {title: samples.x}, path, dataset)
        return samples.x
    if dataset.kind == "tokens":
        write_strings(dataset.spec, [samples.x], path, title)
        return samples.x
    from core.report import pictures  # with Matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    cols = len(samples.x) // rows
    names = list(dataset.class_names[:cols]) if dataset.num_classes else None
    pictures.image_grid(dataset.encode(samples.x), rows, cols, path, names, title=title)
    return samples.x


def draw_points(
    spec: DataSpec, panels: dict[str, np.ndarray], path: Path, dataset: Dataset | None
) -> None:
    """Writes panels of points, after one of the data where there are any."""
    from core.report import pictures  # with Matplotlib

    path.parent.mkdir(parents=True, exist_ok=True)
    if dataset is not None:
        most = MOST_BESIDE if spec.space else 2000
        real = dataset.decode(dataset.take(np.arange(min(len(dataset), most))))
        panels = {"data": np.asarray(real), **panels}
    shown = {name: spec.encode(points) for name, points in panels.items()}
    if spec.space == "torus":
        pictures.torus_plot(shown, path)
    elif (spec.space, *spec.shape) == ("sphere", 3):
        pictures.globe_plot(shown, path)
    elif (spec.space, *spec.shape) == ("so3", 4):
        pictures.rotations_plot(shown, path)
    else:
        pictures.points_plot(in_plane(shown, spec), path)


def tiles(spec: DataSpec, x: Float[np.ndarray, " n *shape"]) -> UInt8[np.ndarray, "n high wide c"]:
    """The small pictures of images or series; white for examples of NaN alone."""
    nothing = np.isnan(x).reshape(len(x), -1).all(axis=1)
    if not nothing.any():
        return spec.encode(x)
    shown = spec.encode(np.where(nothing.reshape(-1, *[1] * (x.ndim - 1)), 0, x))
    shown[nothing] = 255
    return shown


def draw_blocks(
    spec: DataSpec,
    blocks: Sequence[np.ndarray],
    path: Path,
    title: str,
    names: Sequence[str],
    dataset: Dataset | None = None,
) -> None:
    """Writes one picture of several sets of samples: blocks of rows, or panels of points.

    `names`, if any, has one for each block. The first block says how many examples a row has; those
    that do not fill a row of a block are left out. `dataset` is shown beside points. Text becomes
    a file of strings (`core.report.strings.shown_in`).
    """
    if spec.kind == "tokens":
        write_strings(spec, blocks, path, title, names)
        return
    if spec.kind == "points":
        panels = dict(zip(names or [title], blocks, strict=True))
        draw_points(spec, panels, path, dataset)
        return
    from core.report import pictures  # with Matplotlib

    cols = min(spec.num_classes or MOST_COLUMNS, MOST_COLUMNS, len(blocks[0]))
    rows = [len(block) // cols for block in blocks]
    sides = None
    if names:
        sides = [
            name if row == 0 else ""
            for name, count in zip(names, rows, strict=True)
            for row in range(count)
        ]
    heads = list(spec.class_names[:cols]) if spec.num_classes else None
    shown = [tiles(spec, block[: count * cols]) for block, count in zip(blocks, rows)]
    pictures.image_grid(np.concatenate(shown), sum(rows), cols, path, heads, sides, title=title)
