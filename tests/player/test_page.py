"""The page of a run in Chromium, opened from the disk: it draws what Python draws of a seed."""

import contextlib
from importlib.util import find_spec

import numpy as np
import pytest

from core.errors import UserError
from portolan.player import runtime
from portolan.studio.fields import Fields
from portolan.studio.sampling import noise, sample, walk
from portolan.studio.session import Opened
from tests.apps.inside import run
from tests.studio.browser import chromium, watched
from tests.train.runs import make_run

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not all(map(find_spec, ("jax2onnx", "onnx", "onnxruntime"))),
        reason='pip install "portolan[onnx]"',
    ),
]
NET = ["--net.width", "8", "--net.depth", "2"]
KINDS = {
    "digits": ["--plugin", "imf", "--plugin.guidance.most", "4", "--data", "digits",
               "--net", "dit", "--net.heads", "2", *NET],
    "plane": ["--plugin", "imf", "--data", "two-moons", "--data.n", "256", "--net", "mlp", *NET],
    "text": ["--plugin", "cat-mf", "--data", "bigram", "--data.n", "64", "--data.length", "6",
             "--data.symbols", "4", "--net", "dit", "--net.heads", "2", *NET],
    "torus": ["--plugin", "lsd", "--data", "arrays", "--data.path", "ANGLES", "--data.space",
              "torus", "--net", "mlp", *NET],
}  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The files of onnxruntime-web, as the command fetches them."""
    try:
        files = runtime.runtime(None)
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("onnxruntime-web")
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@contextlib.contextmanager
def played(browser, package, folder, kind):
    """The page of a run whose weights are noise, open, and the run."""
    angles = folder / "angles.npz"
    np.savez(angles, x=np.random.default_rng(0).uniform(-3, 3, (64, 2)).astype(np.float32))
    make_run(folder / kind, *[str(angles) if word == "ANGLES" else word for word in KINDS[kind]])
    status, _, made = run(
        "export", "--run", folder / kind, "--format", "web", "--ort", package, "--json"
    )
    assert status == 0 and made["difference"] < 1e-5
    found = watched(browser)
    found.page.goto((folder / kind / "web" / "index.html").as_uri())
    found.page.wait_for_selector("body[data-open=yes]", timeout=60_000)
    yield found, Opened(0, kind, folder / kind)
    assert all(url.startswith(("file://", "blob:")) for url in found.asked) and not found.errors


def asked(page, job, body):
    """An answer of the page's engine, its arrays as lists."""
    return page.evaluate(
        """async ([job, body]) => {
          const { arrays, texts } = await window.portolan.engine.ask(job, body);
          const lists = Object.entries(arrays).map(([k, { data }]) => [k, Array.from(data)]);
          return { texts, ...Object.fromEntries(lists) };
        }""",
        [job, body],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_draws_what_python_draws_of_the_same_seed(browser, package, tmp_path, kind):
    with played(browser, package, tmp_path, kind) as (found, opened):
        page, index = found.page, np.array([0, 3, 299])
        program = "ks => ks.map((k) => Array.from(window.portolan.noiseAt(11, k)))"
        z = page.evaluate(program, index.tolist())
        np.testing.assert_allclose(z, noise(opened, 11, index).reshape(3, -1), atol=2e-6)
        body = {"n": 12, "seed": 11, "steps": 2, "label": None}
        body |= {"guidance": 3.0} if kind == "digits" else {}
        here = {"a": {"seed": 11, "index": 1}, "direction": 2, "at": [-1.0, 0.3]}
        both = {"a": here["a"], "b": {"seed": 11, "index": 2}, "at": [0.0, 0.4, 1.0]}
        same(asked(page, "sample", body), sample(opened, Fields(body)))
        for way in (here, both):
            same(asked(page, "walk", body | way), walk(opened, Fields(body | way)))


def same(found, wanted):
    """What the page made is what Python made."""
    assert found.pop("texts", None) == wanted.said.get("texts")
    for name, values in found.items():
        far = np.abs(np.asarray(values) - wanted.arrays[name].ravel().astype(float)).max()
        assert far <= (1 if name == "tiles" else 2e-5)


def test_a_slider_and_a_click_change_what_is_painted(browser, package, tmp_path):
    with played(browser, package, tmp_path, "digits") as (found, opened):
        page, status = found.page, found.page.locator(".status")
        painted = "() => document.querySelector('canvas.picture').toDataURL()"
        status.filter(has_text="1 evaluation each").wait_for()
        before = page.evaluate(painted)
        page.get_by_label("Steps").fill("3")
        status.filter(has_text="3 evaluations each").wait_for()
        assert page.evaluate(painted) != before
        page.get_by_label("Guidance").fill("3")
        page.locator("canvas.picture").first.click(position={"x": 30, "y": 30})
        page.get_by_text("A: sample 1 of seed 0, class 0").wait_for()
        page.set_viewport_size({"width": 400, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 400


def test_what_the_page_cannot_draw_is_named(tmp_path, capsys):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32))
    make_run(tmp_path / "run", "--plugin", "imf", "--data", "arrays", "--data.path",
             str(tmp_path / "x.npz"), "--net", "mlp", *NET)  # fmt: skip
    status, *_ = run("export", "--run", tmp_path / "run", "--format", "web")
    assert status == 2 and "the page draws no points of 3 numbers" in capsys.readouterr().err
    status, *_ = run("export", "--run", tmp_path / "run", "--format", "web", "--shift", "3")
    assert status == 2 and "--grid and --shift" in capsys.readouterr().err
