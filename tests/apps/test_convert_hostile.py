"""Files that lie, and mistakes: one line, exit status 2, nothing executed and nothing written."""

import json
import os
import re
import struct

import msgpack
import numpy as np
import pytest
from safetensors.numpy import save_file

from core.errors import UserError
from core.models.against import difference, read_examples
from tests.apps.inside import run
from tests.layouts import dit_files
from tests.layouts.test_diffusers_unet import DDPM
from tests.models.foreign_files import namespace, packed, put, state, torch_file
from tests.tensors import edm_files
from tests.tensors.test_hostile_files import HOSTILE as TORCH
from tests.tensors.torch_files import Writer, ordered, plain

DIT = dit_files.torch_dit(3)
FLAX = dit_files.flax_meanflow()
ONE = np.ones(3, np.float32)


def refused(capsys, monkeypatch, folder, *flags):
    """Runs the conversion, which must fail in one line, and leave the folder as it was."""
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    status, out, _ = run("convert", *flags)
    line = capsys.readouterr().err
    assert status == 2 and out == ""
    assert line.startswith("error: ") and line.count("\n") == 1 and len(line) < 700
    assert sorted(folder.rglob("*")) == before
    return line


@pytest.mark.parametrize("name", TORCH)
def test_a_file_of_torch_or_numpy_that_lies(name, tmp_path, capsys, monkeypatch):
    content, message = TORCH[name]
    (tmp_path / "F.pkl").write_bytes(content())
    line = refused(capsys, monkeypatch, tmp_path, "--file", "F.pkl", "--out", "model")
    assert re.search(message, line) or "no network" in line


def flax(tree=None, change=lambda content: content):
    return lambda f: put(f, "checkpoint_1", change(packed(state(FLAX) if tree is None else tree)))


def array(shape, dtype, content):
    return msgpack.ExtType(1, msgpack.packb((shape, dtype, content), use_bin_type=True))


def raw(tree):
    return lambda f: put(f, "checkpoint_1", msgpack.packb({"params": {"net": tree}}))


def deep(levels):
    return lambda f: put(f, "checkpoint_1", b"\x81\xa1a" * levels + b"\xc0")


def pieces(shape, count):
    chunks = {str(i): array((3,), "float32", ONE.tobytes()) for i in range(count)}
    return {"w": {"__msgpack_chunked_array__": True, "shape": shape, "chunks": chunks}}


FLAX_FILES = {
    "cut off": (flax(change=lambda b: b[:-50]), r"ends within a value \(\d+ bytes are missing\)"),
    "something behind": (flax(change=lambda b: b + b"x"), "something follows its msgpack value"),
    "a list": (lambda f: put(f, "c", b"\x81\xa1a\xc1" + bytes(9)), "has the msgpack code 0xc1"),
    "an array that is too short": (
        raw({"w": array((4,), "float32", b"\0" * 8)}),
        r"an array of 8 bytes whose shape \(4,\) claims 16"),
    "an array of a terabyte": (
        raw({"w": array((2**38,), "float32", b"")}), "claims 1,099,511,627,776"),
    "an array of negative size": (
        raw({"w": array((-4,), "float32", b"")}), "an array that is none"),
    "an array of objects": (raw({"w": array((1,), "object", b"\0" * 8)}), "which is no tensor"),
    "an array without a shape": (
        raw({"w": array("x", "float32", b"")}), "an array that is none"),
    "an array of a text": (raw({"w": array((1,), "float32", "abcd")}), "an array that is none"),
    "another extension": (raw({"w": msgpack.ExtType(7, b"posix.system")}), "which is no tensor"),
    "a map of thousands of millions": (
        lambda f: put(f, "c", b"\xdf\xff\xff\xff\xff\xa1a" + b"\xc0" * 9), "a key that is no text"),
    "a text of gigabytes": (
        lambda f: put(f, "c", b"\x81\xa1a\xdb\xff\xff\xff\xf0" + b"a" * 9), "bytes are missing"),
    "very deep": (deep(5000), "more than 64 deep"),
    "a key twice": (lambda f: put(f, "c", b"\x82\xa1a\xc0\xa1a\xc0" + b"    "), "twice in a map"),
    "a key of a list": (lambda f: put(f, "c", b"\x82\xa1a\xc0\x90\xc0     "), "no text, or twice"),
    "a text of other bytes": (
        lambda f: put(f, "c", b"\x81\xa1a\xa4\xff\xff\xff\xff" + bytes(5)), "not UTF-8"),
    "pieces that are too few": (
        raw(pieces({"0": 9}, 2)), "pieces that are not as many as it says"),
    "pieces of nothing": (raw(pieces({"1": 9}, 0)), "an array in pieces that is none"),
    "no weights": (
        flax({"step": 3, "opt": {}}), "step.*, which is no tensor|holds no tensors"),
}  # fmt: skip


@pytest.mark.parametrize("write, message", FLAX_FILES.values(), ids=FLAX_FILES)
def test_a_file_of_flax_that_lies(write, message, tmp_path, capsys, monkeypatch):
    file = write(tmp_path)
    line = refused(capsys, monkeypatch, tmp_path, "--file", file, "--out", "model")
    assert re.search(message, line)


