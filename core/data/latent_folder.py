"""A folder of latents while it is written: shards that are whole or not there, and their hashes."""

import dataclasses
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tomli_w
from jaxtyping import Float, Float16

from core.data.codec import Codec
from core.data.dataset import Dataset
from core.data.latents import ABOUT, STEM, read_about
from core.data.record import fingerprint
from core.data.scale import Scale
from core.data.shards import LABELS
from core.errors import UserError
from core.files import whole, write_text
from core.shards import Shards

LARGEST = 6e4
"""float16 ends at 65,504."""


@dataclass(frozen=True)
class LatentFolder:
    """The place of latents of `rows` pictures, `each` in a shard.

    The file `latents.toml` is written after every shard, with its hash, so that a stopped process
    loses one at most. **Fields:** `about`, what it says from the start.
    """

    folder: Path
    rows: int
    each: int
    latent_shape: tuple[int, ...]
    flips: bool
    about: dict[str, Any]

    @classmethod
    def claim(
        cls, folder: Path, data: Dataset, codec: Codec, each: int, flips: bool
    ) -> "LatentFolder":
        """A new folder, or one that was begun in the same way. Raises `UserError` for another."""
        example = jax.ShapeDtypeStruct(data.shape, jnp.float32)
        mean, _ = eqx.filter_eval_shape(codec.open().encode, example)
        rows = (2 if flips else 1) * len(data)
        about: dict[str, Any] = {
            "codec": {**dataclasses.asdict(codec), "shape": list(data.shape)},
            "latent_shape": list(mean.shape),
            "rows": rows,
            "each": each,
            "flips": flips,
            "data": data.name,
            "fingerprint": fingerprint(data),
            "class_names": list(data.class_names),
        }
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / ABOUT).exists():
            _check_same(read_about(folder), about, folder)
        elif any(one.name.startswith(STEM) for one in folder.iterdir()):
            raise UserError(f"{folder} has shards and no {ABOUT}; choose another --out")
        return cls(folder, rows, each, mean.shape, flips, about)

    @property
    def shards(self) -> Shards:
        """The shards, written or not."""
        stored = (*self.latent_shape[:-1], 2 * self.latent_shape[-1])
        return Shards(self.folder, STEM, self.rows, self.each, stored, np.dtype(np.float16))

    def whole_hashes(self) -> dict[str, str]:
        """The hashes of the shards that are there as they were written."""
        if not (self.folder / ABOUT).exists():
            return {}
        said = read_about(self.folder)["shards"]
        return {name: one for name, one in said.items() if sha256(self.folder / name) == one}

    def write_about(self, hashes: dict[str, str], more: dict[str, Any]) -> None:
        """Writes `latents.toml`."""
        tree = {**self.about, **more, "shards": dict(sorted(hashes.items()))}
        write_text(self.folder / ABOUT, tomli_w.dumps(tree))


def _check_same(there: dict[str, Any], asked: dict[str, Any], folder: Path) -> None:
    for name in ("codec", "latent_shape", "flips", "rows", "each", "fingerprint", "class_names"):
        old, new = there.get(name), asked[name]
        if name == "codec":
            old, new = there["codec"]["sha256"], asked["codec"]["sha256"]
        if old != new:
            raise UserError(
                f"{folder} holds latents of another kind ({name} {old} there, {new} asked); "
                "choose another --out"
            )


def sha256(file: Path) -> str:
    """The SHA-256 of a file; empty where there is none."""
    found = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                found.update(block)
    except FileNotFoundError:
        return ""
    return found.hexdigest()


def encode_missing(
    folder: LatentFolder,
    data: Dataset,
    codec: Codec,
    batch: int,
    progress: Callable[[int], None],
) -> None:
    """Writes the shards that are missing or damaged, the labels, and how latents are scaled: as the
    codec says, so that published networks know them, else by their own deviations.

    Raises `UserError` for latents that are no numbers of float16."""
    hashes, shards = folder.whole_hashes(), folder.shards
    encode = _encoder(codec, batch)
    for k in range(shards.count):
        span, name = shards.span(k), shards.path(k).name
        if name not in hashes:
            rows = np.array(span)
            shards.write(k, _moments(encode, data, rows, batch))
            hashes[name] = sha256(shards.path(k))
            folder.write_about(hashes, {"complete": False})
        progress(len(span))
    if data.labels is not None:
        with whole(folder.folder / LABELS) as stream:
            labels = np.concatenate([data.labels] * (2 if folder.flips else 1))
            np.lib.format.write_array(stream, labels, allow_pickle=False)
    known = getattr(codec.open(), "scale", None)
    shift, spread = (
        _scale(shards)
        if not isinstance(known, Scale) or not known
        else (list(known.centre), list(known.spread))
    )
    folder.write_about(hashes, {"complete": True, "shift": shift, "spread": spread})


def _encoder(codec: Codec, batch: int) -> Callable[[np.ndarray], np.ndarray]:
    model = codec.open()

    @eqx.filter_jit
    def run(model, x):
        return jax.vmap(lambda one: jnp.concatenate(model.encode(one), axis=-1))(x)

    def encode(x: np.ndarray) -> np.ndarray:
        full = np.resize(x, (batch, *x.shape[1:]))
        return np.asarray(run(model, jnp.asarray(full)))[: len(x)]

    return encode


def _moments(
    encode: Callable[[np.ndarray], np.ndarray], data: Dataset, rows: np.ndarray, batch: int
) -> Float16[np.ndarray, " n h w c"]:
    """Means and standard deviations of these rows; those beyond the data are mirrored ones."""
    parts = []
    for start in range(0, len(rows), batch):
        row = rows[start : start + batch]
        x = np.asarray(data.decode(data.take(row % len(data))))
        mirrored = (row >= len(data))[:, None, None, None]
        parts.append(encode(np.where(mirrored, x[:, :, ::-1], x)))
    found = np.concatenate(parts)
    if not np.isfinite(found).all() or np.abs(found).max() > LARGEST:
        raise UserError(
            f"latents of pictures {rows[0]} to {rows[-1]} are not finite, or beyond float16; "
            "use another --vae"
        )
    return found.astype(np.float16)


def _scale(shards: Shards) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel over draws: `E z` and
    `sqrt(Var mean + E std^2)`."""
    count, total, squares = 0, 0.0, 0.0
    for piece in shards:
        mean, std = np.split(np.asarray(piece, np.float64), 2, axis=-1)
        axes = tuple(range(mean.ndim - 1))
        count += mean[..., 0].size
        total = total + mean.sum(axes)
        squares = squares + (mean**2 + std**2).sum(axes)
    centre: Float[np.ndarray, " c"] = np.asarray(total) / count
    spread = np.sqrt(np.maximum(np.asarray(squares) / count - centre**2, 1e-12))
    return centre.tolist(), spread.tolist()
