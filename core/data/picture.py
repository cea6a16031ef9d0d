"""Reads one picture by Pillow; imported where a picture is read, since Pillow takes its time."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from core.errors import UserError


def _crop(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to `size`, then cuts the middle square."""
    scale = size / min(image.size)
    width, height = (max(size, round(scale * side)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def read_image(file: Path, size: int, gray: bool) -> UInt8[np.ndarray, "height width channels"]:
    """One picture as bytes, turned upright as its EXIF data say, transparent parts white.

    If `size` is not 0, the shorter side is scaled to it (Lanczos) and the middle square cut out.
    Raises `UserError` if Pillow cannot read the file or if it has more than 8 bits a channel.
    """
    try:
        with Image.open(file) as opened:
            if opened.mode.startswith(("I", "F")):
                raise UserError(f"{file}: more than 8 bits a channel; convert it to 8 bits")
            image = _on_white(ImageOps.exif_transpose(opened)).convert("L" if gray else "RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        raise UserError(f"{file}: not a readable image; replace or remove it") from None
    values = np.asarray(_crop(image, size) if size else image)
    return values[..., None] if gray else values
