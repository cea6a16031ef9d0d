"""Training states of flax and Orbax that lie: one line, exit status 2, and nothing written."""

import json
import os
import re
import struct

import msgpack
import numpy as np
import pytest

from tests.layouts import dit_files
from tests.models.foreign_files import packed, put, state
from tests.models.refused import refused

FLAX = dit_files.flax_meanflow()
ONE = np.ones(3, np.float32)


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
