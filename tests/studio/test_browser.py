"""The studio in a browser, from the slider to the pixels."""

import base64
import io
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="needs the extra studio")

# ruff: noqa: E402
from portolan.studio.session import session_of
from tests.studio.browser import chromium, watched
from tests.studio.tiny import make_runs, served

pytestmark = pytest.mark.slow

GRID = "#panel-sample .stage > .view canvas"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return session_of(make_runs(tmp_path_factory.mktemp("runs"), "digits", "plane"))


@pytest.fixture(scope="module")
def place(session):
    with served(session) as (address, _):
        yield address


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def open_page(browser, place):
    """`open_page(hash)` -> the page; at the end nothing may have left, and no error be written."""
    pages = []

    def opened(where="", **how):
        found = watched(browser, **how)
        pages.append(found)
        found.page.goto(f"{place}/#{where}")
        return found

    yield opened
    for each in pages:
        each.clean(place)
        each.page.context.close()


def picture(page, selector):
    """The picture of a canvas as it is encoded: equal for equal pixels."""
    return page.locator(selector).first.evaluate("node => node.toDataURL()")


def pixels(found):
    """Its pixels, `(height, width, 3)`."""
    stream = io.BytesIO(base64.b64decode(found.partition(",")[2]))
    return np.asarray(Image.open(stream).convert("RGB")).astype(int)


def slide(page, selector, value):
    """Moves a slider as the mouse does: one event."""
    page.locator(selector).first.evaluate(
        "(node, value) => { node.value = value; node.dispatchEvent(new Event('input')); }", value
    )


def settled(page, selector, before=None, seconds=60):
    """The picture once it is drawn, no longer `before`, and the same for a moment."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        now = picture(page, selector)
        if now == last and now != before and len(now) > 200 and pixels(now).any():
            return now
        last = now
        page.wait_for_timeout(60)
    raise AssertionError("the picture did not change")


def control(panel, name):
    """The slider of that name."""
    return f"#panel-{panel} .control:has(label:text-is('{name}')) input"


def test_a_slider_changes_the_samples_and_goes_back(open_page):
    page = open_page("sample/0").page
    one = settled(page, GRID)
    slide(page, control("sample", "Steps"), 3)
    three = settled(page, GRID, one)
    assert pixels(one).shape == pixels(three).shape
    slide(page, control("sample", "Steps"), 1)
    again = settled(page, GRID, three)
    assert again == one


def test_requests_between_are_dropped_and_the_last_one_is_drawn(open_page):
    found = open_page("sample/0")
    page = found.page
    seed = control("sample", "Seed")
    first = settled(page, GRID)
    slide(page, seed, 24)
    last = settled(page, GRID, first)
    slide(page, seed, 0)
    settled(page, GRID, last)
    found.asked.clear()
    page.evaluate(
        """place => { const node = document.querySelector(place);
        for (let k = 1; k < 25; k += 1) {
          node.value = k;
          node.dispatchEvent(new Event("input"));
        }}""",
        page.locator(seed).evaluate("node => '#' + node.id"),
    )
    page.wait_for_timeout(200)
    assert settled(page, GRID, first) == last
    sent = [url for url in found.asked if url.endswith("/api/sample")]
    assert 1 <= len(sent) <= 3  # of 24


def test_a_held_sample_follows_the_slider_and_goes_from_one_to_another(open_page):
    page = open_page("sample/0").page
    grid = settled(page, GRID)
    canvas = page.locator(GRID)
    wide = canvas.bounding_box()["width"] / 10
    canvas.click(position={"x": 1.5 * wide, "y": 0.5 * wide})  # the second sample
    large = "#panel-sample .carry > .view canvas"
    held = settled(page, large)
    tile = pixels(grid)[:56, 60:116]  # seven pixels for each of the 8 x 8, and four between
    assert np.abs(pixels(held) - tile).max() <= 1
    slide(page, control("sample", "Turn"), 120)
    turned = settled(page, large, held)
    assert np.abs(pixels(turned) - pixels(held)).max() > 30
    canvas.focus()
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "Enter"):  # the fourth, by the keyboard
        page.keyboard.press(key)
    between = settled(page, large, turned)
    assert np.abs(pixels(between) - pixels(held)).max() <= 1
    slide(page, control("sample", "From A to B"), 100)
    settled(page, large, between)
    assert "sample 4 of seed 0" in page.locator(".who").inner_text()


def test_a_plane_is_carried_and_a_place_followed(open_page):
    page = open_page("map/1").page
    one = "#panel-map .places figure:nth-child(2) canvas"
    at_data = settled(page, one)
    slide(page, control("map", "To t"), 1)
    still = settled(page, one, at_data)
    start = settled(page, "#panel-map .places figure:nth-child(1) canvas")
    # Of a jump from s to s all particles stay where they were.
    assert still == start
    slide(page, control("map", "To t"), 0)
    back = settled(page, one, still)
    page.locator("#panel-map .places canvas").first.hover(position={"x": 150, "y": 120})
    settled(page, one, back)


def test_a_table_of_jumps_has_a_picture_for_each_pair_of_times(open_page):
    page = open_page("map/0").page
    page.wait_for_selector(".jumps canvas", timeout=60_000)
    assert page.locator(".jumps canvas").count() == 7 * 8 // 2
    slide(page, control("map", "Times"), 4)
    while page.locator(".jumps canvas").count() != 4 * 5 // 2:  # or the test is stopped
        page.wait_for_timeout(50)


def test_the_page_fits_a_phone_and_knows_the_dark(open_page):
    page = open_page("sample/0", color_scheme="dark").page
    page.set_viewport_size({"width": 400, "height": 800})
    settled(page, GRID)
    for tab in page.get_by_role("tab").all():
        tab.click()
        page.wait_for_timeout(100)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
    back = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert max(int(each) for each in back[4:-1].split(",")) < 60


def test_a_server_that_ends_is_said_in_words(browser, session):
    with served(session) as (address, server):
        found = watched(browser)
        found.page.goto(f"{address}/#sample/0")
        settled(found.page, GRID)
        server.should_exit = server.force_exit = True
        while server.started and server.servers:
            time.sleep(0.02)
            if not any(each.is_serving() for each in server.servers):
                break
        found.page.wait_for_timeout(300)
        slide(found.page, control("sample", "Seed"), 5)
        found.page.wait_for_selector("#gone:not([hidden])", timeout=20_000)
        words = found.page.locator("#gone").inner_text()
        assert "does not answer" in words and "Start the same command again" in words
        found.page.context.close()