def orbax(listed, **more):
    """A folder of Orbax whose arrays are those of zarr, each in a folder."""

    def write(f):
        entries = {
            str(keys): {
                "key_metadata": [{"key": key, "key_type": 2} for key in keys],
                "value_metadata": {"value_type": "np.ndarray", "skip_deserialize": False},
            }
            for keys in listed
        }
        place = f / "checkpoint_1"
        place.mkdir()
        said = {"tree_metadata": entries, "use_ocdbt": False, "use_zarr3": False} | more
        (place / "_METADATA").write_text(json.dumps(said))
        return place

    return write


def zarr(shape, content, dtype="<f4", chunks=None):
    """The same with one array."""

    def write(f):
        place = orbax([("params", "w")])(f) / "params.w"
        place.mkdir()
        head = {
            "zarr_format": 2, "shape": shape, "chunks": chunks or shape, "dtype": dtype,
            "compressor": None, "fill_value": 0, "order": "C", "filters": None,
        }  # fmt: skip
        (place / ".zarray").write_text(json.dumps(head))
        if content is not None:
            (place / "0").write_bytes(content)
        return place.parent

    return write


def metadata(content):
    def write(f):
        place = orbax([])(f)
        (place / "_METADATA").write_bytes(content)
        return place

    return write


def linked(f):
    place = zarr([3], ONE.tobytes())(f)
    (place / "d").symlink_to("..")
    return place


def manifest(f):
    place = orbax([("params", "w")], use_ocdbt=True)(f)
    (place / "manifest.ocdbt").write_bytes(b"\x0c\xdb" + os.urandom(64))
    return place


def crc32c(content):
    """The checksum at the end of a manifest, bit by bit."""
    found = 0xFFFFFFFF
    for byte in content:
        found ^= byte
        for _ in range(8):
            found = (found >> 1) ^ (0x82F63B78 if found & 1 else 0)
    return found ^ 0xFFFFFFFF


def climbing(f):
    """A good folder, but for its manifest, which names a file of data above it, and is signed."""
    import tensorstore

    place = orbax([("params", "w")], use_ocdbt=True)(f)
    store = {"driver": "ocdbt", "base": f"file://{place.absolute()}/", "path": "params.w/"}
    store["config"] = {"compression": None, "max_inline_value_bytes": 0}
    head = {"shape": [64], "chunks": [64], "dtype": "<f4", "compressor": None}
    spec = {"driver": "zarr", "kvstore": store, "metadata": head}
    tensorstore.open(spec, create=True).result().write(np.arange(64, dtype=np.float32)).result()
    manifest = place / "manifest.ocdbt"
    content = bytearray(manifest.read_bytes())
    assert content[-4:] == struct.pack("<I", crc32c(content[:-4]))
    start = content.index(b"d/")
    name = content[start : start + 34].decode()
    elsewhere = "d/../../" + "a" * 26  # the next name shares its first two letters
    (place / name).rename(f / elsewhere[-26:])
    content[start : start + 34] = elsewhere.encode()
    manifest.write_bytes(content[:-4] + struct.pack("<I", crc32c(content[:-4])))
    return place


ORBAX_FOLDERS = {
    "a manifest that climbs out": (climbing, "damaged or incomplete Orbax folder"),
    "a name that climbs out": (orbax([("params", "../../w")]), "names '../../w', which leads out"),
    "a name with dots": (orbax([("params", "..")]), "names '..', which leads out of it"),
    "a name with a zero": (orbax([("params", "w\0")]), "which leads out of it"),
    "an absolute name": (orbax([("/etc/passwd",)]), "which leads out of it"),
    "a link": (linked, "d in it is a link that leads out of it"),
    "an array that is not there": (orbax([("params", "w")]), "damaged or incomplete Orbax folder"),
    "an array of a terabyte": (zarr([2**38], ONE.tobytes(), chunks=[1]), "claim 1,099,511,627,776"),
    "a piece of a terabyte": (
        zarr([3], ONE.tobytes(), chunks=[2**38]), "a piece of 274,877,906,944 numbers"),
    "no JSON": (metadata(b"{"), "its _METADATA cannot be read"),
    "a nested JSON": (metadata(b'{"a":' + b"[" * 10**5), "its _METADATA cannot be read"),
    "nothing listed": (orbax([]), "its _METADATA lists nothing"),
    "an entry that is none": (
        orbax([], tree_metadata={"a": 3}), "its _METADATA has an entry that is none"),
    "a value that is a folder too": (
        lambda f: two(f), "'w' as a value and as a folder"),
    "a manifest of noise": (manifest, "damaged or incomplete Orbax folder"),
    "objects": (zarr([1], b"\0" * 8, dtype="|O"), "damaged or incomplete Orbax folder"),
}  # fmt: skip


def two(f):
    place = zarr([3], ONE.tobytes())(f)
    said = json.loads((place / "_METADATA").read_text())
    entry = json.loads(json.dumps(said["tree_metadata"]["('params', 'w')"]))
    entry["key_metadata"].append({"key": "x", "key_type": 2})
    entry["value_metadata"]["value_type"] = "string"
    said["tree_metadata"]["x"] = entry
    (place / "_METADATA").write_text(json.dumps(said))
    return place


@pytest.mark.parametrize("write, message", ORBAX_FOLDERS.values(), ids=ORBAX_FOLDERS)
def test_a_folder_of_orbax_that_lies(write, message, tmp_path, capsys, monkeypatch):
    place = write(tmp_path).name
    line = refused(capsys, monkeypatch, tmp_path, "--file", place, "--out", "model")
    assert re.search(message, line)


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
        flax(), ("--heads", "3", "--side", "7"), "--side 7 is no multiple of the network"),
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
