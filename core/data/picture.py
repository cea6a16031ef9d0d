"""Reads one picture by Pillow; imported where a picture is read, since Pillow takes its time."""

import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from core.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
"""The formats that are read, whatever a file is called: Pillow starts other programs for some
others, such as EPS."""


def _lanczos(image: Image.Image, size: int) -> Image.Image:
    """Scales the shorter side to `size`, then cuts the middle square."""
    scale = size / min(image.size)
    width, height = (max(size, round(scale * side)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


def _adm(image: Image.Image, size: int) -> Image.Image:
    """Halves the picture by means of 2 x 2 pixels while its shorter side is twice `size` or more,
    scales it to `size` by bicubic interpolation, and cuts the middle square.

    Source: `center_crop_arr` of guided-diffusion (ADM, arXiv 2105.05233), which DiT and EDM took.
    """
    while min(image.size) >= 2 * size:
        width, height = image.size
        image = image.resize((width // 2, height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    width, height = (round(scale * side) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size))


CROPS = {"lanczos": _lanczos, "adm": _adm}
"""How a picture is brought to a square, by name."""


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _deep(file: Path) -> bool:
    """Whether a PNG has 16 bits a channel, as its 25th byte says: Pillow cuts those of colour to 8
    without a word."""
    with file.open("rb") as stream:
        start = stream.read(25)
    return start.startswith(b"\x89PNG\r\n\x1a\n") and len(start) == 25 and start[24] > 8


def _upper_byte(image: Image.Image) -> Image.Image:
    """A picture of 16 bits as one of 8; colour comes from Pillow as such already."""
    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))


def read_image(
    file: Path, size: int, gray: bool, upper_byte: bool = False, crop: str = "lanczos"
) -> UInt8[np.ndarray, "height width channels"]:
    """One picture as bytes, turned upright as its EXIF data say, transparent parts white.

    If `size` is not 0, the shorter side is scaled to it and the middle square cut out, as `CROPS`
    says. Of several frames or pages the first is taken.
    Raises `UserError` if Pillow cannot read the file, or if it has more than 8 bits a channel, of
    which `upper_byte` takes the upper 8 of 16.
    """
    try:
        with warnings.catch_warnings(), Image.open(file, formats=FORMATS) as opened:
            warnings.simplefilter("ignore")  # of broken metadata, which do not matter here
            deep = opened.mode.startswith(("I", "F")) or _deep(file)
            if deep and (not upper_byte or opened.mode == "F"):
                raise UserError(
                    f"{file}: more than 8 bits a channel, of which 12-bit pictures use the lower "
                    "ones; convert it to 8 bits, or where all 16 are used take the upper 8 with "
                    "--data.upper-byte"
                )
            upright = ImageOps.exif_transpose(opened)
            upright = _upper_byte(upright) if deep else upright
            image = _on_white(upright).convert("L" if gray else "RGB")
    except UserError:
        raise
    except Exception:  # Pillow's readers raise nearly anything for damaged bytes
        raise UserError(
            f"{file}: not a readable image; replace it, or move it out of the folder"
        ) from None
    values = np.asarray(CROPS[crop](image, size) if size else image)
    return values[..., None] if gray else values
