"""Training states of flax: files and folders that other libraries wrote are read as they are."""

import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import msgpack_utils

from core.errors import UserError
from core.tensors import open_tensors


def state(rng):
    """Averages and weights one level down, of several types, beside what training needs."""
    net = {
        "blocks": {"layers_0": {"kernel": rng.normal(size=(3, 4)).astype(np.float32)}},
        "half": rng.normal(size=5).astype(np.float16),
        "double": rng.normal(size=(2, 1, 2)),
        "brain": np.asarray(rng.normal(size=6), jnp.bfloat16),
        "count": np.arange(3, dtype=np.int32),
        "scalar": np.float32(2.5).reshape(()),
        "nothing": np.zeros((0, 3), np.float32),
    }
    raw = {"blocks": {"layers_0": {"kernel": np.zeros((3, 4), np.float32)}}}
    moments = {"0": {"count": np.int32(3), "mu": raw}, "1": {}}
    return {"step": 7, "params": {"net": raw}, "ema_params": {"net": net}, "opt_state": moments}


def same(found, tree, before=""):
    """Whether all arrays of a tree are there under their joined names; how many there are."""
    count = 0
    for name, value in tree.items():
        if isinstance(value, dict):
            count += same(found, value, f"{before}{name}.")
            continue
        one, count = found[f"{before}{name}"], count + 1
        assert one.shape == value.shape
        np.testing.assert_array_equal(one.read(), value.astype(one.dtype))
    return count


def test_a_file_of_flax_is_read(rng, tmp_path):
    tree = state(rng)
    path = tmp_path / "checkpoint_7"
    path.write_bytes(msgpack_utils.msgpack_serialize(tree))
    found = open_tensors(path)
    assert found.which == "ema_params"
    assert same(found, tree["ema_params"]["net"]) == len(found) == 7
    raw = open_tensors(path, "model")
    assert raw.which == "params" and set(raw) == {"blocks.layers_0.kernel"}
    assert not raw["blocks.layers_0.kernel"].read().any()
    with pytest.raises(UserError, match="has no weights 'teacher'; it has ema_params, opt_state"):
        open_tensors(path, "teacher")


def test_an_array_in_pieces_is_one(rng, tmp_path, monkeypatch):
    """Above 2^30 bytes flax writes arrays in pieces."""
    monkeypatch.setattr(msgpack_utils, "MAX_CHUNK_SIZE", 40)
    values = rng.normal(size=(7, 9)).astype(np.float32)
    path = tmp_path / "checkpoint_1"
    path.write_bytes(msgpack_utils.msgpack_serialize({"params": {"w": values, "b": values[0, :2]}}))
    found = open_tensors(path)
    np.testing.assert_array_equal(found["w"].read(), values)
    np.testing.assert_array_equal(found["b"].read(), values[0, :2])


def test_a_damaged_file_of_flax_is_refused_or_read(rng, tmp_path):
    good = np.frombuffer(msgpack_utils.msgpack_serialize(state(rng)), np.uint8)
    path, refused = tmp_path / "checkpoint_1", 0
    for _ in range(60):
        bad = good.copy()
        bad[rng.integers(0, len(bad), 2)] = rng.integers(0, 256, 2)
        path.write_bytes(bad[: rng.integers(len(bad) // 2, len(bad) + 1)].tobytes())
        try:
            for one in open_tensors(path).values():
                assert one.read().shape == one.shape
        except UserError as error:
            refused += "\n" not in str(error)
    assert refused > 20


WRITTEN = {
    "packed": {},
    "a folder an array": {"use_ocdbt": False},
    "zarr 3": {"use_ocdbt": True, "use_zarr3": True},
}


@pytest.mark.parametrize("how", WRITTEN)
def test_a_folder_of_orbax_is_read(how, rng, tmp_path):
    import orbax.checkpoint as ocp

    tree = state(rng)
    del tree["ema_params"]["net"]["nothing"]  # Orbax keeps no array without numbers
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**WRITTEN[how])) as writer:
        writer.save(tmp_path / "checkpoint_7", tree)
    found = open_tensors(tmp_path / "checkpoint_7")
    assert found.which == "ema_params"
    assert same(found, tree["ema_params"]["net"]) == len(found) == 6
    assert set(open_tensors(tmp_path / "checkpoint_7", "model")) == {"blocks.layers_0.kernel"}


def test_the_one_item_of_a_checkpoint_is_read(rng, tmp_path):
    import orbax.checkpoint as ocp

    tree = {"params": {"w": rng.normal(size=(2, 3)).astype(np.float32)}}
    with ocp.CheckpointManager(tmp_path / "run") as manager:
        for step in (3, 4):
            manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(tree)))
    found = open_tensors(tmp_path / "run" / "4")
    np.testing.assert_array_equal(found["w"].read(), tree["params"]["w"])
    with pytest.raises(UserError, match="is no folder of Orbax .no _METADATA in it.; name a file"):
        open_tensors(tmp_path / "run")
