"""Files that are no files of tensors are refused in one line, and nothing of them is run."""

import io
import json
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from core.errors import UserError
from core.tensors import open_tensors
from tests.tensors.torch_files import (
    MARK,
    PROTO,
    STOP,
    Row,
    Writer,
    call,
    group,
    named,
    ordered,
    plain,
    text,
    whole,
)

FOUR = np.arange(4, dtype=np.float32)


def a_file(tree: bytes, legacy: bool = False, **how) -> bytes:
    return Writer(legacy).file(tree, **how)


def with_tensor(offset=0, shape=(4,), stride=(1,), legacy=False, row: Row | None = None) -> bytes:
    writer = Writer(legacy)
    key = writer.add(row or Row.of(FOUR))
    return writer.file(ordered(w=writer.part(key, offset, shape, stride)))


def raw_tensor(*arguments: bytes) -> bytes:
    return a_file(ordered(w=call("torch._utils", "_rebuild_tensor_v2", *arguments)))


def stacked(module: str, name: str) -> bytes:
    """The newer way to name a function."""
    short = [b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)]
    return b"".join(short) + b"\x93"


def persistent(*parts: bytes) -> bytes:
    return group(*parts) + b"Q"


def nested(depth: int) -> bytes:
    """A tuple of itself twice, again and again: 2^depth leaves; its hash takes for ever."""
    return b")q\x000" + b"h\x00h\x00\x86q\x000" * depth + b"h\x00"


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def npy(shape: tuple, dtype: str, content: bytes = b"") -> bytes:
    stream = io.BytesIO()
    head = {"shape": shape, "fortran_order": False, "descr": dtype}
    np.lib.format.write_array_header_1_0(stream, head)
    return stream.getvalue() + content


def safetensors(shape: list[int], ends: list[int], content: bytes) -> bytes:
    head = json.dumps({"w": {"dtype": "F32", "shape": shape, "data_offsets": ends}}).encode()
    return struct.pack("<Q", len(head)) + head + content


def twice(content: bytes) -> bytes:
    """The archive with its first member a second time."""
    stream = io.BytesIO(content)
    with zipfile.ZipFile(stream, "a") as archive, pytest.warns(UserWarning):
        archive.writestr("a/data.pkl", b"other")
    return stream.getvalue()


def moved(content: bytes) -> bytes:
    """The archive whose directory says that the storage lies elsewhere."""
    place = content.rindex(b"a/data/0") - 4
    return content[:place] + struct.pack("<I", len(content) - 2) + content[place + 4 :]


def two_sizes() -> bytes:
    writer = Writer()
    key = writer.add(Row.of(FOUR))
    first = writer.part(key, 0, (4,), (1,))
    writer.rows[key] = Row("float32", FOUR.tobytes(), 8)
    return writer.file(ordered(a=first, b=writer.part(key, 0, (8,), (1,))))


STORAGE = text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu")
SHELL = "posix", "system"

