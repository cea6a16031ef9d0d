"""Whatever bytes a file holds, its reader gives values or one line.

Each reader is given files that were whole and are then cut, changed, doubled and mixed. The
slow set tries a few of each, the long one 2,000.
"""

import gzip
import json
import struct
import warnings
from io import BytesIO
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jax import export
from PIL import Image
from safetensors.numpy import save

from core.data.arrays import ArraysData
from core.data.cifar import Cifar10Data
from core.data.idx import IdxData
from core.data.picture import read_image
from core.data.text import TextData
from core.errors import UserError
from core.export import folder as exported
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import PATHS
from core.tensors import open_tensors
from core.train import packed, toml
from core.train.folder import MARKER, Marker, mark, read_marker
from core.train.journal import Journal, last_step
from core.train.run import kept_spec, read_config
from core.train.sums import sums_of
from tests.tensors.torch_files import Row, Writer, ordered

X = np.random.default_rng(0).integers(0, 255, (12, 8, 8), dtype=np.uint8)
TEXT = "ein W\u00f6rterbuch, Zeile um Zeile\n".encode() * 9
LABELS = (np.arange(12) % 3).astype(np.uint8)


def idx(array):
    head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    return head + array.tobytes()


def npy(array):
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def npz(compress):
    stream = BytesIO()
    (np.savez_compressed if compress else np.savez)(stream, x=X, y=LABELS.astype(int))
    return stream.getvalue()


def codes():
    stream = BytesIO()
    np.savez(stream, codes=X[:, 0] % 4, vocabulary=np.array(list("abcd")), end="a")
    return stream.getvalue()


def picture(kind, **options):
    stream = BytesIO()
    Image.fromarray(np.stack([X[0]] * 3, -1)).save(stream, kind, **options)
    return stream.getvalue()


CONFIG = """steps = 20
batch = 32
evals = [1, 2]
ema = 0.99

[plugin]
name = "imf"
diagonal = 0.5
power = 1.0

[data]
name = "two-moons"
n = 64

[net]
name = "mlp"
width = 16
depth = 2

[optim]
rate = 0.001
name = "adam"
"""
SPEC = """name = "digits"
kind = "image"
shape = [8, 8, 1]
num_classes = 2
class_names = ["a", "b"]
levels = 16
count = 7
class_counts = [3, 4]
fingerprint = "0123456789abcdef"

[scale]
centre = [3.5]
spread = [0.25]
span = 2.5
"""
METRICS = "".join(json.dumps({"step": k, "loss": 0.5, "grad_norm": 1.25}) + "\n" for k in range(6))


class Net(eqx.Module):
    weight: jax.Array

    def __call__(self, x, s, t, cond):
        return x


LIKE = AverageVelocityMap(net=Net(jnp.zeros((4, 3))), path=PATHS["linear"]())  # type: ignore


def weights():
    arrays = {"net.weight": np.arange(12, dtype=np.float32).reshape(4, 3)}
    return save(arrays, {"step": "3", "sums": json.dumps(sums_of(arrays))})


def program():
    double = jax.jit(lambda weights, x: x + weights["a"])
    shape = jax.ShapeDtypeStruct((2,), jnp.float32)
    return bytes(export.export(double, platforms=["cpu"])({"a": shape}, x=shape).serialize())


def images(folder, data):
    (folder / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    IdxData(str(folder)).load()


def config(folder):
    read_config(folder)
    tree = toml.read(folder / "config.toml")
    toml.check_flags(tree, "c")
    toml.to_flags(tree)


def log(folder):
    last_step(folder)
    Journal(folder, 3).close()
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["step"] <= 3 for line in lines)


