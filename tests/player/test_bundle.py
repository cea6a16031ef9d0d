"""Modules of JavaScript as one script, and where onnxruntime for browsers comes from."""

import re

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


def test_a_module_before_one_that_it_imports_is_refused():
    with pytest.raises(UserError, match="sample.js imports api.js, which comes later"):
        bundle.bundle([("studio", "sample"), ("studio", "api")])


def test_without_npm_or_with_a_folder_of_something_else_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(runtime.shutil, "which", lambda name: None)
    with pytest.raises(UserError, match="^the page needs onnxruntime-web.*--ort DIR$"):
        runtime.runtime(None)
    with pytest.raises(UserError, match="has no ort.wasm.min.js, .*with --ort$"):
        runtime.runtime(str(tmp_path))
