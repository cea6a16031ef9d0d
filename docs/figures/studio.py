"""Draws the studio's panels for the gallery, in headless Chromium: `python -m docs.figures.studio`."""

import argparse
from io import BytesIO
from pathlib import Path

from PIL import Image

from benchmarks.studio import page_of, served

IMAGES = Path(__file__).parents[1] / "images"
WIDE = 1000


def main() -> None:
    """Writes a picture of each panel."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--digits", default="runs/imf-digits")
    parser.add_argument("--plane", default="runs/lsd-checkerboard")
    parser.add_argument("--out", default=str(IMAGES))
    flags = parser.parse_args()
    with served(flags.digits) as place, page_of(place) as (page, _):
        page.locator("#panel-sample .status").filter(has_text="evaluation").wait_for()
        page.locator("#panel-sample canvas.picture").first.click(position={"x": 250, "y": 250})
        page.get_by_label("Turn").fill("60")
        page.wait_for_timeout(6000)
        write(page, Path(flags.out) / "studio-sample.png")
    with served(flags.plane) as place, page_of(place) as (page, _):
        page.get_by_role("tab", name="Map").click()
        page.wait_for_timeout(12000)
        write(page, Path(flags.out) / "studio-map.png")


def write(page, file: Path) -> None:
    """The page as a picture of few colours."""
    image = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    image = image.resize((WIDE, image.height * WIDE // image.width), Image.Resampling.LANCZOS)
    image.quantize(96, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