def pictured(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (0, 4):
            read_image(folder / "a.png", size, False)


def mapped(folder):
    data = ArraysData(str(folder), resident_mb=0).load()
    data.take(np.array([0, len(data) - 1]))


def program_of(folder):
    (folder / exported.WEIGHTS).write_bytes(save({"a": np.zeros(2, np.float32)}))
    exported.read(folder)


def torch_file(legacy):
    writer, values = Writer(legacy), np.arange(24, dtype=np.float32).reshape(4, 6)
    key = writer.add(Row.of(values))
    parts = [writer.part(key, k, (2, 3), (6, 1)) for k in range(3)]
    return writer.file(ordered(a=parts[0], b=parts[1], c=writer.tensor(X), d=parts[2]))


def tensors(path):
    for one in open_tensors(path).values():
        assert one.read().shape == one.shape


def cifar():
    rng = np.random.default_rng(1)
    return rng.integers(0, 10, (2, 3073), dtype=np.uint8).tobytes()


READERS = {
    "idx": ("train-images-idx3-ubyte", lambda: idx(X), lambda f: images(f, X)),
    "idx.gz": ("train-images-idx3-ubyte.gz", lambda: gzip.compress(idx(X)), lambda f: images(f, X)),
    "cifar": ("data_batch_1.bin", cifar, lambda f: Cifar10Data(str(f)).load()),
    "npz": ("a.npz", lambda: npz(False), lambda f: ArraysData(str(f / "a.npz")).load()),
    "npz packed": ("a.npz", lambda: npz(True), lambda f: ArraysData(str(f / "a.npz")).load()),
    "text": (
        "a.txt.gz",
        lambda: gzip.compress(TEXT),
        lambda f: TextData(str(f / "a.txt.gz")).load(),
    ),
    "codes": ("a.npz", codes, lambda f: TextData(str(f / "a.npz")).load()),
    "npy": ("a.npy", lambda: npy(X), lambda f: ArraysData(str(f / "a.npy")).load()),
    "png": ("a.png", lambda: picture("PNG"), pictured),
    "jpeg": ("a.png", lambda: picture("JPEG"), pictured),
    "webp": ("a.png", lambda: picture("WEBP"), pictured),
    "bmp": ("a.png", lambda: picture("BMP"), pictured),
    "tiff": ("a.png", lambda: picture("TIFF"), pictured),
    "tiff packed": ("a.png", lambda: picture("TIFF", compression="tiff_lzw"), pictured),
    "gif": ("a.png", lambda: picture("GIF"), pictured),
    "avif": ("a.png", lambda: picture("AVIF"), pictured),
    "shards": ("x-0.npy", lambda: npy(X), mapped),
    "config": ("config.toml", CONFIG.encode, config),
    "data.toml": ("data.toml", SPEC.encode, kept_spec),
    "marker": (MARKER, lambda: b"", read_marker),
    "metrics": ("metrics.jsonl", METRICS.encode, log),
    "safetensors": (packed.FILE, weights, lambda f: packed.unpack(LIKE, f)),
    "torch zip": ("a.pt", lambda: torch_file(False), lambda f: tensors(f / "a.pt")),
    "torch legacy": ("a.pt", lambda: torch_file(True), lambda f: tensors(f / "a.pt")),
    "tensors npz": ("a.pt", lambda: npz(False), lambda f: tensors(f / "a.pt")),
    "tensors safe": ("a.pt", weights, lambda f: tensors(f / "a.pt")),
    "program": (exported.PROGRAM, program, program_of),
}

CHANGE = st.tuples(
    st.sampled_from(["flip", "set", "cut", "drop", "insert", "double", "swap", "huge"]),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
    st.binary(min_size=1, max_size=8),
)


def changed(data, changes):
    """The bytes after these changes, each at a share of the length."""
    for kind, a, b, some in changes:
        i, j = sorted((int(a * len(data)), int(b * len(data))))
        if kind == "flip" and data:
            data = data[:i] + bytes([data[i] ^ (1 << (some[0] % 8))]) + data[i + 1 :]
        elif kind == "set":
            data = data[:i] + some + data[i + len(some) :]
        elif kind == "cut":
            data = data[:j]
        elif kind == "drop":
            data = data[:i] + data[min(j, i + 16) :]
        elif kind == "insert":
            data = data[:i] + some + data[i:]
        elif kind == "double":
            data = data[:j] + data[i:]
        elif kind == "swap":
            data = data[j:] + data[i:j] + data[:i]
        elif kind == "huge":
            data = data[:i] + b"\xff" * 4 + data[i + 4 :]
    return data


def try_readers(name, folder, count):
    file, make, reader = READERS[name]
    if name == "marker":
        mark(folder, Marker())
    whole = (folder / file).read_bytes() if name == "marker" else make()
    (folder / file).write_bytes(whole)
    reader(folder)  # whole, it is read
    seen = {"values": 0, "lines": 0}

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(CHANGE, min_size=1, max_size=4))
    def attempt(changes):
        (folder / file).write_bytes(changed(whole, changes))
        try:
            reader(folder)
            seen["values"] += 1
        except UserError as error:
            assert str(error) and len(str(error)) < 2000
            seen["lines"] += 1

    attempt()
    return seen


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_a_reader_gives_values_or_one_line(name, tmp_path):
    assert try_readers(name, tmp_path, 60)["lines"] > 0 or name == "metrics"


@pytest.mark.long
@pytest.mark.parametrize("name", READERS)
def test_a_reader_gives_values_or_one_line_for_2000_changes(name, tmp_path):
    seen = try_readers(name, tmp_path, 2000)
    print(f"{name}: {seen['lines']} lines, {seen['values']} values")


def test_weights_that_changed_do_not_open(tmp_path):
    """The header is as it was, so that nothing but the checksum can tell."""
    whole = weights()
    (tmp_path / packed.FILE).write_bytes(whole)
    packed.unpack(LIKE, tmp_path)
    (tmp_path / packed.FILE).write_bytes(whole[:-3] + b"\x01" + whole[-2:])
    with pytest.raises(UserError, match="net.weight has not its checksum"):
        packed.unpack(LIKE, tmp_path)


PROMISE = b"\x93NUMPY\x01\x00\x76\x00" + (
    b"{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000, 8, 8), }".ljust(117) + b"\n"
)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_a_header_that_promises_terabytes(name, tmp_path):
    import zipfile

    file = tmp_path / name
    if name == "a.npy":
        file.write_bytes(PROMISE)
    else:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("x.npy", PROMISE)
    with pytest.raises(UserError, match="truncated or damaged"):
        ArraysData(str(file)).load()


def test_an_encrypted_archive(tmp_path):
    data = bytearray(npz(False))
    for at in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1  # the bit that says so
    (tmp_path / "a.npz").write_bytes(bytes(data))
    with pytest.raises(UserError, match="encrypted"):
        ArraysData(str(tmp_path / "a.npz")).load()


def test_a_packed_idx_file_is_unpacked_no_further_than_its_header_says(tmp_path):
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    bomb = gzip.compress(idx(X) + bytes(2**22))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(bomb)
    with pytest.raises(UserError, match="769 bytes of values where its header says 12 x 8 x 8"):
        IdxData(str(tmp_path)).load()


def test_deep_toml(tmp_path):
    path = Path(tmp_path / "c.toml")
    path.write_text("a = " + "[" * 50_000 + "]" * 50_000)
    with pytest.raises(UserError, match="c.toml is n"):
        toml.read(path)
