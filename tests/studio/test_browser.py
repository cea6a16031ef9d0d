"""The studio in a browser, from the slider to the pixels."""

import base64
import io
import json
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason="needs the extra studio")

# ruff: noqa: E402
from portolan.studio.session import session_of
from tests.studio.browser import chromium, watched
from tests.studio.tiny import certificate, make_runs, served

pytestmark = [pytest.mark.slow, pytest.mark.ci]

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
    end = time.monotonic() + 20
    while picture(page, GRID) != last and time.monotonic() < end:
        page.wait_for_timeout(50)
    page.wait_for_timeout(300)
    assert picture(page, GRID) == last
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
    box = page.locator(one).bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1) and box["width"] > 200
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


@pytest.mark.long
def test_a_reward_steers_and_a_drawn_mask_is_completed(open_page):
    page = open_page("steer/0").page
    steered = "#panel-steer .pair figure:nth-child(2) canvas"
    before = settled(page, steered)
    slide(page, control("steer", "Strength"), 0)
    plain = settled(page, steered, before)
    assert page.locator(".numbers dd").nth(1).inner_text().startswith("100 %")
    page.get_by_role("radio", name="By a mask").check()
    page.locator("#panel-steer .control:has(label:text-is('Method')) select").select_option("snis")
    completed = settled(page, steered, plain)
    page.get_by_role("button", name="Nothing").click()
    page.wait_for_selector("#panel-steer .status:has-text('nothing of it is kept')")
    pad = page.locator("#panel-steer .masking canvas")
    box = pad.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.45, box["y"] + box["height"] * 0.9, steps=9)
    page.mouse.up()
    settled(page, steered, completed)
    mean = pixels(settled(page, "#panel-steer .mean canvas"))
    assert mean.shape == (56, 56, 3)
    drawn = pixels(picture(page, "#panel-steer .masking canvas"))
    assert drawn[:, 21:28].std() > 30 > drawn[:, 42:].std()  # kept as it was; dim elsewhere


def test_a_run_is_followed_while_it_goes_on(open_page, session):
    folder = session.runs[1].folder
    log = folder / "metrics.jsonl"
    log.write_text("".join(json.dumps({"step": k, "loss": 3 / k}) + "\n" for k in (1, 2, 3)))
    (folder / "samples").mkdir(exist_ok=True)
    Image.new("RGB", (30, 20), "red").save(folder / "samples" / "step_0000003.png")
    page = open_page("training/1").page
    chart = settled(page, "#panel-training .chart")
    page.wait_for_selector("#panel-training img[src^=blob]")
    with log.open("a") as stream:
        stream.write(json.dumps({"step": 9, "loss": 0.1}) + "\n")
    assert settled(page, "#panel-training .chart", chart, seconds=10) != chart
    page.wait_for_selector("#panel-training figcaption:has-text('step 9')")


def test_examples_are_edited_and_a_certificate_is_read(open_page, session):
    certificate(session.runs[0].folder, 4)
    page = open_page("inspect/0").page
    settled(page, "#panel-inspect .heat")
    assert page.locator("#panel-inspect .heat").count() == 6
    page.locator("#panel-inspect .heat").first.hover(position={"x": 140, "y": 20})
    page.wait_for_selector("#panel-inspect figcaption:has-text('from s = 1 to t =')")
    page.get_by_role("tab", name="Edit").click()
    there = settled(page, "#panel-edit .view canvas")
    assert "relative error" in page.locator("#panel-edit .status").inner_text()
    page.locator("#panel-edit select").first.select_option("interpolate")
    settled(page, "#panel-edit .view canvas", there)


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
