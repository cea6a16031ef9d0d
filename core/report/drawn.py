"""The samples of one row of a table: in memory, or in pieces on disk."""

import contextlib
import dataclasses
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Float, Int

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.files import inside, write_json
from core.flow.field import VelocityField
from core.metrics.feature_set import Index
from core.sampling import Drawing, generate
from core.sampling.shards import ROUNDING, StoredSamples, draw_to, stored_samples

Labels = Int[np.ndarray, " n"] | int
_PIECE = re.compile(r"(samples|evaluations|features-.*)-\d{5}-of-\d{5}\.npy")
DESCRIPTION = "drawing.json"
"""The file beside stored samples that says what they are."""


@dataclass(frozen=True, eq=False)
class Drawn:
    """Samples of a row.

    **Fields:** `n` of them; `nfe`, evaluations of the network a sample; `labels` that were asked
    for, or None; `read(index)` gives them as network values; `rounding`, where they were bytes in
    between, else "none"; `folder` and `stored` where they lie on disk.
    """

    n: int
    nfe: int | float
    labels: Int[np.ndarray, " n"] | None
    read: Callable[[Index], Float[np.ndarray, " some *shape"]]
    rounding: str = "none"
    folder: Path | None = None
    stored: StoredSamples | None = None


def drawn(
    field: VelocityField,
    drawing: Drawing,
    shape: tuple[int, ...],
    labels: Labels,
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Drawn:
    """Draws samples into memory."""
    found = generate(field, drawing, shape, labels, key=jr.key(seed), progress=progress)
    given = None if isinstance(labels, int) else labels
    return Drawn(len(found.x), found.nfe, given, lambda index: found.x[index])


def examples(dataset: Dataset, index: Int[np.ndarray, " n"]) -> Drawn:
    """Examples of the data in the place of samples: latents as the pictures of their codec."""
    spec, labels = dataset.spec, None if dataset.labels is None else dataset.labels[index]

    def read(part: Index) -> np.ndarray:
        return spec.pictures(dataset.decode(dataset.take(index[part])))

    return Drawn(len(index), 0, labels, read)


def in_pictures(samples: Drawn, spec: DataSpec) -> Drawn:
    """Samples as they are; latents as the pictures that their codec makes of them."""
    if not spec.codec:
        return samples
    return dataclasses.replace(samples, read=lambda index: spec.pictures(samples.read(index)))


def drawn_to(
    store: Path,
    about: dict[str, Any],
    field: VelocityField,
    drawing: Drawing,
    spec: DataSpec,
    labels: Labels,
    *,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> Drawn:
    """Draws the samples that are missing into a folder of `store`, and reads them from there.

    The folder's name is the hash of all that the samples depend on, so samples of other weights or
    settings are never taken for these; `about` is what is to be hashed beside the weights and the
    drawing. See `stored_as_bytes`.
    """
    n = labels if isinstance(labels, int) else len(labels)
    as_bytes = stored_as_bytes(spec)
    described = {**about, **_description(field, drawing, spec, labels, seed, as_bytes)}
    folder = inside(store, _digest(described))
    write_json(inside(folder, DESCRIPTION), described)
    samples = stored_samples(folder, n, spec.shape, as_bytes)
    draw_to(samples, field, drawing, labels, key=jr.key(seed), progress=progress)
    given = None if isinstance(labels, int) else labels
    rounding = ROUNDING if as_bytes else "none"
    return Drawn(n, samples.nfe, given, samples.values, rounding, folder, samples)


def stored_as_bytes(spec: DataSpec) -> bool:
    """Whether samples on disk are bytes: those of pictures whose data are."""
    return spec.kind == "image" and spec.levels == 255


def weights_sha256(tree: Any) -> str:
    """SHA-256 of the arrays of a map, with their places in it."""
    found = hashlib.sha256()
    for place, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array)):
        values = np.asarray(leaf)
        found.update(f"{jax.tree_util.keystr(place)} {values.dtype} {values.shape}\n".encode())
        found.update(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data)
    return found.hexdigest()


def _description(
    field: VelocityField, drawing: Drawing, spec: DataSpec, labels: Labels, seed: int, bytes_: bool
) -> dict[str, Any]:
    sampler = drawing.sampler
    settings = {one.name: str(getattr(sampler, one.name)) for one in dataclasses.fields(sampler)}
    given = None if isinstance(labels, int) else np.asarray(labels, np.int64)
    return {
        "weights_sha256": weights_sha256(field),
        "map": type(field).__name__,
        "path": type(field.path).__name__,
        "sampler": {"name": type(sampler).__name__, **settings},
        "times": [float(t) for t in drawing.times],
        "guidance": None if drawing.guidance is None else list(drawing.guidance),
        "starts": starts_sha256(drawing),
        "seeds": f"samples 0 to {(labels if given is None else len(given)) - 1} of seed {seed}",
        "shape": list(spec.shape),
        "labels_sha256": "" if given is None else hashlib.sha256(given.tobytes()).hexdigest(),
        "stored": f"bytes, {ROUNDING}" if bytes_ else "float32",
    }


def starts_sha256(drawing: Drawing) -> str:
    """SHA-256 of the values that samples start from; "noise" where there are none."""
    if drawing.starts is None:
        return "noise"
    return hashlib.sha256(np.ascontiguousarray(drawing.starts).data).hexdigest()


def _digest(described: dict[str, Any]) -> str:
    text = json.dumps(described, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def remove_stored(folder: Path) -> None:
    """Deletes the samples of a folder that `drawn_to` filled, and what was computed of them."""
    (folder / DESCRIPTION).unlink(missing_ok=True)
    for file in folder.iterdir():
        if _PIECE.fullmatch(file.name):
            file.unlink()
    for place in (folder, folder.parent):
        with contextlib.suppress(OSError):  # files of others stay
            place.rmdir()
