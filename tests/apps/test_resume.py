"""A run that is killed and started again ends where an uninterrupted one does, bit for bit."""

import os
import signal
import subprocess
import time

import equinox as eqx
import jax
import numpy as np
import pytest

import plugins as plugins
from core.train.checkpoint import Checkpoints
from core.train.run import open_run
from tests.apps.conftest import POINTS, ROOT, command
from tests.apps.inside import run

pytestmark = pytest.mark.slow

LONG = [*POINTS, "--steps", "1000", "--dispatch", "5", "--save-every", "50", "--log-every", "50"]


def parameters(folder):
    return jax.tree.leaves(eqx.filter(open_run(folder).flow_map, eqx.is_array))


def whole_state(folder):
    """Everything in the newest checkpoint: parameters, optimiser, EMA, keys, data position."""
    from orbax.checkpoint import v1 as ocp

    checkpoints = Checkpoints(folder)
    step = checkpoints.latest()
    checkpoints.close()
    with ocp.training.Checkpointer((folder / "checkpoints").absolute()) as manager:
        loaded = manager.load_checkpointables(step)
    state = jax.tree.map(lambda a: np.asarray(jax.random.key_data(a) if is_key(a) else a), loaded)
    return step, state


def is_key(leaf):
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def interrupt(tmp_path, folder, number, after):
    """Starts a run, sends a signal once the checkpoint `after` is there, and waits for its end."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        command("train", *LONG, "--run", str(folder)),
        cwd=tmp_path,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not (folder / "checkpoints" / str(after)).exists():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    time.sleep(0.03)
    process.send_signal(number)
    return process.communicate(timeout=120)[1], process.returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command("train", *LONG, "--run", str(folder)), env=env, check=True)
    return folder


@pytest.mark.ci
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)]
)
def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, whole, run_app, number):
    broken = tmp_path / "broken"
    message, status = interrupt(tmp_path, broken, number, after=150)
    if number == signal.SIGTERM:
        assert status == 128 + signal.SIGTERM
        assert "stopped and saved at step" in message
    else:
        assert status == -signal.SIGKILL
    reached, _ = whole_state(broken)
    assert 150 <= reached < 1000
    again = run_app("train", *LONG, "--run", broken)
    assert again.returncode == 0 and f"from step {reached}" in again.stderr
    (step, expected), (other, state) = whole_state(whole), whole_state(broken)
    assert step == other == 1000
    same = jax.tree.map(np.array_equal, expected, state)
    assert all(jax.tree.leaves(same))
    assert len(jax.tree.leaves(same)) > 20
    lines = [(folder / "metrics.jsonl").read_text().count("\n") for folder in (whole, broken)]
    assert lines[0] == lines[1] == 20


def test_the_written_config_repeats_the_run(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert run("train", *POINTS, "--seed", "3", "--run", first)[0] == 0
    assert run("train", "--config", first / "config.toml", "--run", second)[0] == 0
    assert (first / "config.toml").read_text() == (second / "config.toml").read_text()
    assert all(np.array_equal(a, b) for a, b in zip(parameters(first), parameters(second)))
    other = ["--config", first / "config.toml", "--seed", "4", "--run", third]
    assert run("train", *other)[0] == 0
    assert any(not np.array_equal(a, b) for a, b in zip(parameters(first), parameters(third)))