HOSTILE = {
    "a command": (lambda: a_file(call(*SHELL, text("touch trace"))), "asks for posix.system"),
    "a command, legacy": (
        lambda: a_file(call(*SHELL, text("touch trace")), legacy=True),
        "asks for posix.system",
    ),
    "a command, newer name": (
        lambda: a_file(stacked("os", "system") + group(text("touch trace")) + b"R"),
        "asks for os.system",
    ),
    "eval": (lambda: a_file(call("builtins", "eval", text("1"))), "asks for builtins.eval"),
    "getattr": (lambda: a_file(named("builtins", "getattr")), "asks for builtins.getattr"),
    "a name with dots": (
        lambda: a_file(named("torch", "_utils.sys.modules")),
        "asks for torch._utils.sys.modules",
    ),
    "a name with an escape": (lambda: a_file(named("a\x1b[2J", "b")), r"asks for a\?\[2J.b"),
    "an object of a class": (lambda: a_file(b"(i" + b"os\nsystem\n"), "instruction 0x69"),
    "the older object": (lambda: a_file(MARK + named(*SHELL) + b"o"), "asks for posix.system"),
    "an extension code": (lambda: a_file(b"\x82\x01"), "instruction 0x82"),
    "a long extension code": (lambda: a_file(b"\x84\x01\x00\x00\x00"), "instruction 0x84"),
    "an older identifier": (lambda: a_file(b"Pstorage\n"), "instruction 0x50"),
    "a buffer from outside": (lambda: a_file(b"\x97"), "instruction 0x97"),
    "a nested stream": (
        lambda: a_file(call("torch.storage", "_load_from_bytes", b"C\x02\x80\x02")),
        "asks for torch.storage._load_from_bytes",
    ),
    "a call of a text": (lambda: a_file(text("x") + b")R"), "calls what is no function"),
    "a call of a dtype": (lambda: a_file(call("torch", "float32")), "wrong arguments"),
    "state of a text": (lambda: a_file(text("x") + b"}b"), "sets the state"),
    "an empty stack": (lambda: a_file(b"0"), "empty stack"),
    "no mark": (lambda: a_file(b"t"), "no mark"),
    "a value that was not kept": (lambda: a_file(b"h\x07"), "has not kept"),
    "an odd number of items": (lambda: a_file(b"}(K\x01u"), "a key without a value"),
    "a key of tuples": (lambda: a_file(b"}" + nested(80) + b"K\x01s"), "no texts or numbers"),
    "a number of many bytes": (
        lambda: a_file(b"\x8b" + struct.pack("<i", 2**20) + b"\x01" * 2**20),
        "a whole number of 1,048,576 bytes",
    ),
    "a text of a terabyte": (
        lambda: a_file(b"\x8d" + struct.pack("<Q", 2**40)),
        "ends within a pickle",
    ),
    "bytes of all there is": (
        lambda: a_file(b"\x8e" + struct.pack("<Q", 2**64 - 1)),
        "ends within a pickle",
    ),
    "a text of negative length": (lambda: a_file(b"T\xff\xff\xff\xff"), "negative length"),
    "a pickle that does not end": (
        lambda: Writer()._zip(PROTO + b"}"),
        "ends within a pickle",
    ),
    "an unknown protocol": (lambda: Writer()._zip(b"\x80\x09}."), "newer than 5"),
    "beyond the storage": (lambda: with_tensor(shape=(65535,)), "wrong arguments"),
    "beyond the storage, legacy": (
        lambda: with_tensor(shape=(65535,), legacy=True),
        "does not lie in a storage of 4",
    ),
    "a step beyond it": (lambda: with_tensor(shape=(2,), stride=(4,)), "does not lie"),
    "an offset beyond it": (lambda: with_tensor(offset=1), "does not lie"),
    "a negative stride": (lambda: with_tensor(offset=3, stride=(-1,)), "is negative"),
    "a negative offset": (lambda: with_tensor(offset=-1), "is negative"),
    "a negative size": (lambda: with_tensor(shape=(-1, -4), stride=(4, 1)), "is negative"),
    "a stride of nothing": (
        lambda: with_tensor(shape=(2**20, 2**20), stride=(0, 0)),
        "does not lie",
    ),
    "sizes and strides that differ": (lambda: with_tensor(shape=(2, 2)), "not as many"),
    "forty axes": (lambda: with_tensor(shape=(1,) * 40, stride=(1,) * 40), "not as many"),
    "a size that is a number of another kind": (
        lambda: raw_tensor(
            persistent(*STORAGE, whole(0)), whole(0), group(b"\x88"), group(b"\x88")
        ),
        "no whole number",
    ),
    "a tensor without a storage": (
        lambda: raw_tensor(b"N", whole(0), group(whole(1)), group(whole(1))),
        "without a storage",
    ),
    "a storage that is missing": (
        lambda: a_file(ordered(w=persistent(*STORAGE, whole(1)))),
        "no member data/0",
    ),
    "a short storage": (
        lambda: with_tensor(row=Row("float32", FOUR.tobytes()[:8], 4)),
        "has 8 bytes where its pickle claims 16",
    ),
    "a storage of a terabyte": (
        lambda: with_tensor(row=Row("float32", FOUR.tobytes(), 2**38)),
        "claim more bytes than the file has",
    ),
    "a short storage, legacy": (
        lambda: with_tensor(row=Row("float32", FOUR.tobytes()[:8], 4), legacy=True),
        "ends within its storage 0",
    ),
    "a storage of two sizes": (two_sizes, "has two sizes"),
    "a part of a storage": (
        lambda: a_file(persistent(*STORAGE, whole(1), group(text("1"), whole(0), whole(1)))),
        "a part of another",
    ),
    "a storage outside of the archive": (
        lambda: a_file(ordered(w=persistent(*STORAGE[:2], text("../../x"), text("cpu"), whole(1)))),
        "no member data/../../x",
    ),
    "an unknown identifier": (lambda: a_file(text("storage") + b"Q"), "in an unknown way"),
    "big order": (lambda: a_file(b"}", order="big"), "in big order"),
    "big order, legacy": (lambda: a_file(b"}", legacy=True, little=b"\x89"), "in big order"),
    "a list of other storages": (
        lambda: a_file(b"}", legacy=True, keys=["1"]),
        "list of storages is not that of its tensors",
    ),
    "a compressed archive": (lambda: a_file(b"}", packed=True), "compressed or encrypted"),
    "two members of one name": (lambda: twice(a_file(b"}")), "two members of one name"),
    "a member beyond the file": (lambda: moved(with_tensor()), "damaged zip archive"),
    "a cut archive": (lambda: with_tensor()[:-30], "no file of tensors|damaged"),
    "a plain pickle": (lambda: PROTO + named(*SHELL) + STOP + b" " * 9, "no file of tensors"),
    "an npz of objects": (
        lambda: npz(w=npy((1,), "|O", PROTO + named(*SHELL) + STOP)),
        "not as large as it says|[Oo]bject",
    ),
    "an npz of a terabyte": (lambda: npz(w=npy((2**38,), "<f4")), "not as large as it says"),
    "an npz of nothing": (lambda: npz(w=b"nothing of the kind"), "damaged npz file"),
    "safetensors beyond the file": (
        lambda: safetensors([4], [0, 16], b"\x00" * 8),
        "damaged safetensors file",
    ),
    "safetensors of another size": (
        lambda: safetensors([8], [0, 16], b"\x00" * 16),
        "damaged safetensors file",
    ),
    "an empty file": (lambda: b"", "empty or cut off"),
    "a text": (lambda: b"version https://git-lfs", "no file of tensors that is known"),
}


