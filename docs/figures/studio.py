"""Draws the panels of the studio for the gallery: `python -m docs.figures.studio`."""

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
    parser.add_argument("--plane", default="runs/imf-eight-gaussians")
    parser.add_argument("--out", default=str(IMAGES))
    flags = parser.parse_args()
    with served(flags.digits) as place, page_of(place) as (page, _):
        page.locator("#panel-sample .status").filter(has_text="evaluation").wait_for()
        page.locator("#panel-sample canvas.picture").first.click(position={"x": 250, "y": 250})
        page.get_by_role("slider", name="Turn").fill("60")
        page.wait_for_timeout(6000)  # the way is compiled
        page.get_by_role("button", name="Another direction").click()
        page.get_by_role("slider", name="Samples").fill("79")
        page.get_by_role("slider", name="Samples").fill("80")
        page.wait_for_timeout(1500)
        write(page, Path(flags.out) / "studio-sample.webp")
    with served(flags.plane) as place, page_of(place) as (page, _):
        page.get_by_role("tab", name="Map").click()
        status = page.locator("#panel-map .status")
        status.filter(has_not_text="Carrying").filter(has_text="particles").wait_for(
            timeout=240_000
        )
        page.wait_for_timeout(20000)  # the exact flow comes later
        write(page, Path(flags.out) / "studio-map.webp")


def write(page, file: Path) -> None:
    """The page as a small picture."""
    image = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    image = image.resize((WIDE, image.height * WIDE // image.width), Image.Resampling.LANCZOS)
    image.save(file, quality=60, method=6)
    print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
