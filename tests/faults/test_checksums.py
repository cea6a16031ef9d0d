"""A checkpoint that changed after it was saved is named, and the one before is taken."""

import os
import re
import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.train.checkpoint import Checkpoints, Damaged
from core.train.folder import (
    FORMAT,
)
from core.train.run import open_run
from core.train.sums import sum_of, sums_of, wrong
from tests.apps.inside import run as inside

pytestmark = pytest.mark.programs(150)  # runs are built, saved and opened


def weights(folder):
    return jax.tree.leaves(eqx.filter(open_run(folder).flow_map, eqx.is_inexact_array))


def flip(file, where):
    data = bytearray(file.read_bytes())
    data[where % len(data)] ^= 0x10
    file.write_bytes(data)


def test_a_sum_depends_on_each_value_on_shape_and_dtype(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    sums = {sum_of(x), sum_of(x.reshape(4, 3)), sum_of(x.astype(np.float64)), sum_of(-x)}
    one = x.copy()
    one[2, 1] = np.nextafter(one[2, 1], 1)
    assert len(sums | {sum_of(one)}) == 5
    assert sum_of(np.asarray(1.0)) != sum_of(np.asarray(2.0))


def test_sums_of_keys_and_of_wider_dtypes(rng):
    arrays = {"x": jnp.asarray(rng.standard_normal(5), jnp.float32), "key": jax.random.key(3)}
    sums = sums_of(arrays)
    assert wrong(arrays, sums) is None
    assert wrong({**arrays, "key": jax.random.key(4)}, sums) == "key"
    assert wrong({"x": np.asarray(arrays["x"], np.float64)}, sums) is None
    assert wrong({"x": np.asarray(arrays["x"], np.float64) * 2}, sums) == "x"


def test_a_sum_that_does_not_fit_is_a_damage_and_the_step_before_is_taken(
    run, original, monkeypatch, capsys
):
    """As if a bit of the newest checkpoint had changed without the reader's notice."""
    newest = weights(original)
    kept = Checkpoints._sums

    def changed(self, step):
        found = kept(self, step)
        if step == 3:
            found["state"] = {k: v[:-1] + "-" for k, v in found["state"].items()}
        return found

    monkeypatch.setattr(Checkpoints, "_sums", changed)
    opened = open_run(run)
    line = capsys.readouterr().err
    assert opened.step == 0 and line.count("\n") == 1
    assert re.search(
        r"checkpoint .*run/checkpoints/3 cannot be read \(ema.* has not its check", line
    )
    assert line.endswith("step 0 is taken in its place\n")
    leaves = jax.tree.leaves(eqx.filter(opened.flow_map, eqx.is_inexact_array))
    assert not any(np.array_equal(a, b) for a, b in zip(newest, leaves))


def test_damaged_checkpoints_are_set_aside_and_not_deleted(run):
    shutil.rmtree(run / "checkpoints" / "3" / "state" / "d")
    checkpoints = Checkpoints(run)
    with pytest.raises(Damaged):
        checkpoints.restore_part(3, {"ema": {}} | {"step": jnp.zeros((), jnp.int32)})
    checkpoints.set_aside(0)
    assert checkpoints.steps() == (0,)
    checkpoints.close()
    assert os.listdir(run / "damaged") == ["3"]


def test_inspect_says_which_checkpoint_is_damaged(run):
    status, _, found = inside("inspect", "--run", run, "--verify", "--json")
    assert status == 0 and found["marker"]["format"] == FORMAT
    assert [row["state"] for row in found["checkpoints"]] == ["verified", "verified"]
    file = next(f for f in (run / "checkpoints" / "3" / "state" / "d").iterdir())
    flip(file, file.stat().st_size // 2)
    status, _, found = inside("inspect", "--run", run, "--verify", "--json")
    assert status == 1
    assert [row["damaged"] for row in found["checkpoints"]] == [False, True]


def damages(count, seed=0):
    rng = np.random.default_rng(seed)
    return [tuple(rng.random(3)) for _ in range(count)]


def damaged(original, tmp_path, number, draws):
    """A copy of the run with one file of its newest checkpoint cut, emptied, flipped or gone."""
    run = shutil.copytree(original, tmp_path / f"run{number}")
    shutil.rmtree(run / "checkpoints" / "0")
    found = [f for f in sorted((run / "checkpoints").rglob("*")) if f.is_file()]
    sizes = np.cumsum([f.stat().st_size + 30 for f in found])
    file = found[int(np.searchsorted(sizes, draws[0] * sizes[-1]))]
    size = file.stat().st_size
    if draws[1] < 0.7:
        flip(file, int(draws[2] * size)) if size else file.unlink()
    elif draws[1] < 0.9:
        os.truncate(file, int(draws[2] * size))
    else:
        file.unlink()
    return run, file


def silent(original, tmp_path, count, seed=0):
    """The damages after which the run opens with other weights, and how many are refused."""
    wanted, bad, refused = weights(original), [], 0
    for number, draws in enumerate(damages(count, seed)):
        run, file = damaged(original, tmp_path, number, draws)
        try:
            got = weights(run)
            if not all(np.array_equal(a, b) for a, b in zip(wanted, got)):
                bad.append((file, draws))
        except UserError:
            refused += 1
        shutil.rmtree(run)
    return bad, refused


@pytest.mark.slow
def test_no_damage_of_a_checkpoint_changes_weights_in_silence(original, tmp_path):
    bad, refused = silent(original, tmp_path, 20)
    assert bad == [] and refused > 5


@pytest.mark.long
def test_none_of_500_damages_changes_weights_in_silence(original, tmp_path):
    bad, refused = silent(original, tmp_path, 500, seed=1)
    print(f"500 damages: {refused} refused, {500 - refused} without effect, {len(bad)} silent")
    assert bad == [] and refused > 100
