"""Files that lie, and mistakes: one line, exit status 2, nothing executed and nothing written."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from core.errors import UserError
from core.models.against import difference, read_examples
from tests.layouts import dit_files
from tests.layouts.test_diffusers_unet import DDPM
from tests.models.foreign_files import namespace, packed, put, state, torch_file
from tests.models.refused import refused
from tests.tensors import edm_files
from tests.tensors.test_hostile_files import HOSTILE as TORCH
from tests.tensors.torch_files import Writer, ordered, plain

DIT = dit_files.torch_dit(3)
FLAX = dit_files.flax_meanflow()
ONE = np.ones(3, np.float32)


@pytest.mark.parametrize("name", TORCH)
def test_a_file_of_torch_or_numpy_that_lies(name, tmp_path, capsys, monkeypatch):
    content, message = TORCH[name]
    (tmp_path / "F.pkl").write_bytes(content())
    line = refused(capsys, monkeypatch, tmp_path, "--file", "F.pkl", "--out", "model")
    assert re.search(message, line) or "no network" in line


def of_flax(f):
    return put(f, "checkpoint_1", packed(state(dit_files.flax_meanflow())))


def safe(tensors, name="F.safetensors"):
    def write(f):
        save_file(tensors, f / name)
        return name

    return write


def folder(config, tensors=None, index=None):
    """A folder of diffusers."""

    def write(f):
        place = f / "network"
        place.mkdir()
        content = config if isinstance(config, bytes) else json.dumps(config).encode()
        (place / "config.json").write_bytes(content)
        stem = place / "diffusion_pytorch_model.safetensors"
        if tensors is not None:
            save_file(tensors, stem)
        if index is not None:
            content = index if isinstance(index, bytes) else json.dumps(index).encode()
            (place / f"{stem.name}.index.json").write_bytes(content)
        return "network"

    return write


def edm(name, source=edm_files.TRACE):
    kinds = {"": name, "model.": "SongUNet"}
    weights = {f"model.map_layer{i}.weight": ONE[None] for i in (0, 1)}
    made = edm_files.of_tensors(kinds, weights)
    return lambda f: put(f, "F.pkl", edm_files.file(plain(ema=made)))


def torch(tensors, **beside):
    return lambda f: put(f, "F.pt", torch_file(tensors, **beside))


def beside(write, **files):
    """The same with other files beside it."""

    def both(f):
        for name, content in files.items():
            (f / name.replace("_", ".")).write_bytes(content)
        return write(f)

    return both


UNET = {"conv_in.weight": np.ones((8, 3, 3, 3), np.float32),
        "time_embedding.linear_1.weight": np.ones((4, 8), np.float32)}  # fmt: skip
MANY = {f"blocks.{i}.attn.qkv.weight": ONE for i in (0, 999999)}
MISTAKES = {
    "no file": (lambda f: "F.pt", (), "no file or folder F.pt; name one with --file"),
    "no flag": (lambda f: "", (), "no file given; name it with --file"),
    "an empty folder": (lambda f: (f / "d").mkdir() or "d", (), "has no files of weights"),
    "wrong kind": (
        safe(UNET), ("--from", "sit"),
        "F.safetensors has no key x_embedder.proj.weight; it looks like diffusers UNet2DModel: "
        "--from diffusers"),
    "a kind that there is not": (safe(UNET), ("--from", "sdxl"), "--from sdxl is none of auto"),
    "no kind": (safe({"w": ONE}), (), "F.safetensors is of no network that is known; --list"),
    "either of two": (safe(DIT), (), "keys of SiT and of DiT.*--from sit or --from dit"),
    "another baseline": (edm("VPPrecond"), (), "error: VPPrecond is not supported; EDMPrecond is"),
    "a network that lacks nearly all": (edm("EDMPrecond"), (), "have no enc.32x32_conv.weight"),
    "another class": (
        folder({"_class_name": "FluxTransformer2DModel"}, UNET), (),
        "is of FluxTransformer2DModel; UNet2DModel"),
    "another scheduler": (
        beside(folder(DDPM, UNET)), ("--clock", "cosine"), "no clock is called 'cosine'"),
    "a clock of no end": (
        safe(DIT), ("--from", "sit", "--heads", "3", "--clock", "linear 0.1 0.2 1e400"), "is none"),
    "unknown width": (safe(DIT), ("--from", "sit"), "no published network has width 24.*--heads"),
    "heads that do not divide": (
        safe(DIT), ("--from", "sit", "--heads", "7"), "--heads 7 does not divide"),
    "no heads": (safe(DIT), ("--from", "sit", "--heads", "0"), "--heads 0 does not divide"),
    "a side between patches": (
        of_flax, ("--heads", "3", "--side", "7"), "--side 7 is no multiple of the network"),
    "a flag of another kind": (
        safe(DIT), ("--from", "sit", "--folded"), "--folded says nothing of SiT: leave it out"),
    "an unknown set": (
        lambda f: put(f, "F.pt", Writer().file(ordered(w=b"N"))), ("--weights", "ema"),
        "F.pt has no weights 'ema'"),
    "one set of weights": (safe(DIT), ("--weights", "ema"), "has one set of weights"),
    "a missing key": (
        safe({k: v for k, v in DIT.items() if k != "blocks.1.attn.qkv.bias"}),
        ("--from", "sit", "--heads", "3"),
        "missing: blocks.1.attn.qkv.bias; say whose file it is as --from"),
    "a key too many": (
        safe(DIT | {"more": ONE}), ("--from", "sit", "--heads", "3"), "not used: more"),
    "another shape": (
        safe(DIT | {"blocks.0.attn.qkv.weight": np.ones((72, 8), np.float32)}),
        ("--from", "sit", "--heads", "3"),
        r"blocks.0.attn.qkv.weight is \(72, 8\), the network has \(72, 24\)"),
    "a readout of odd channels": (
        safe(DIT | {"final_layer.linear.weight": np.ones((36, 24), np.float32)}),
        ("--from", "sit", "--heads", "3"), "the readout has 9 channels a pixel"),
    "a million layers": (safe(DIT | MANY), ("--from", "sit", "--heads", "3"), "more layers behind"),
    "a layer of many digits": (
        safe(DIT | {f"blocks.{'9' * 5000}.x": ONE}), ("--from", "sit", "--heads", "3"),
        "more layers behind"),
    "no numbers": (
        safe(DIT | {"x_embedder.proj.weight": np.ones((24, 3, 0, 0), np.float32)}),
        ("--from", "sit", "--heads", "3"), "has not 4 axes"),
    "a shape of EDM's of nothing": (
        safe({"map_layer0.weight": np.ones((4, 0), np.float32), "map_layer1.weight": ONE,
              "enc.8x8_conv.weight": np.ones((8, 3, 3, 3), np.float32),
              "enc.8x8_block0.conv1.weight": np.ones((8, 8, 3, 3), np.float32)}),
        (), "of no EDM"),
    "a UNet without options": (safe(UNET), (), "does not tell its options: put its config.json"),
    "a config that is none": (folder(b"[", UNET), (), "config.json is no JSON of options"),
    "a config of noise": (folder(b"\xff\xfe", UNET), (), "config.json is no JSON of options"),
    "options of other types": (
        folder(DDPM | {"block_out_channels": "many"}, UNET), (), "of no diffusers UNet2DModel"),
    "a config and no weights": (folder(DDPM), (), "has config.json and no weights"),
    "an index that climbs out": (
        folder(DDPM, index={"weight_map": {"w": "../F.safetensors"}}), (),
        "'../F.safetensors', which is no file beside it"),
    "an index of a missing file": (
        folder(DDPM, index={"weight_map": {"w": "x.safetensors"}}), (),
        "lists x.safetensors, which is not there"),
    "an index of a list": (folder(DDPM, index=b"[1]"), (), "is no list of arrays"),
    "a pipeline without a network": (
        lambda f: put(f / "p", "model_index.json", b"{}") and "p" if not (f / "p").mkdir() else "",
        (), "is a pipeline without transformer or unet"),
    "SiT of another path": (
        torch(DIT, args=namespace(path_type="VP")), ("--heads", "3"),
        "is of the path VP; Linear, GVP are known"),
    "SiT of another prediction": (
        torch(DIT, args=namespace(path_type="Linear", prediction="score")), ("--heads", "3"),
        "predicts the score; SiT that predicts velocity"),
    "out of something else": (
        beside(safe(DIT), model_txt=b"mine"), ("--from", "sit", "--heads", "3", "--out", "."),
        "holds something else, and nothing in it was touched; name another --out"),
    "out is a file": (
        beside(safe(DIT), model_txt=b"mine"), ("--from", "sit", "--heads", "3", "--out",
        "model.txt"), "model.txt is a file; name a folder with --out"),
}  # fmt: skip


@pytest.mark.parametrize("write, flags, message", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(write, flags, message, tmp_path, capsys, monkeypatch):
    file = write(tmp_path)
    out = () if "--out" in flags else ("--out", "model")
    line = refused(capsys, monkeypatch, tmp_path, "--file", file, *out, *flags)
    assert re.search(message, line)


IO = {"x": np.zeros((1, 6, 6, 3)), "t": np.ones(1), "out": np.zeros((1, 6, 6, 3))}
WRONG_IO = {
    "nothing": ({"y": ONE}, "needs arrays x and out; it has y"),
    "no time": ({"x": IO["x"], "out": IO["out"]}, "needs either t or sigma"),
    "another shape": (IO | {"x": np.zeros((1, 5, 5, 3))}, r"takes \(n, 3, 6, 6\) or"),
    "fewer rows": (IO | {"out": np.zeros((2, 6, 6, 3))}, "has 1 examples and 2 of out"),
    "more times": (IO | {"t": np.ones(3)}, "has 3 numbers t for 1 examples"),
    "a class beyond": (IO | {"label": np.array([9])}, "has the label 9, the network 5 classes"),
    "two times": (IO | {"sigma": np.ones(1)}, "has t and sigma; keep one of them"),
    "a label of two": (IO | {"label": np.array([1, 2, 3])}, "has 3 labels for 1 examples"),
    "texts": (IO | {"label": np.array(["cat"])}, "has label of type <U3; give numbers"),
    "half of a guidance": (IO | {"guidance": np.ones(2)}, "has 2 numbers guidance for 1 examples"),
    "another output": (IO | {"out": np.zeros((1, 6, 6, 5))}, r"out is \(1, 6, 6, 5\) and the"),
}  # fmt: skip


@pytest.mark.parametrize("arrays, message", WRONG_IO.values(), ids=WRONG_IO)
def test_examples_that_do_not_fit_are_one_line(arrays, message, tmp_path):
    np.savez(tmp_path / "io.npz", **arrays)
    with pytest.raises(UserError, match=message) as error:
        _, out, _ = read_examples(tmp_path / "io.npz", (6, 6, 3), 5, flows=True)
        difference(np.zeros((1, 6, 6, 3), np.float32), out)
    assert "\n" not in str(error.value)


def test_a_bomb_of_examples_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("core.tensors.libraries.MOST_UNPACKED", 10**5)
    np.savez_compressed(tmp_path / "io.npz", x=np.zeros(10**6, np.uint8))
    file = safe(DIT)(tmp_path)
    flags = "--from", "sit", "--heads", "3", "--against", "io.npz"
    line = refused(capsys, monkeypatch, tmp_path, "--file", file, *flags)
    assert "far more than it has" in line
