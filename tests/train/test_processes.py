"""Two processes train one run: they stop together, and neither outlives the other for long."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import plugins as plugins
from core.errors import UserError
from core.train import processes
from core.train.build import build
from core.train.checkpoint import Checkpoints
from core.train.cli import parse
from core.train.config import ClusterConfig
from core.train.trainer import Trainer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FLAGS = (
    "--plugin fm --data two-moons --data.n 64 --net.width 8 --net.depth 1 --batch 16 --evals 1 "
    "--steps 1000000 --dispatch 20 --log-every 20 --save-every 0 --sample-every 0 --mesh.smallest 1"
).split()
SOON = 120.0
"""Seconds within which a process must have ended; JAX's own heartbeat may need 60."""


def start_two(folder):
    """Both processes of one run, the state divided between them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "apps.train", *FLAGS, "--run", str(folder), "--mesh.fsdp", "2"]
    command += f"--distributed --coordinator 127.0.0.1:{port} --processes 2 --process".split()
    env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_NUM_CPU_DEVICES": "1"}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return [subprocess.Popen([*command, str(i)], env=env, **pipes) for i in range(2)]


def wait_for_step(folder, after, two):
    """Waits until a step beyond `after` is in the metrics."""
    journal, deadline = folder / "metrics.jsonl", time.monotonic() + 240
    while last_step(journal) <= after:
        alive = all(process.poll() is None for process in two)
        assert alive and time.monotonic() < deadline, [process.communicate() for process in two]
        time.sleep(0.05)


def last_step(journal):
    lines = journal.read_text().splitlines(keepends=True) if journal.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("\n")), default=0)


def checkpoints_of(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir())


def test_two_processes_stop_together_and_go_on(tmp_path):
    folder = tmp_path / "run"
    two = start_two(folder)
    try:
        wait_for_step(folder, 0, two)
        two[1].send_signal(signal.SIGTERM)
        message = two[0].communicate(timeout=SOON)[1]
        assert [two[0].returncode, two[1].wait(SOON)] == [128 + signal.SIGTERM] * 2
        first, step = checkpoints_of(folder)
        assert first == 0 and f"stopped and saved at step {step};" in message
        assert last_step(folder / "metrics.jsonl") == step

        two = start_two(folder)
        wait_for_step(folder, step, two)
        two[1].kill()
        message = two[0].communicate(timeout=SOON)[1]
        assert two[0].returncode == 1 and f"going on with {folder} from step {step}" in message
        lines = [line for line in message.splitlines() if line.startswith("error:")]
        assert len(lines) == 1 and "another process of this run is gone, after step" in lines[0]
        assert "Traceback" not in message and checkpoints_of(folder) == [first, step]
    finally:
        for process in two:
            process.kill()
    goes_on_alone(folder, step)


def goes_on_alone(folder, step):
    """The checkpoint of two processes is read by one, and differs from the start."""
    config = parse([*FLAGS, "--run", str(folder), "--steps", str(step + 1), "--dispatch", "1"])
    trainer = Trainer(config, build(config))
    start = [np.asarray(leaf) for leaf in jax.tree.leaves(trainer.state.players)]
    checkpoints = Checkpoints(folder)
    trainer.restore(checkpoints, step)
    checkpoints.close()
    assert trainer.step == trainer.drawn == step
    moved = zip(start, jax.tree.leaves(trainer.state.players))
    assert max(float(np.abs(old - new).max()) for old, new in moved) > 1e-3
    (part,) = trainer.run()
    assert part.step == step + 1 and np.isfinite(part.metrics["loss"])


@pytest.mark.parametrize(
    "config, message",
    [
        (ClusterConfig(coordinator="127.0.0.1:1"), "need --distributed"),
        (ClusterConfig(True, "127.0.0.1:1", 2), "together, or none"),
    ],
)
def test_flags_of_processes_that_do_not_fit_are_refused(config, message):
    with pytest.raises(UserError, match=message):
        processes.join(config)


def test_one_process_is_the_first_and_waits_for_nobody():
    assert processes.first() and processes.greatest(15) == 15
    processes.wait("nowhere")
