"""Training on several devices gives the numbers of training on one."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from core.errors import UserError
from core.train.config import MeshConfig
from core.train.sharding import Placement, spec

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MESHES = ["1x1", "8x1", "1x8", "4x2"]

EIGHT_DEVICES = """
import dataclasses, json, re, sys
from pathlib import Path
import jax, numpy as np
import plugins
from core.train.build import build
from core.train.checkpoint import Checkpoints, by_name
from core.train.cli import parse
from core.train.config import MeshConfig
from core.train.trainer import Trainer

FLAGS = "--data two-moons --data.n 64 --net.width 8 --net.depth 1 --batch 16 --optim.warmup 0 "
COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|reduce-scatter|collective-permute|all-to-all)(-start)?[(]")
report = {"devices": jax.device_count(), "losses": {}, "more": {}, "collectives": {}}

def trainer(data, fsdp, flags="--plugin mf --plugin.diagonal 0", steps=2, accumulate=1):
    dispatch = f" --dispatch 2 --steps {steps} --accumulate {accumulate}"
    config = parse((FLAGS + flags + dispatch).split())
    config = dataclasses.replace(config, mesh=MeshConfig(data, fsdp, smallest=16))
    return Trainer(config, build(config))

def losses(trainer):
    rows = (part.metrics for part in trainer.run())
    return [[row["loss"], row["grad_norm"]] for row in rows]

def collectives(program):
    return [found[1] for found in COLLECTIVE.finditer(program.as_text())]

def compiled(trainer):
    return trainer.program().lower().compile()

def longer(trainer):
    config = dataclasses.replace(trainer.config, steps=trainer.config.steps + 4)
    trainer.config = config

checkpoints = Checkpoints(Path(sys.argv[1]))
kept = {}
for data, fsdp in ((1, 1), (8, 1), (1, 8), (4, 2)):
    kept[data, fsdp] = one = trainer(data, fsdp, steps=6)
    name = f"{data}x{fsdp}"
    report["losses"][name] = losses(one)
    if (data, fsdp) == (4, 2):
        state = by_name(one.state)
        report["specs"] = {k: str(v.sharding.spec) for k, v in state.items()}
        report["shapes"] = {k: v.shape for k, v in state.items()}
        one.save(checkpoints)
        whole = jax.tree.leaves(one.averaged())
        report["averaged_on"] = [len(a.devices()) for a in whole if isinstance(a, jax.Array)]

for data, fsdp in ((4, 2), (1, 1), (2, 1), (2, 2)):
    one = kept.get((data, fsdp)) or trainer(data, fsdp, steps=6)
    one.restore(checkpoints, checkpoints.latest())
    longer(one)
    report["more"][f"{data}x{fsdp}"] = losses(one)
    report["more_on"] = len(jax.tree.leaves(one.state.players)[0].devices())
checkpoints.close()

program = compiled(kept[4, 2])
report["shard"] = program.input_shardings[0][-1]["index"].shard_shape((1, 16))
report["collectives"]["mf"] = collectives(program)
report["collectives"]["fm"] = collectives(compiled(trainer(4, 2, "--plugin fm")))
split = trainer(8, 1, "--plugin mf --plugin.diagonal 0.5")
report["collectives"]["split"] = collectives(compiled(split))

def adapting(data, fsdp):
    flags = (FLAGS + "--plugin mf --dispatch 2 --steps 4 ").split()
    plain = build(parse(flags)).method.flow_map
    start = jax.tree.map(lambda a: a + 0.1 if isinstance(a, jax.Array) else a, plain)
    config = parse([*flags, "--init", "given", "--adapter.rank", "2"])
    config = dataclasses.replace(config, mesh=MeshConfig(data, fsdp, smallest=16))
    return Trainer(config, build(config, start=start))

one, other = adapting(1, 1), adapting(4, 2)
report["adapters"] = [losses(one), losses(other)]
base = by_name(other._base)
report["bases"] = {k: [str(v.sharding.spec), v.size] for k, v in base.items()}
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What one process with eight devices found, on one of them, on some and on all."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "8"}
    folder = tmp_path_factory.mktemp("run")
    command = [sys.executable, "-c", EIGHT_DEVICES, str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("mesh", MESHES[1:])
def test_losses_and_gradients_on_any_mesh_are_those_on_one_device(report, mesh):
    one = report["losses"]["1x1"]
    assert report["devices"] == 8 and np.shape(one) == (3, 2)
    np.testing.assert_allclose(report["losses"][mesh], one, rtol=1e-5)
    assert len(set(np.ravel(one))) == 6


def test_parameters_averages_and_optimiser_are_divided_alike(report):
    specs, shapes = report["specs"], report["shapes"]
    divided = {name for name, spec in specs.items() if "fsdp" in spec}
    weights = [name for name in shapes if name.startswith("players.") and "hidden" in name]
    for name in weights:
        part = name.removeprefix("players.model.")
        same = [other for other in specs if other.endswith(part)]
        assert len(same) == 4 and len({specs[other] for other in same}) == 1
    assert {name for name in weights if np.prod(shapes[name]) >= 16} == divided & set(weights)
    assert not {"step", "key", "rollbacks"} & divided


def test_the_base_of_an_adapter_is_divided_like_any_other_array(report):
    one, other = report["adapters"]
    np.testing.assert_allclose(other, one, rtol=1e-5)
    large = {name: spec for name, (spec, size) in report["bases"].items() if size >= 16}
    assert large and all("fsdp" in spec for spec in large.values())


def test_batches_are_divided_over_both_axes_and_samples_come_from_one_device(report):
    assert report["shard"] == [1, 2]
    assert set(report["averaged_on"]) == {1}


@pytest.mark.parametrize("mesh", ["1x1", "2x1", "2x2"])
def test_a_checkpoint_of_eight_devices_goes_on_alike_on_fewer(report, mesh):
    there = report["more"]["4x2"]
    assert np.shape(there) == (2, 2)
    np.testing.assert_allclose(report["more"][mesh], there, rtol=1e-5)
    assert report["more_on"] == 4


def test_a_derivative_adds_no_communication(report):
    """The same collectives, by kind and number, as flow matching; and a batch that is split into
    kinds of rows is split where it lies."""
    counts = {name: Counter(found) for name, found in report["collectives"].items()}
    assert counts["mf"] == counts["fm"]
    assert counts["fm"]["all-gather"] > 0 and counts["fm"]["all-reduce"] > 0
    assert set(counts["split"]) == {"all-reduce"}


@pytest.mark.parametrize(
    "shape, parts, expected",
    [
        ((12, 64, 256), 8, P(None, None, "fsdp")),
        ((12, 256, 64), 8, P(None, "fsdp")),
        ((64, 64), 8, P(None, "fsdp")),
        ((256, 63), 8, P("fsdp")),
        ((257, 64), 8, P(None, "fsdp")),
        ((255, 63), 8, P()),
        ((8, 8), 8, P()),  # small
        ((64, 64), 1, P()),
        ((), 8, P()),
    ],
)
def test_the_largest_axis_that_can_be_is_divided(shape, parts, expected):
    assert spec(shape, parts, 100) == expected


@pytest.mark.parametrize(
    "mesh, accumulate, message",
    [
        (MeshConfig(), 1, "--batch 30 is not divisible by --mesh.data 4$"),
        (MeshConfig(fsdp=4), 1, "--batch 30 is not divisible by --mesh.fsdp 4$"),
        (MeshConfig(1), 4, "--batch 30 is not divisible by --accumulate 4$"),
        (MeshConfig(2, 1), 2, "by --mesh.data 2 x --accumulate 2$"),
        (MeshConfig(fsdp=3), 1, "--mesh.fsdp 3 does not divide the 4 devices"),
        (MeshConfig(fsdp=8), 1, r"--mesh.fsdp 8 .* than there are \(4\); use --mesh.fsdp 4"),
        (MeshConfig(4, 2), 1, r"--mesh.data 4 .* than there are \(2\); use --mesh.data 2"),
    ],
)
def test_what_the_devices_do_not_divide_is_refused(monkeypatch, mesh, accumulate, message):
    monkeypatch.setattr("jax.device_count", lambda: 4)
    with pytest.raises(UserError, match=message):
        Placement(mesh, 30, accumulate)


def test_more_devices_than_there_are_are_refused():
    with pytest.raises(UserError, match=r"--mesh.data 99 .* use --mesh.data 1 or less"):
        Placement(MeshConfig(data=99), 99)
