"""Latents of pictures, encoded beforehand: `python -m apps.latents` writes them."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from core import trust
from core.data.checks import class_labels, existing_folder, fits_memory
from core.data.codec import FILE, MARK, Codec
from core.data.dataset import Dataset
from core.data.npy import map_array
from core.data.scale import Scale
from core.data.shards import LABELS
from core.data.shards import Shards as Rows
from core.errors import UserError

ABOUT, STEM = "latents.toml", "moments"
"""The file that says what lies in a folder of latents, and how the names of its shards begin."""


@dataclass(frozen=True)
class LatentsData:
    """Latents that `apps.latents` encoded: a mean and a standard deviation of each number.

    Each visit draws a latent from them in the training step. What a network sees has mean 0 and
    standard deviation 1 in each channel, or the scale of a published autoencoder; samples are
    decoded by the codec that the folder names.
    """

    path: str = ""
    """Folder of apps.latents."""
    resident_mb: int = 2048
    """Megabytes of moments to keep in memory; if they need more, rows are read when they are
    due."""

    def peek(self) -> tuple[int, ...]:
        """The shape of one example. Raises `UserError`."""
        return tuple(read_about(existing_folder(self.path, "latents"))["latent_shape"])

    def load(self) -> Dataset:
        """Opens the folder. Raises `UserError` where something is missing, or not yet encoded."""
        folder = existing_folder(self.path, "latents of apps.latents")
        about = read_about(folder)
        files = [folder / name for name in about["shards"]]
        missing = [file.name for file in files if not file.is_file()]
        if missing or not about.get("complete"):
            what = f"{missing[0]} is missing" if missing else "they are not all encoded yet"
            raise UserError(f"{folder}: {what}; run the same apps.latents again, it goes on there")
        shape = tuple(about["latent_shape"])
        arrays = [map_array(file) for file in files]
        stored = (*shape[:-1], 2 * shape[-1])
        if any(array.shape[1:] != stored for array in arrays):
            raise UserError(f"{folder}: shards are not of the shape in {ABOUT}; encode them again")
        rows = Rows(files, arrays, stored)
        resident = rows.size <= self.resident_mb * 2**20
        labels, names = None, tuple(about["class_names"])
        if names:
            found = np.load(folder / LABELS, allow_pickle=False)
            labels = class_labels(found, len(rows), len(names), folder / LABELS)
        if resident:
            fits_memory(rows.size, folder)
        return Dataset(
            name="latents",
            kind="image",
            shape=shape,
            examples=rows.read_all() if resident else np.empty((0, *stored), np.float16),
            labels=labels,
            num_classes=len(names),
            class_names=names,
            scale=Scale(tuple(about["shift"]), tuple(about["spread"])),
            source=None if resident else rows,
            codec=codec_in(folder, about),
            notes=(f"latents by {about['codec']['path']}, {about['codec']['sha256'][:16]}",),
        )


def codec_in(folder: Path, about: dict[str, Any]) -> Codec:
    """The codec that a folder of latents names: a file beside them, or a function."""
    said = about["codec"]
    path = said["path"] if said["path"].startswith(MARK) else str(folder / FILE)
    return Codec(path, said["sha256"], tuple(said["shape"]))


def read_about(folder: Path) -> dict[str, Any]:
    """What `latents.toml` says. Raises `UserError` where there is none, or a damaged one."""
    file = folder / ABOUT
    if not file.is_file():
        raise UserError(f"{folder}: no {ABOUT} in it; make latents with python -m apps.latents")
    try:
        found = tomllib.loads(file.read_text("utf-8"))
        trust.opened(file, found)
        needed = ("codec", "shards", "latent_shape", "class_names", "shift", "spread")
        return {"shift": [], "spread": [], **found} | {key: found[key] for key in needed[:4]}
    except (ValueError, KeyError, OSError) as error:
        raise UserError(f"{file} is damaged ({error}); encode the latents again") from None
