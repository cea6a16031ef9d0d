"""A run that was written by an earlier version opens, draws what it drew, and goes on.

`old_run.zip` is a run of iMF on digits that stopped at step 4 of 6, before a run said what its data
are (format 0). `run_format_1.zip` is one on two moons, with a marker, its data and checksums
(format 1). The figures are those of the version that wrote each. A new format brings its own run.
"""

import dataclasses
import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tomli_w

import plugins as plugins
from core.flow.condition import Condition
from core.train import toml
from core.train.checkpoint import Checkpoints
from core.train.claim import claim
from core.train.cli import parse
from core.train.folder import FORMAT, read_marker
from core.train.run import completed, open_run, read_config
from core.train.teachers import build_run
from core.train.trainer import Trainer

STOPPED = [-1.7460836172103882, -0.2223280817270279, 1.3016167879104614]
FINISHED = [-1.7462208271026611, -0.22256560623645782, 1.301674723625183]
SIZE = 840.0866718195346
STOPPED_1 = [-2.7782344818115234, -0.9199186563491821, 0.21212977170944214]
FINISHED_1 = [-2.614718437194824, -0.862470269203186, 0.2922104001045227]


@pytest.fixture
def folder(tmp_path):
    return stored("old_run", tmp_path)


@pytest.fixture
def folder_1(tmp_path):
    return stored("run_format_1", tmp_path)


def stored(name, tmp_path):
    zipfile.ZipFile(Path(__file__).with_name(f"{name}.zip")).extractall(tmp_path)
    return tmp_path


def drawn(flow_map):
    """Three pixels of the 3 that a fixed noise becomes in one step."""
    z = np.linspace(-2, 2, 64, dtype=np.float32).reshape(8, 8, 1)
    three = Condition(label=jnp.asarray(3))
    x = jax.jit(lambda z: flow_map(z, jnp.asarray(1.0), jnp.asarray(0.0), three))(z)
    return np.asarray(x)[::3, 4, 0]


def test_an_old_run_opens_and_draws_what_it_drew(folder):
    run = open_run(folder)
    assert (run.step, run.sampler, run.kind, run.shape) == (4, "pushforward", "image", (8, 8, 1))
    assert run.class_names == tuple("0123456789")
    leaves = jax.tree.leaves(eqx.filter(run.flow_map, eqx.is_inexact_array))
    assert sum(np.abs(np.asarray(x, np.float64)).sum() for x in leaves) == pytest.approx(
        SIZE, 1e-12
    )
    np.testing.assert_allclose(drawn(run.flow_map), STOPPED, rtol=0, atol=1e-5)


def gone_on(folder):
    """The map at the end of the run in this folder."""
    config = read_config(folder)
    built = build_run(config)
    claim(config, built.dataset.spec)
    trainer, checkpoints = Trainer(config, built), Checkpoints(folder)
    assert trainer.restore_newest(checkpoints) == 4
    for dispatch in trainer.run():
        assert dispatch.step <= 6
    checkpoints.close()
    return trainer.flow_map()


@pytest.mark.ci
@pytest.mark.slow
def test_an_old_run_goes_on_to_where_it_would_have_ended(folder):
    np.testing.assert_allclose(drawn(gone_on(folder)), FINISHED, rtol=0, atol=1e-5)


def drawn_points(flow_map):
    """The first numbers of what three points become in one step."""
    z = np.linspace(-2, 2, 6, dtype=np.float32).reshape(3, 2)
    one, zero = jnp.asarray(1.0), jnp.asarray(0.0)
    return np.asarray(jax.jit(jax.vmap(lambda z: flow_map(z, one, zero, Condition())))(z))[:, 0]


@pytest.mark.slow
def test_a_run_of_format_1_opens_and_goes_on(folder_1):
    assert FORMAT == 1 and read_marker(folder_1).format == 1
    np.testing.assert_allclose(
        drawn_points(open_run(folder_1).flow_map), STOPPED_1, rtol=0, atol=1e-5
    )
    np.testing.assert_allclose(drawn_points(gone_on(folder_1)), FINISHED_1, rtol=0, atol=1e-5)


def test_settings_that_are_younger_than_a_run_are_off_in_it(tmp_path):
    """Text has short convolutions since, by its recipe; a comparison knows its own cells."""
    config = parse(["--data", "bigram", "--run", str(tmp_path)])
    assert config.net_flags.neighbours == 5
    tree = toml.to_dict(config)
    del tree["net"]["neighbours"]
    (tmp_path / "config.toml").write_text(tomli_w.dumps(tree))
    found = read_config(tmp_path)
    assert found.net_flags == dataclasses.replace(config.net_flags, neighbours=0)
    assert completed(tree) == toml.to_dict(found)
