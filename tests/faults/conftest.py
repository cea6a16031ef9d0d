"""A run that is spoilt in many ways."""

import shutil

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from core.train.checkpoint import Checkpoints
from tests.apps.conftest import POINTS
from tests.train.runs import make_run


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A run with checkpoints of steps 0 and 3."""
    folder = tmp_path_factory.mktemp("original") / "run"
    trainer = make_run(folder, *POINTS)
    trainer.state = eqx.tree_at(lambda s: s.step, trainer.state, jnp.asarray(3, jnp.int32))
    trainer.state = eqx.tree_at(
        lambda s: s.ema, trainer.state, jax.tree.map(lambda x: x + 1, trainer.state.ema)
    )
    checkpoints = Checkpoints(folder, 2)
    trainer.save(checkpoints)
    checkpoints.close()
    return folder


@pytest.fixture
def run(original, tmp_path):
    return shutil.copytree(original, tmp_path / "run")
