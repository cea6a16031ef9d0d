"""Foreign files become model folders whose networks give what the originals gave."""

import numpy as np
import pytest

from core.models import open_autoencoder, open_model
from core.nets.perceptions.named import open_network
from tests.apps.inside import run
from tests.models.foreign_files import MAKERS, QUICK, case


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name", [one if one in QUICK else pytest.param(one, marks=pytest.mark.slow) for one in MAKERS]
)
def test_a_file_converts_to_what_its_network_gave(name, place, capsys):
    """And with one weight disturbed it fails and writes nothing."""
    made = case(name)
    file = made.write(place)
    np.savez("io.npz", **made.io)
    flags = ("--against", "io.npz", *made.flags, "--json")
    status, _, said = run("convert", "--file", file, "--out", "out/model", *flags)
    assert status == 0, capsys.readouterr().err
    assert said["kind"] == made.kind and said["relative"] < made.error and said["equal"]
    assert not (place / "trace").exists()  # the source text in a pickle of EDM's makes it
    line = capsys.readouterr().err
    assert f"{made.kind}: " in line and "wrote out/model" in line and "licence " in line
    if made.kind == "dinov2":
        assert open_network("dinov2=out/model").title == "DINOv2 ViT-64/14"
    else:
        opened = (open_autoencoder if made.kind == "autoencoder-kl" else open_model)("out/model")
        assert opened.source["keys"] + len(opened.source["left_out"]) == len(made.tensors)

    (place / "other").mkdir()
    bad = made.write(place / "other", made.disturbed())
    status, _, said = run("convert", "--file", f"other/{bad}", "--out", "bad", *flags)
    assert status == 1 and said["relative"] > 1e-3 and not said["equal"]
    assert "does not give what io.npz says" in capsys.readouterr().err
    assert not (place / "bad").exists()


def test_a_look_prints_keys_and_writes_nothing(place, capsys):
    made = case("meanflow")
    file = made.write(place)
    status, out, _ = run("convert", "--file", file, "--list")
    assert status == 0 and [one.name for one in place.iterdir()] == [file]
    assert "x_embedder.proj.kernel  2 x 2 x 3 x 24  float32" in out.splitlines()
    assert len(out.splitlines()) == len(made.tensors)
    said = "it looks like MeanFlow DiT (--from meanflow)"
    assert f"{len(made.tensors)} tensors of ema_params" in capsys.readouterr().err.replace(
        "\n", " "
    )
    _, _, listed = run("convert", "--file", file, "--list", "--json")
    assert listed["guess"] == ["meanflow"] and said in capsys.readouterr().err.replace("\n", " ")
    assert listed["tensors"]["x_embedder.proj.bias"] == [[24], "float32"]


def test_one_pass_is_finite_or_it_is_said(place, capsys):
    made = case("sit")
    file = made.write(place)
    status, _, said = run("convert", "--file", file, "--check", "--json", *made.flags)
    assert status == 0 and 0.1 < said["check"] < 100 and "out" not in said
    err = capsys.readouterr().err.replace("\n", " ")
    assert "sit: SiT, 6 px images, 5 classes" in err and "left out: none" in err
    assert "(--null-class)" in err and "wrote" not in err
    bad = {key: value.copy() for key, value in made.tensors.items()}
    bad["final_layer.linear.bias"][0] = np.nan
    (place / "other").mkdir()
    file = f"other/{made.write(place / 'other', bad)}"
    status, *_ = run("convert", "--file", file, "--check", "--out", "model", *made.flags)
    assert status == 2 and "numbers that are not finite" in capsys.readouterr().err
    assert not (place / "model").exists()
