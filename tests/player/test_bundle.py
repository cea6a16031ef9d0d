"""Modules of JavaScript as one script, and where onnxruntime for browsers comes from."""

import re
import shutil
import subprocess

import pytest

from core.errors import UserError
from portolan.player import bundle, runtime
from portolan.player.page import PLAYER
from portolan.player.widget import WIDGET


@pytest.mark.parametrize("modules", [PLAYER, WIDGET], ids=["page", "notebook"])
def test_every_name_that_a_module_imports_is_one_that_another_exports(modules):
    text = bundle.bundle(modules)
    given = {
        name: {word.strip() for word in words.split(",")}
        for name, words in re.findall(
            r"const module_(\w+) = .*?\nreturn \{([^}]*)\};\n\}\)", text, re.DOTALL
        )
    }
    wanted = re.findall(r"const \{([^}]*)\} = module_(\w+);", text)
    assert set(given) == {name for _, name in modules} and len(wanted) >= 5
    for words, name in wanted:
        assert {word.strip() for word in words.split(",") if word.strip()} <= given[name]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_without_a_scale_the_page_draws_without_guidance():
    """Also where the page begins with another scale, as of `apps.export --guidance 3`."""
    program = (
        bundle.bundle([("player", "threefry"), ("player", "engine")])
        + """
    const about = { shape: [2], classes: [], guided: true, guidance: 3, nfe: 1 };
    const seen = [];
    const run = async ({ noise, guidance }) => { seen.push(...guidance.data); return noise.data; };
    const { draw } = module_engine.makeEngine(about, run);
    const z = [new Float32Array(2)];
    draw(z, [0], { guidance: null }).then(() => draw(z, [0], { guidance: 2 }))
      .then(() => console.log(JSON.stringify(seen)));
    """
    )
    done = subprocess.run(["node", "-"], input=program, capture_output=True, text=True, check=True)
    assert done.stdout == "[1,2]\n"


def test_a_module_before_one_that_it_imports_is_refused():
    with pytest.raises(UserError, match="sample.js imports api.js, which comes later"):
        bundle.bundle([("studio", "sample"), ("studio", "api")])


def test_without_npm_or_with_a_folder_of_something_else_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="^the page needs onnxruntime-web.*--ort DIR$"):
        runtime.runtime(None)
    with pytest.raises(UserError, match="has no ort.wasm.min.js, .*with --ort$"):
        runtime.runtime(str(tmp_path))
