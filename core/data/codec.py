"""Codecs: which numbers stand for a picture, and how they become one again."""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32

from core import trust
from core.errors import UserError

BATCH = 64
"""Pictures that are encoded or decoded at once."""
FILE = "vae.safetensors"
"""The file beside latents, and in the folder of a run on them, that holds the autoencoder."""
MARK = "python:"


@dataclass(frozen=True)
class Codec:
    """A codec by name: the latents of one are noise to another, so it goes with the data.

    **Fields:** `path`, a file of an autoencoder, a model folder of one, or `python:module:function`
    of an object with `encode(x) -> (mean, std)` and `decode(z) -> x` of one image in [-1, 1];
    `sha256` of the file, of the folder's weights, or of that module's source; `shape` of a picture.
    Without a path it stands for none. `pixels`, where they are not from -1 to 1: black and white as
    the autoencoder sees them.
    """

    path: str = ""
    sha256: str = ""
    shape: tuple[int, ...] = ()
    pixels: tuple[float, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.path)

    def open(self) -> Any:
        """The object that encodes and decodes. Raises `UserError` where it is not there, or is
        another than it was."""
        found = _opened(self.path, self.sha256)
        return Ranged(found, *self.pixels) if self.pixels else found

    def decode(self, z: Float[Array, "h w c"]) -> Float[Array, "height width colours"]:
        """The picture of one latent; may be traced."""
        return self.open().decode(z)

    def pictures(self, z: Float[np.ndarray, "*n h w c"]) -> Float32[np.ndarray, "*n _ _ colours"]:
        """The pictures of many latents, in NumPy, a batch at a time."""
        model, flat = self.open(), z.reshape(-1, *z.shape[-3:])
        parts = []
        for start in range(0, len(flat), BATCH):
            part = flat[start : start + BATCH]
            full = np.resize(part, (BATCH, *part.shape[1:])).astype(np.float32)
            parts.append(np.asarray(_decoded(model, jnp.asarray(full)))[: len(part)])
        return np.concatenate(parts).reshape(*z.shape[:-3], *parts[0].shape[1:])


class Ranged(eqx.Module):
    """A codec of pictures with values from `black` to `white`, for pictures in [-1, 1]."""

    codec: Any
    black: float
    white: float

    def encode(self, x: Float[Array, "height width colours"]) -> Any:
        """As the codec does of the same picture."""
        return self.codec.encode(self.black + (self.white - self.black) * (x + 1) / 2)

    def decode(self, z: Float[Array, "h w c"]) -> Float[Array, "height width colours"]:
        """The picture in [-1, 1]."""
        return 2 * (self.codec.decode(z) - self.black) / (self.white - self.black) - 1


@eqx.filter_jit
def _decoded(model, z):
    return jax.vmap(model.decode)(z)


@functools.lru_cache(maxsize=4)
def _opened(path: str, sha256: str) -> Any:
    lost = "so that these latents cannot be decoded: put it back, or encode again with apps.latents"
    if path.startswith(MARK):
        found, now = open_python(path)
    else:
        if not Path(path).exists():
            raise UserError(f"the codec {path} is gone, {lost}")
        from core.models.codec import codec_of_folder, read_codec  # with the networks

        found, now = (codec_of_folder if Path(path).is_dir() else read_codec)(Path(path))
    if sha256 and now != sha256:
        raise UserError(f"the codec {path} is another one than it was, {lost}")
    return found


def open_python(name: str) -> tuple[Any, str]:
    """What `python:module:function` returns, and the SHA-256 of the module's source.

    Raises `UserError` where there is no such thing, or it has no `encode` and `decode`."""
    where = name.removeprefix(MARK)
    function = trust.load_function(where)
    try:
        found = function()
    except Exception as error:  # the code is the user's
        raise UserError(f"{name}: {trust.words(error, function)}") from None
    if not all(callable(getattr(found, part, None)) for part in ("encode", "decode")):
        raise UserError(f"{name} returns {type(found).__name__}, which has no encode and decode")
    return found, hashlib.sha256(trust.source(where)).hexdigest()
