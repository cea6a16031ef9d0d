"""A headless Chromium for the tests of pages, and what its pages asked and said."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Watched:
    """A page, the addresses that it asked for, and the errors that it wrote."""

    page: Any
    asked: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def clean(self, place: str) -> None:
        """Fails where a request left for elsewhere, or an error was written."""
        local = (f"{place}/", "blob:", "data:")
        assert [url for url in self.asked if not url.startswith(local)] == []
        assert self.errors == []


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """The browser. Skips the test where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs Chromium (Debian's package chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


def watched(browser: Any, **how: Any) -> Watched:
    """A page of its own context, whose requests and errors are kept."""
    page = browser.new_context(viewport={"width": 1300, "height": 900}, **how).new_page()
    found = Watched(page)
    page.on("request", lambda request: found.asked.append(request.url))
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    page.on(
        "console",
        lambda message: found.errors.append(message.text) if message.type == "error" else None,
    )
    return found
