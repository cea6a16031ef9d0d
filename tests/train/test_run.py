"""A run opens from its folder alone."""

import shutil

import equinox as eqx
import jax
import numpy as np
import pytest

import plugins as plugins
from core.errors import UserError
from core.train.checkpoint import Checkpoints
from core.train.claim import claim
from core.train.cli import parse
from core.train.run import open_run, read_config
from core.train.teachers import build_run
from core.train.trainer import Trainer

NET = ["--net", "mlp", "--net.width", "8", "--net.depth", "2", "--batch", "8"]


def arrays(flow_map):
    return jax.tree.leaves(eqx.filter(flow_map, eqx.is_inexact_array))


def saved(folder, *flags):
    """A run that has not begun, and its map."""
    config = parse([*NET, *flags, "--run", str(folder)])
    built = build_run(config)
    trainer, checkpoints = Trainer(config, built), Checkpoints(claim(config, built.dataset.spec))
    trainer.save(checkpoints)
    checkpoints.close()
    return trainer.flow_map()


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The folder of a student whose data and teacher are gone, and its map."""
    place = tmp_path_factory.mktemp("runs")
    values = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)
    np.savez(place / "mine.npz", x=values, labels=np.arange(12) % 3)
    data = ["--data", "arrays", "--data.path", str(place / "mine.npz")]
    saved(place / "fm", "--plugin", "fm", *data)
    teacher = ["--teacher", str(place / "fm"), "--plugin.no-warm-start"]
    student = saved(place / "lmd", "--plugin", "lmd", *data, *teacher)
    (place / "mine.npz").unlink()
    shutil.rmtree(place / "fm")
    return place / "lmd", student


def test_neither_data_nor_teacher_need_be_there(taught):
    folder, student = taught
    run = open_run(folder)
    assert jax.tree.structure(run.flow_map) == jax.tree.structure(student)
    assert all(map(np.array_equal, arrays(run.flow_map), arrays(student)))
    assert (run.kind, run.shape, run.num_classes, run.sampler) == ("points", (2,), 3, "pushforward")
    assert run.names == {"model"}


def test_what_needs_the_data_says_so_in_one_line(taught):
    run = open_run(taught[0])
    with pytest.raises(UserError, match="needs the data that .*lmd was trained on .*mine.npz") as e:
        run.data()
    assert "\n" not in str(e.value)


def test_the_averaged_weights_are_all_that_is_read(taught, tmp_path):
    folder, student = taught
    for name in ("config.toml", "data.toml"):
        shutil.copy(folder / name, tmp_path)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(7, {"ema": {"model": eqx.filter(student, eqx.is_inexact_array)}}, {"drawn": 0})
    checkpoints.close()
    run = open_run(tmp_path)
    assert run.step == 7 and all(map(np.array_equal, arrays(run.flow_map), arrays(student)))


def test_a_setting_that_is_none_is_named(taught, tmp_path):
    text = (taught[0] / "config.toml").read_text()
    (tmp_path / "config.toml").write_text(text.replace("width = 8", 'width = "8"'))
    with pytest.raises(UserError, match="--net.width '8' is not of the type int"):
        read_config(tmp_path)
    (tmp_path / "config.toml").write_text(text.replace("width = 8", "breadth = 8"))
    with pytest.raises(UserError, match="--net.breadth is no setting of this version"):
        read_config(tmp_path)
