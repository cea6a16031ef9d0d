"""From a slider to the painted picture: `python -m benchmarks.studio --run runs/imf-digits`.

Measured in the page, in headless Chromium: from the event of the slider to the first frame after
the picture was drawn on its canvas; the request, the network and the bytes are between.
"""

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from apps._main import launch
from core.errors import UserError, require
from core.report.versions import caption, versions
from core.train.cli import parse_flags
from portolan.tables import markdown, print_table, save

COLUMNS = ("slider", "steps", "samples", "p50 ms", "p90 ms")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
MEASURE = """async ([place, values, panel]) => {
  const input = document.querySelector(place);
  const found = [];
  for (const value of values) {
    const painted = new Promise((resolve) => {
      const heard = (event) => {
        if (event.detail.panel !== panel) return;
        document.removeEventListener("painted", heard);
        requestAnimationFrame(() => setTimeout(resolve, 0));
      };
      document.addEventListener("painted", heard);
    });
    const begun = performance.now();
    input.value = value;
    input.dispatchEvent(new Event("input"));
    await painted;
    found.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 30));
  }
  return found;
}"""
"""A frame begins after what was drawn before it; `setTimeout` in it runs after it is painted."""


@dataclass(frozen=True)
class StudioBenchmarkConfig:
    """Milliseconds from a slider's event to the painted picture, in the panel Sample.

    Two controls: the seed, which redraws the whole grid, and the turn of a held sample's noise,
    which redraws that sample. Each value is another than the one before. Programs are compiled
    before anything is timed. It needs Chromium, and the packages of the extras studio and test.
    """

    run: str = "runs/imf-digits"
    """Run folder of images."""
    steps: tuple[int, ...] = (1, 4)
    """Steps of the sampler."""
    n: int = 80
    """Samples of the grid."""
    events: int = 100
    """Events that are timed, for each slider and number of steps."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        least = min((self.n, self.events, *self.steps))
        require(least >= 1, "--n, --events and --steps must be at least 1")


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the table and writes it."""
    config = parse_flags(StudioBenchmarkConfig, argv)
    with served(config.run) as place, page_of(place) as (page, browser):
        rows = [row for steps in config.steps for row in timed(page, config, steps)]
    name = Path(config.run).resolve().name
    result = {"versions": versions(), "browser": browser, "run": name, "rows": rows}
    title = f"From the slider to the painted picture, {name}"
    table: list[dict[str, Any]] = [dict(zip(COLUMNS, row.values(), strict=True)) for row in rows]
    print_table(title, COLUMNS, table)
    if config.out:
        page_text = f"{markdown(title, COLUMNS, table)}\n{caption(result['versions'])} {browser}.\n"
        save(config.out, result, page_text)
    return result if config.json else None


@contextlib.contextmanager
def served(run: str) -> Iterator[str]:
    """The address of `apps.studio` in a process of its own, as it is started by hand."""
    command = [sys.executable, "-u", "-m", "apps.studio", "--run", run, "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        try:
            if not line.startswith("http"):
                raise UserError(f"the studio did not start: {line.strip() or 'it said nothing'}")
            yield line.split()[0].rstrip("/")
        finally:
            process.terminate()


@contextlib.contextmanager
def page_of(place: str) -> Iterator[tuple[Any, str]]:
    """The page in Chromium, and the browser's version. Raises `UserError` where there is none."""
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        raise UserError("this needs Chromium and the package playwright; install both")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        page = browser.new_page(viewport={"width": 1300, "height": 900})
        page.goto(f"{place}/#sample/0")
        yield page, f"Chromium {browser.version}"
        browser.close()


def timed(page: Any, config: StudioBenchmarkConfig, steps: int) -> list[dict[str, Any]]:
    """A row for each of the two sliders."""
    grid = "#panel-sample .stage > .view canvas"
    page.wait_for_selector(f"{grid}[width]", timeout=600_000)
    page.wait_for_selector("#panel-sample .status:has-text('evaluation')", timeout=600_000)
    moved(page, "Samples", [config.n], "sample")
    moved(page, "Steps", [steps], "sample")
    if page.locator(".held").is_hidden():
        page.locator(grid).first.click(position={"x": 20, "y": 20})
    settle(page)
    seeds = (np.arange(config.events + 5) + 1).tolist()
    turns = (np.arange(config.events + 5) % 170 + 1).tolist()
    rows = []
    for name, slider, values, panel in (
        ("seed: the whole grid", "Seed", seeds, "sample"),
        ("turn: the held sample", "Turn", turns, "walk"),
    ):
        ms = moved(page, slider, values, panel)[5:]
        n = config.n if panel == "sample" else 1
        row = {"slider": name, "steps": steps, "samples": n, "p50_ms": round(median(ms), 1)}
        rows.append({**row, "p90_ms": round(float(np.quantile(ms, 0.9)), 1)})
    return rows


def settle(page: Any) -> None:
    """Waits until the programs that are compiled ahead are done: until answers are quick."""
    end, quick = time.monotonic() + 300, 0
    while quick < 8 and time.monotonic() < end:
        page.wait_for_timeout(200)
        (ms,) = moved(page, "Seed", [int(time.monotonic() * 1e3) % 10**6], "sample")
        (turn,) = moved(page, "Turn", [int(time.monotonic() * 1e3) % 180], "walk")
        quick = quick + 1 if max(ms, turn) < 400 else 0


def moved(page: Any, name: str, values: list[int], panel: str) -> list[float]:
    """Milliseconds of each event of a control."""
    place = f"#panel-sample .control:has(label:text-is('{name}')) input"
    at = page.locator(place).first.evaluate("node => '#' + node.id")
    return page.evaluate(MEASURE, [at, values, panel])


if __name__ == "__main__":
    launch(main)
