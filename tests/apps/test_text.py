"""A run of text from training to steering: strings everywhere, and its data may be gone."""

import json

import numpy as np
import pytest

from tests.apps.inside import run

pytestmark = [pytest.mark.long, pytest.mark.programs(400)]

NAMES = ["anna", "bob", "cec", "dana", "edda", "fay", "gus", "hanna", "ian", "jo"] * 5
TINY = [
    *(
        "--net.width",
        "8",
        "--net.depth",
        "1",
        "--net.heads",
        "1",
        "--batch",
        "8",
        "--dispatch",
        "2",
    ),
    *("--steps", "4", "--sample-every", "2", "--save-every", "2", "--nfe", "1", "2", "--ema", "0"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("text")
    file, folder = place / "names.txt", place / "run"
    file.write_text("\n".join(f"{name}{k:02d}" for k, name in enumerate(NAMES)))
    data = ["--data", "text", "--data.path", str(file), "--data.unit", "line", "--data.length", "8"]
    status, out, _ = run("train", *data, *TINY, "--run", folder)
    assert status == 0, out
    return folder


def test_training_leaves_strings_and_figures(folder):
    config = (folder / "config.toml").read_text()
    assert 'name = "cat-mf"' in config and 'name = "dit"' in config
    lines = (folder / "samples" / "final_2.txt").read_text().splitlines()
    assert lines[0] == "# pushforward, 2 evaluations" and len(lines) == 81
    assert (folder / "samples" / "step_0000002.txt").exists()
    assert not list((folder / "samples").glob("*.png"))
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    assert [row["nfe"] for row in rows] == [1, 2]
    for name in ("nll", "unigram", "bigram_tv", "distinct", "valid"):
        assert all(np.isfinite(row[name]) for row in rows), name


def test_samples_are_printed_and_written_as_strings(folder):
    status, out, result = run("sample", "--run", folder, "--n", 12, "--steps", 3, "--json")
    assert status == 0 and result is not None
    with np.load(result["values"]) as values:
        codes, texts = values["samples"], values["texts"].tolist()
    assert codes.shape == (12, 8) and codes.dtype == np.int32
    written = open(result["picture"]).read().splitlines()
    assert result["picture"].endswith(".txt") and written[1:] == texts
    assert all(text in out for text in texts[:10] if text)


def test_figures_have_a_row_of_held_out_text(folder, capsys):
    status, _, result = run("eval", "--run", folder, "--n", 50, "--nfe", 1, 2, "--json")
    assert status == 0 and result is not None
    assert [row["nfe"] for row in result["rows"]] == [1, 2]
    assert result["reference"]["valid"] == 1
    bits = next(number for number in result["numbers"] if number["metric"] == "bits")
    assert 0 < bits["error"] < bits["value"] < 40
    status, _, _ = run("eval", "--run", folder, "--features", "pixels")
    assert status == 2 and "leave out --features" in capsys.readouterr().err


def test_a_beginning_and_a_function_of_the_text_steer(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "spoken_reward.py").write_text("def letters(text):\n    return len(text)\n")
    monkeypatch.syspath_prepend(tmp_path)
    flags = ["--run", folder, "--n", 8, "--islands", 2, "--show", 5, "--plugin", "snis", "smc"]
    for reward in (["prefix:an", "--lam", "1"], ["python:spoken_reward:letters"]):
        out = tmp_path / reward[0].partition(":")[0]
        status, _, result = run("tilt", *flags, "--out", out, "--json", "--reward", *reward)
        assert status == 0 and result is not None
        with np.load(out / "smc.npz") as values:
            assert len(values["texts"]) == len(values["weights"]) == 16
        assert "## smc" in (out / "samples.txt").read_text()
    status, _, _ = run("tilt", *flags, "--reward", "prefix:?")
    assert status == 2 and "'?' is no symbol of this run" in capsys.readouterr().err


def test_an_exported_sampler_gives_shares_of_symbols_and_says_which(folder, tmp_path):
    status, out, result = run(
        "export", "--run", folder, "--out", tmp_path / "e", "--platforms", "cpu", "--json"
    )
    assert status == 0 and result is not None and result["equal"], out
    about = json.loads((tmp_path / "e" / "export.json").read_text())
    assert about["vocabulary"][0] == "\n" and "shares of symbols" in about["samples"]


def test_a_run_opens_without_its_data_and_shows_text_in_python(folder):
    import portolan as po

    (folder.parent / "names.txt").rename(folder.parent / "gone.txt")
    try:
        model = po.open(folder)
        shown = model.show(6)
        assert repr(shown).count("\n") == 7 and model.sample(5).shape == (5, 8)
    finally:
        (folder.parent / "gone.txt").rename(folder.parent / "names.txt")


def test_a_method_of_tokens_refuses_pictures_in_one_line(tmp_path, capsys):
    status, _, _ = run("train", "--plugin", "cat-mf", "--data", "digits", "--run", tmp_path / "r")
    assert status == 2 and "is for tokens" in capsys.readouterr().err