@pytest.mark.parametrize("content, message", HOSTILE.values(), ids=HOSTILE)
def test_it_is_refused_in_one_line_at_once(tmp_path, monkeypatch, content, message):
    path = tmp_path / "F.pkl"
    path.write_bytes(content())
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    with pytest.raises(UserError, match=message) as caught:
        open_tensors(path)
    assert time.process_time() - began < 2
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert [one.name for one in tmp_path.iterdir()] == ["F.pkl"]  # no trace


def test_the_line_says_what_was_asked_for(tmp_path):
    path = tmp_path / "F.pkl"
    path.write_bytes(a_file(call(*SHELL, text("true"))))
    with pytest.raises(UserError) as caught:
        open_tensors(path)
    expected = "F.pkl: refused, it asks for posix.system; this is no file of tensors"
    assert str(caught.value) == expected


def test_a_pickle_of_very_many_instructions_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr("core.tensors.machine.MOST_STEPS", 1000)
    path = tmp_path / "F.pkl"
    path.write_bytes(a_file(b"N0" * 1000 + b"}"))
    with pytest.raises(UserError, match="more than 1,000 instructions"):
        open_tensors(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_damaged_file_is_refused_or_read(tmp_path, rng, legacy):
    """Some bytes of a good file are replaced by others: no other exception, and no long time."""
    writer = Writer(legacy)
    tree = ordered(a=writer.tensor(FOUR), b=writer.tensor(np.arange(6).reshape(2, 3)))
    good = np.frombuffer(writer.file(plain(model=tree)), np.uint8)
    path, refused = tmp_path / "F.pt", 0
    for _ in range(40):
        bad = good.copy()
        count = rng.integers(1, 4)
        bad[rng.integers(0, len(bad), count)] = rng.integers(0, 256, count)
        path.write_bytes(bad.tobytes())
        try:
            for one in open_tensors(path).values():
                assert one.read().shape == one.shape
        except UserError:
            refused += 1
    assert 5 < refused < 40


def test_views_that_claim_far_more_than_the_file_are_refused(tmp_path):
    """A storage that many tensors share is read once for each of them."""
    values = np.zeros(20_000, np.float32)
    writer = Writer()
    key = writer.add(Row.of(values))
    views = {f"w{i}": writer.part(key, 0, (20_000,), (1,)) for i in range(20)}
    path = tmp_path / "F.pkl"
    path.write_bytes(writer.file(ordered(**views)))
    with pytest.raises(UserError, match="claim 1,600,000 bytes, far more than the file has"):
        open_tensors(path)


def test_an_archive_that_is_far_larger_when_it_is_unpacked_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, w=np.zeros(10**6, np.uint8))
    assert open_tensors(path)["w"].read().shape == (10**6,)
    monkeypatch.setattr("core.tensors.libraries.MOST_UNPACKED", 10**5)
    with pytest.raises(UserError, match="its arrays claim 1,000,128 bytes, far more than it has"):
        open_tensors(path)


def test_dictionaries_that_lie_in_one_another_are_walked_once(tmp_path):
    """A dictionary twice in another, thirty deep: a thousand million paths."""
    writer = Writer()
    inner = plain(w=writer.tensor(FOUR))
    for _ in range(30):
        inner = b"}" + inner + b"q\x01" + b"0" + MARK + text("a") + b"h\x01" + text("b") + b"h\x01u"
    path = tmp_path / "F.pkl"
    path.write_bytes(writer.file(plain(model=inner)))
    with pytest.raises(UserError, match="no tensors|no tensor"):
        open_tensors(path)


def test_nothing_in_the_project_loads_a_pickle():
    root = Path(__file__).resolve().parents[2]
    words = [
        "pickle" + ".load", "torch" + ".load", "allow_pickle" + "=True", "jo" + "blib",
        "import " + "dill", "import " + "pickle", "Unpickler" + "(",
    ]  # fmt: skip
    found = [
        f"{path.relative_to(root)}: {word}"
        for room in ("core", "plugins", "portolan", "apps", "benchmarks", "docs")
        for path in sorted((root / room).rglob("*.py"))
        for word in words
        if word in path.read_text()
    ]
    assert found == []
