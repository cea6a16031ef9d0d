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
