"""EDM's pickles: tensors and options come back, nothing of the file is run."""

import struct

import numpy as np
import pytest

from core.errors import UserError
from core.tensors.edm_pickle import is_edm, open_edm
from tests.tensors import edm_files as write
from tests.tensors.torch_files import Row, Writer, call, named, ordered, plain, text, whole

WEIGHT = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)


def saved(folder, content: bytes):
    path = folder / "network.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("legacy", [True, False], ids=["legacy", "zip"])
def test_tensors_and_options_are_named_by_their_place(tmp_path, monkeypatch, legacy):
    monkeypatch.chdir(tmp_path)
    path = saved(tmp_path, write.pickled(WEIGHT, legacy=legacy))
    options, tensors = open_edm(path)
    assert set(tensors) == {"model.resample_filter", "model.enc.8x8_conv.weight"}
    np.testing.assert_array_equal(tensors["model.enc.8x8_conv.weight"].read(), WEIGHT)
    assert tensors["model.resample_filter"].dtype == np.float16
    assert options["class_name"] == "EDMPrecond" and options["model.class_name"] == "SongUNet"
    assert options["model.enc.class_name"] == "ModuleDict"
    assert options["model.enc.8x8_conv.num_heads"] == 1
    assert options["img_resolution"] == 8 and options["sigma_max"] == 80
    assert options["skip_scale"] == 0.5**0.5 and options["many"] == 3
    assert options["use_fp16"] is False and "table" not in options
    assert is_edm(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["network.pkl"]


def test_another_entry_is_named(tmp_path):
    path = saved(tmp_path, write.pickled(WEIGHT))
    with pytest.raises(UserError, match="no network 'net'; it has ema, loss_fn, dataset_kwargs"):
        open_edm(path, "net")
    with pytest.raises(UserError, match="loss_fn holds no tensors"):
        open_edm(path, "loss_fn")


def wrapped(value: bytes) -> bytes:
    """A network with this in the place of a weight."""
    return write.file(plain(ema=write.persistent("A", write.state({"w": value}))))


def with_storage(held: bytes) -> bytes:
    return wrapped(write.tensor(np.zeros(4, np.float32), made=held))


def from_bytes(content: bytes) -> bytes:
    return with_storage(call("torch.storage", "_load_from_bytes", write.raw(content)))


def short_storage() -> bytes:
    writer = Writer(legacy=True)
    key = writer.add(Row("float32", b"\0" * 16, 5000))
    return writer.file(writer.storage(key))


def nested_command() -> bytes:
    return Writer(legacy=True).file(call("posix", "system", text("touch trace")))


def nested_again() -> bytes:
    """A torch file in a torch file in a torch file."""
    inner = Writer(legacy=True).file(call("torch.storage", "_load_from_bytes", write.raw(b"1")))
    return from_bytes(inner)


def many_storages() -> bytes:
    """The bytes of one storage, kept and read again and again."""
    writer = Writer(legacy=True)
    content = writer.file(writer.storage(writer.add(Row.of(np.zeros(5000, np.float32)))))
    name = named("torch.storage", "_load_from_bytes")
    once = name + write.raw(content) + b"q\x07\x85R0"
    return write.file(plain(ema=once + (name + b"h\x07\x85R0") * 500 + b"N"))


def many_views() -> bytes:
    """One storage in thousands of tensors."""
    held = write.storage(np.zeros(5000, np.float32)) + b"q\x07"
    view = write.tensor(np.zeros(5000, np.float32), made=b"h\x07")
    named_views = {f"w{n}": view for n in range(100)}
    return write.file(held + b"0" + plain(ema=write.persistent("A", write.state(named_views))))


def modules(depth: int, times: int) -> bytes:
    """A module in itself `times` times, again and again."""
    made = write.persistent("A", write.state()) + b"q\x07" + b"0"
    for _ in range(depth):
        inside = {f"m{n}": b"h\x07" for n in range(times)}
        made += write.persistent("A", write.state(modules=inside)) + b"q\x07" + b"0"
    return write.file(made + plain(ema=b"h\x07"))


def a_number(kind: str, size: int) -> bytes:
    dtype = call("numpy", "dtype", text(kind))
    return call("numpy.core.multiarray", "scalar", dtype, write.raw(b"x" * size))


HOSTILE = {
    "a command": (wrapped(call("posix", "system", text("touch trace"))), "asks for posix.system"),
    "the loader of source": (
        wrapped(call("torch_utils.persistence", "_src_to_module", text(write.TRACE))),
        "asks for torch_utils.persistence._src_to_module",
    ),
    "a function of torch": (wrapped(named("torch.hub", "load")), "asks for torch.hub.load"),
    "a path in torch's modules": (
        wrapped(named("torch.nn.modules.module", "os.system")), "asks for torch.nn.modules",
    ),
    "an object with no class": (
        write.file(call("torch_utils.persistence", "_reconstruct_persistent_obj", whole(1))),
        "wrong arguments",
    ),
    "a command in a storage": (from_bytes(nested_command()), "asks for posix.system"),
    "a file in a storage in a storage": (nested_again(), "asks for torch.storage._load_from_b"),
    "a storage that is cut off": (from_bytes(short_storage()), "claim more bytes than the file"),
    "bytes that are no storage": (
        from_bytes(Writer(legacy=True).file(ordered())), "bytes that hold no storage",
    ),
    "a storage that is a text": (
        with_storage(call("torch.storage", "_load_from_bytes", text("x"))), "no bytes",
    ),
    "a view beyond its storage": (
        wrapped(write.tensor(np.zeros(9, np.float32), made=write.storage(np.zeros(4, np.float32)))),
        "does not lie in a storage",
    ),
    "one storage, read again and again": (many_storages(), "more than fit into the file"),
    "one storage in many tensors": (many_views(), "far more than the file has"),
    "modules without end": (modules(20, 3), "more than 20,000 modules"),
    "modules too deep": (modules(40, 1), "deep in one another"),
    "a number of objects": (
        wrapped(a_number("O", 8)),
        "a type that is not known",
    ),
    "a number too long": (
        wrapped(a_number("f8", 9)),
        "another size than its type",
    ),
    "cut off": (write.pickled(WEIGHT)[:-300], "ends within"),
    "an instruction that makes an object": (
        write.file(b"(" + text("x") + b"ios\nsystem\n"), "has the pickle instruction 0x69",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content, why = HOSTILE[name]
    path = saved(tmp_path, content)
    with pytest.raises(UserError) as error:
        open_edm(path)
    assert why in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("network.pkl: refused, ")
    assert [file.name for file in tmp_path.iterdir()] == ["network.pkl"]


def test_source_text_of_any_kind_is_passed_over(tmp_path, monkeypatch):
    """A text that is no Python, one of a million letters: the tensors are the same."""
    monkeypatch.chdir(tmp_path)
    for source in ("raise SystemExit", "\x00 not ( python", "x" * 1_000_000):
        _, tensors = open_edm(saved(tmp_path, write.pickled(WEIGHT, source=source)))
        np.testing.assert_array_equal(tensors["model.enc.8x8_conv.weight"].read(), WEIGHT)


def test_a_file_of_torch_is_another(tmp_path):
    writer = Writer(legacy=True)
    content = writer.file(ordered(w=writer.tensor(WEIGHT)))
    assert not is_edm(saved(tmp_path, content))
    assert struct.unpack("<B", content[:1])[0] == 0x80
