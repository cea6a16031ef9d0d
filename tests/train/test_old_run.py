"""A run that was written by an earlier version opens, draws what it drew, and goes on.

`old_run.zip` is a run of iMF on digits that stopped at step 4 of 6, before a run said what its data
are. The figures are those of the version that wrote it.
"""

import zipfile
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import plugins as plugins
from core.flow.condition import Condition
from core.train.checkpoint import Checkpoints
from core.train.run import open_run, read_config
from core.train.teachers import build_run
from core.train.trainer import Trainer

STOPPED = [-1.7460836172103882, -0.2223280817270279, 1.3016167879104614]
FINISHED = [-1.7462208271026611, -0.22256560623645782, 1.301674723625183]
SIZE = 840.0866718195346


@pytest.fixture
def folder(tmp_path):
    zipfile.ZipFile(Path(__file__).parent / "old_run.zip").extractall(tmp_path)
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


@pytest.mark.ci
@pytest.mark.slow
def test_an_old_run_goes_on_to_where_it_would_have_ended(folder):
    config = read_config(folder)
    trainer, checkpoints = Trainer(config, build_run(config)), Checkpoints(folder)
    trainer.restore(checkpoints, 4)
    for dispatch in trainer.run():
        assert dispatch.step <= 6
    checkpoints.close()
    np.testing.assert_allclose(drawn(trainer.flow_map()), FINISHED, rtol=0, atol=1e-5)
