"""How small a JPEG file of an image is: a reward without a gradient."""

import io

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.steering.reward import Reward


class Compressibility(Reward):
    """Minus the bytes of the image as a JPEG file of quality 95: whole numbers, with ties."""

    shape: tuple[int, ...] = eqx.field(static=True)

    @property
    def differentiable(self) -> bool:
        return False

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        result = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(_minus_bytes, result, x, vmap_method="expand_dims")


def _minus_bytes(x: Array) -> np.ndarray:
    """Of each image of an array whose last three axes are height, width and channels."""
    pixels = np.clip((np.asarray(x) + 1) * 127.5, 0, 255).round().astype(np.uint8)
    flat = pixels.reshape(-1, *pixels.shape[-3:])
    sizes = [-len(_jpeg(image)) for image in flat]
    return np.asarray(sizes, np.float32).reshape(pixels.shape[:-3])


def _jpeg(image: np.ndarray) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    mode = image[..., 0] if image.shape[-1] == 1 else image
    Image.fromarray(mode).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()
