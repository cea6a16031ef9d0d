"""Training on several devices gives the numbers of training on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import UserError
from core.train.config import MeshConfig
from core.train.sharding import Placement

ROOT = Path(__file__).parents[2]

FOUR_DEVICES = """
import dataclasses, json, sys
from pathlib import Path
import jax, numpy as np
import plugins
from core.train.build import build
from core.train.checkpoint import Checkpoints
from core.train.cli import parse
from core.train.config import MeshConfig
from core.train.trainer import Trainer

flags = "--data two-moons --data.n 256 --net.width 16 --net.depth 2 --batch 32 --steps 6"
config = parse([*flags.split(), "--dispatch", "2", "--optim.warmup", "0"])
report = {"devices": jax.device_count(), "losses": []}
for count in (1, 4):
    placed = dataclasses.replace(config, mesh=MeshConfig(data=count))
    trainer = Trainer(placed, build(placed))
    report["losses"].append([part.metrics["loss"] for part in trainer.run()])
    raw, _ = trainer._draw(1)
    report["shards"] = [list(shard.data.shape) for shard in raw["index"].addressable_shards]
    leaf = jax.tree.leaves(trainer.state.players)[0]
    report["copies"] = len(leaf.addressable_shards)
    report["whole"] = leaf.is_fully_replicated
checkpoints = Checkpoints(Path(sys.argv[1]))
trainer.save(checkpoints)
alone = Trainer(config, build(config))
alone.restore(checkpoints, checkpoints.latest())
checkpoints.close()
report["devices_after"] = len(jax.tree.leaves(alone.state.players)[0].devices())
pairs = zip(jax.tree.leaves(alone.state.ema), jax.tree.leaves(trainer.state.ema))
report["same"] = all(np.array_equal(a, b) for a, b in pairs)
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What one process with four devices found, on one of them and on all."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "4"}
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-c", FOUR_DEVICES, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_losses_on_four_devices_are_those_on_one(report):
    one, four = report["losses"]
    assert report["devices"] == 4 and len(one) == 3
    assert four == pytest.approx(one, rel=1e-5)
    assert len(set(one)) == 3


def test_batches_are_divided_and_parameters_are_everywhere(report):
    assert report["shards"] == [[1, 8]] * 4
    assert report["copies"] == 4 and report["whole"]


def test_a_checkpoint_of_four_devices_is_read_on_one(report):
    assert report["same"] and report["devices_after"] == 1


def test_a_batch_that_the_devices_do_not_divide_is_refused(monkeypatch):
    monkeypatch.setattr("jax.device_count", lambda: 4)
    with pytest.raises(UserError, match="--batch 30 is not divisible by --mesh.data 4"):
        Placement(MeshConfig(data=0), 30)


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(UserError, match=r"--mesh.data 99 .* use --mesh.data 1 or less"):
        Placement(MeshConfig(data=99), 99)
