"""`run.play()`: the messages of the panel are answered as the studio answers them."""

import base64
from unittest.mock import Mock

import numpy as np
import pytest

from core.errors import UserError
from portolan.player import widget
from portolan.runs import open as open_run
from portolan.studio.fields import Fields
from portolan.studio.sampling import sample
from portolan.studio.session import Opened
from portolan.studio.wire import unpacked
from tests.studio.browser import chromium, watched
from tests.train.runs import make_run

PLANE = ["--plugin", "imf", "--data", "two-moons", "--data.n", "256", "--net", "mlp",
         "--net.width", "8", "--net.depth", "2"]  # fmt: skip
BODY = {"n": 4, "seed": 3, "steps": 2, "label": None}


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    folder = tmp_path_factory.mktemp("played") / "run"
    make_run(folder, *PLANE)
    return open_run(folder)


@pytest.mark.long
def test_messages_are_answered_and_what_is_wrong_is_one_line(played, monkeypatch):
    answer = widget.answers(played)
    said, (about,) = answer({"number": "1-1", "job": "about", "body": {}})
    assert said == {"number": "1-1"} and unpacked(about)[0]["view"] == "plane"
    _, (message,) = answer({"number": "1-2", "job": "sample", "body": BODY})
    opened = Opened(0, "run", played.folder)
    wanted = sample(opened, Fields(BODY)).arrays["points"]
    np.testing.assert_array_equal(unpacked(message)[1]["points"], wanted)
    for wrong, words in (
        ({"number": "1-3", "job": "runs", "body": {}}, "job must be one of about, sample, walk"),
        ({"number": "1-3", "job": "sample", "body": {"n": 10**9}}, "n must be a whole number"),
        ({"number": "1-3", "job": "sample", "body": "x"}, "body must be an object"),
    ):
        said, buffers = answer(wrong)
        assert said["number"] == "1-3" and words in said["error"] and buffers == []
    for fault, words in ((MemoryError(), "not enough memory"), (KeyError("x"), "a fault of the")):
        monkeypatch.setitem(widget.JOBS, "sample", Mock(side_effect=fault))
        said, _ = answer({"number": "1-4", "job": "sample", "body": BODY})  # else the page waits
        assert said["number"] == "1-4" and words in said["error"] and "\n" not in said["error"]


@pytest.mark.long
def test_the_widget_answers_the_page_by_the_comm_of_the_notebook(played):
    pytest.importorskip("anywidget", reason='pip install "portolan[notebook]"')
    shown, sent = played.play(), []
    shown.send = lambda said, buffers: sent.append((said, buffers))
    shown._handle_custom_msg({"number": "1", "job": "sample", "body": BODY}, [])
    assert sent[0][0] == {"number": "1"} and unpacked(sent[0][1][0])[0]["n"] == 4
    assert "export default" in shown._esm and shown._css.startswith(".portolan-play {")


def test_without_anywidget_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "anywidget", None)
    with pytest.raises(UserError, match=r'^run.play\(\) needs anywidget: pip install "portolan'):
        widget.play(None)


def test_rules_of_the_style_hold_in_the_panel_alone():
    style = widget.style()
    assert ":root" not in style and style.count("{") == style.count("}")
    assert style.index("--page") > style.index(".portolan-play {")


PAGE = """
async (code) => {
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const { render } = (await import(url)).default;
  const listeners = new Set();
  const model = {
    on: (name, listener) => name === "msg:custom" && listeners.add(listener),
    off: (name, listener) => listeners.delete(listener),
    async send(content) {
      const [said, coded] = await window.answer(content);
      const buffers = coded.map((text) => {
        const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
        return new DataView(bytes.buffer);
      });
      listeners.forEach((listener) => listener(said, buffers));
    },
  };
  render({ model, el: document.getElementById("output") });
}
"""


@pytest.mark.long
def test_the_panel_in_a_page_that_has_a_style_of_its_own(played, tmp_path):
    answer = widget.answers(played)

    def coded(content):
        said, buffers = answer(content)
        return [said, [base64.b64encode(buffer).decode() for buffer in buffers]]

    with chromium() as browser:
        found = watched(browser)
        page = found.page
        page.expose_function("answer", coded)
        page.set_content("<p id=own>A cell</p><div id=output></div>")
        before = page.evaluate("getComputedStyle(document.querySelector('#own')).margin")
        page.add_style_tag(content=widget.style())
        page.evaluate(PAGE, widget.script())
        status = page.locator(".portolan-play .status")
        status.filter(has_text="1 evaluation each").wait_for()
        page.get_by_label("Steps").fill("4")
        status.filter(has_text="4 evaluations each").wait_for()
        assert page.evaluate("getComputedStyle(document.querySelector('#own')).margin") == before
        assert found.errors == []
        page.screenshot(path=str(tmp_path / "panel.png"))
