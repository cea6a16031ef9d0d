"""Draws a map at work, for the start page: `python -m docs.figures.animation`.

Left, particles of the plane are carried by one evaluation each, from noise at time 1 to any time
t: each frame is F(z, 1, t) of the same noise, coloured by the place where it began. Right, the
noise of digits is turned through a full circle: each frame is F(z, 1, 0) of other noise. The runs
are

    python -m apps.train --plugin imf --data eight-gaussians --steps 3000 --ema 0.998
    python -m apps.train --plugin imf --data digits
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from PIL import Image, ImageDraw, ImageFont

import portolan as po
from core.flow.condition import Condition

FRAMES, HOLD = 24, 4
SIDE, FINE = 240, 3
"""Pixels of a panel, and how many times larger it is drawn."""
PARTICLES, ROWS = 600, 4
PAPER, INK, SOFT = (255, 255, 255), (38, 50, 56), (207, 216, 220)
GAP, TOP = 22, 26


def main() -> None:
    """Writes the picture."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--plane", default="runs/imf-eight-gaussians")
    parser.add_argument("--digits", default="runs/imf-digits")
    parser.add_argument("--out", default=str(Path(__file__).parents[1] / "images" / "map.webp"))
    flags = parser.parse_args()
    times = np.concatenate([eased(), np.zeros(HOLD), eased()[::-1], np.ones(HOLD // 2)])
    planes = plane_frames(po.open(flags.plane), times)
    digits = digit_frames(po.open(flags.digits), len(times))
    width = planes[0].width + GAP + digits[0].width
    pages = []
    for t, plane, digit in zip(times, planes, digits, strict=True):
        page = Image.new("RGB", (width, SIDE + TOP), PAPER)
        page.paste(plane, (0, TOP))
        page.paste(digit, (SIDE + GAP, TOP + (SIDE - digit.height) // 2))
        write(page, f"F(z, 1, t),  t = {t:.2f}", (2, 4))
        write(page, "F(z, 1, 0),  z turned", (SIDE + GAP, 4))
        pages.append(page)
    pages[0].save(
        flags.out,
        save_all=True,
        append_images=pages[1:],
        duration=110,
        loop=0,
        quality=30,
        method=6,
    )
    print(f"{flags.out}: {len(pages)} frames, {Path(flags.out).stat().st_size:,} bytes")


def eased() -> np.ndarray:
    """Times from 1 to 0, slow at both ends."""
    return (1 + np.cos(np.linspace(0, np.pi, FRAMES // 2 + 1))) / 2


def plane_frames(run: po.Run, times: np.ndarray) -> list[Image.Image]:
    """Where the particles are at each time, by one jump from the noise."""
    z = jr.normal(jr.key(0), (PARTICLES, 2))
    jump = jax.jit(jax.vmap(lambda x, t: run.flow_map(x, jnp.asarray(1.0), t), in_axes=(0, None)))
    places = [run.spec.restore(jump(z, jnp.float32(t))) for t in times]
    spread = run.spec.restore(np.asarray(z))
    hues = (np.degrees(np.arctan2(spread[:, 1], spread[:, 0])) % 360).astype(int)
    far = np.minimum(1, np.hypot(*np.asarray(z).T) / 2)
    colours = [f"hsl({h},{int(45 + 35 * r)}%,{int(56 - 10 * r)}%)" for h, r in zip(hues, far)]
    reach = float(np.percentile(np.abs(np.concatenate([places[0], places[FRAMES // 2]])), 99.5))
    return [dots(points, reach * 1.12, colours) for points in places]


def dots(points: np.ndarray, reach: float, colours: list[str]) -> Image.Image:
    """Particles in a square, with smooth edges."""
    size, r = SIDE * FINE, 2.0 * FINE
    page = Image.new("RGB", (size, size), PAPER)
    pen = ImageDraw.Draw(page)
    pen.rectangle((0, 0, size - 1, size - 1), outline=SOFT, width=FINE)
    for (x, y), colour in zip(points, colours, strict=True):
        px, py = size * (0.5 + x / (2 * reach)), size * (0.5 - y / (2 * reach))
        pen.ellipse((px - r, py - r, px + r, py + r), fill=colour)
    return page.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def digit_frames(run: po.Run, count: int) -> list[Image.Image]:
    """One column a class; the noise goes around a circle once."""
    classes = run.spec.num_classes
    shape, labels = run.spec.shape, jnp.tile(jnp.arange(classes), ROWS)
    first, second = jr.normal(jr.key(5), (2, len(labels), *shape))

    def jump(z, label):
        return run.flow_map(z, jnp.asarray(1.0), jnp.asarray(0.0), Condition(label))

    @jax.jit
    def draw(angle):
        z = jnp.cos(angle) * first + jnp.sin(angle) * second
        return jax.vmap(jump)(z, labels)

    angles = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return [tiles(run.spec.encode(np.asarray(draw(jnp.float32(angle))))) for angle in angles]


def tiles(images: np.ndarray, scale: int = 5, gap: int = 5) -> Image.Image:
    """Images in rows of ten."""
    columns = len(images) // ROWS
    side = images.shape[1] * scale
    size = (columns * (side + gap) - gap, ROWS * (side + gap) - gap)
    page = Image.new("RGB", size, PAPER)
    for k, image in enumerate(images):
        tile = Image.fromarray(image[..., 0]).resize((side, side), Image.Resampling.NEAREST)
        page.paste(tile, ((k % columns) * (side + gap), (k // columns) * (side + gap)))
    return page


def write(page: Image.Image, words: str, place: tuple[int, int]) -> None:
    """Words above a panel."""
    ImageDraw.Draw(page).text(place, words, fill=INK, font=ImageFont.load_default(14))


if __name__ == "__main__":
    main()
