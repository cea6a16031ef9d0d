"""What good files of tensors hold is what was written, in every format."""

import numpy as np
import pytest

from core.errors import UserError
from core.tensors import LazyTensor, Record, open_tensors, open_tree
from core.tensors.choose import stripped
from tests.tensors.torch_files import Row, Writer, named, ordered, plain, text, whole

KINDS = ["float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
both = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


def saved(folder, content: bytes, name: str = "file.pt"):
    path = folder / name
    path.write_bytes(content)
    return path


@both
@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_every_kind_come_back(tmp_path, rng, legacy, kind):
    values = (rng.normal(size=(3, 2, 4)) * 9).astype(kind)
    writer = Writer(legacy)
    path = saved(tmp_path, writer.file(ordered(w=writer.tensor(values))))
    found = open_tensors(path)["w"]
    assert (found.shape, found.dtype, found.kind) == ((3, 2, 4), values.dtype, kind)
    np.testing.assert_array_equal(found.read(), values)
    assert np.asarray(found).flags["C_CONTIGUOUS"]


@both
def test_bfloat16_is_read_as_float32(tmp_path, legacy):
    import ml_dtypes

    values = np.array([[1.5, -3.25e-4], [1e30, 0]], np.float32).astype(ml_dtypes.bfloat16)
    writer = Writer(legacy)
    key = writer.add(Row("bfloat16", values.tobytes(), 4))
    path = saved(tmp_path, writer.file(ordered(w=writer.part(key, 0, (2, 2), (2, 1)))))
    found = open_tensors(path)["w"]
    assert found.dtype == np.float32 and found.kind == "bfloat16"
    np.testing.assert_array_equal(found.read(), values.astype(np.float32))


@both
def test_views_share_a_storage(tmp_path, legacy):
    """A part, a transpose, a scalar, an empty one and every second number of one row of numbers."""
    values = np.arange(24, dtype=np.float32)
    writer = Writer(legacy)
    key = writer.add(Row.of(values))
    tree = ordered(
        part=writer.part(key, 4, (2, 3), (6, 2)),
        turned=writer.part(key, 0, (4, 6), (1, 4)),
        one=writer.part(key, 23, (), ()),
        empty=writer.part(key, 0, (0, 5), (5, 1)),
        second=writer.part(key, 1, (12,), (2,)),
    )
    found = open_tensors(saved(tmp_path, writer.file(tree)))
    grid = values.reshape(6, 4)
    np.testing.assert_array_equal(found["part"].read(), [[4, 6, 8], [10, 12, 14]])
    np.testing.assert_array_equal(found["turned"].read(), grid.T)
    assert found["one"].read() == 23 and found["one"].shape == ()
    assert found["empty"].read().shape == (0, 5)
    np.testing.assert_array_equal(found["second"].read(), values[1::2])


@both
def test_the_averaged_weights_of_a_training_checkpoint_are_meant(tmp_path, legacy):
    writer = Writer(legacy)
    old, new = (np.full((2,), v, np.float32) for v in (1, 2))
    model = ordered(**{"module.a": writer.tensor(old), "module.b": writer.tensor(old)})
    ema = ordered(**{"a": writer.tensor(new), "b": writer.tensor(new)})
    args = named("argparse", "Namespace") + b")\x81" + plain(lr=whole(3), model=text("XL")) + b"b"
    optimiser = plain(state=b"}", groups=b"]")
    path = saved(tmp_path, writer.file(plain(model=model, ema=ema, opt=optimiser, args=args)))
    found = open_tensors(path)
    assert found.which == "ema" and list(found) == ["a", "b"] and found["a"].read()[0] == 2
    other = open_tensors(path, "model")
    assert list(other) == ["a", "b"] and other["b"].read()[0] == 1
    kept = open_tree(path)["args"]
    assert isinstance(kept, Record) and kept.state == {"lr": 3, "model": "XL"}
    with pytest.raises(UserError, match="no weights 'teacher'; it has model, ema, opt, args"):
        open_tensors(path, "teacher")


def test_prefixes_are_left_out_where_all_names_have_them():
    one = LazyTensor((), "float32", lambda: np.zeros(()))
    assert list(stripped({"module._orig_mod.a": one, "module._orig_mod.b": one})) == ["a", "b"]
    assert list(stripped({"net.a": one, "b": one})) == ["net.a", "b"]


def test_numbers_are_read_when_they_are_asked_for(tmp_path):
    """The file is changed after it was opened: what is read is what is there by then."""
    writer = Writer()
    content = writer.file(ordered(w=writer.tensor(np.array([1.0, 2.0], np.float32))))
    path = saved(tmp_path, content)
    found = open_tensors(path)["w"]
    place = content.index(np.array([1.0, 2.0], np.float32).tobytes())
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(np.array([7.0], np.float32).tobytes())
    np.testing.assert_array_equal(found.read(), [7, 2])


def test_safetensors_and_npz_have_the_same_face(tmp_path):
    import ml_dtypes
    from safetensors.numpy import save_file

    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array(3, np.int64)}
    half = {"c": np.array([1.5, 2], ml_dtypes.bfloat16)}
    save_file({f"module.{k}": v for k, v in (arrays | half).items()}, tmp_path / "x.safetensors")
    np.savez(tmp_path / "x.npz", **arrays)
    for name in ("x.safetensors", "x.npz"):
        found = open_tensors(tmp_path / name)
        for key, values in arrays.items():
            assert (found[key].shape, found[key].dtype) == (values.shape, values.dtype)
            np.testing.assert_array_equal(found[key].read(), values)
    assert open_tensors(tmp_path / "x.safetensors")["c"].kind == "bfloat16"
    found = open_tensors(tmp_path / "x.safetensors")["c"].read()
    np.testing.assert_array_equal(found, np.array([1.5, 2], np.float32))
