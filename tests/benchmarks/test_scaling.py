"""Examples a second against devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import Case
from core.errors import UserError

TRAIN = "--plugin fm --data two-moons --data.n 64 --net.width 8 --net.depth 1 --dispatch 1"


def test_weak_scaling_grows_the_batch_and_strong_scaling_keeps_it():
    config = scaling.ScalingConfig(batch=8, total=32)
    assert list(scaling.cases_of(config, [1, 2])) == [
        Case("weak", "data", 1, 8),
        Case("weak", "data", 2, 16),
        Case("weak", "fsdp", 2, 16),
        Case("strong", "data", 1, 32),
        Case("strong", "data", 2, 32),
        Case("strong", "fsdp", 2, 32),
    ]


def test_efficiency_is_the_rate_of_a_device_over_that_of_one_alone():
    """Weak: the same time for twice the batch is ideal. Strong: half the time is."""
    seconds = {
        Case("weak", "data", 1, 8): [1.0, 2.0, 1.0],
        Case("weak", "data", 2, 16): [1.0, 2.0, 1.0],
        Case("weak", "fsdp", 2, 16): [2.0, 4.0, 2.0],
        Case("strong", "data", 2, 32): [4.0, 8.0, 4.0],
        Case("strong", "data", 4, 32): [2.0, 4.0, 2.0],
        Case("strong", "fsdp", 4, 32): [4.0, 8.0, 4.0],
    }
    rows = scaling.rows_of(seconds)
    assert [row["efficiency"] for row in rows] == [1, 1, 0.5, 1, 1, 0.5]
    assert [row["examples_per_second"] for row in rows] == [8, 16, 8, 8, 16, 8]
    assert rows[2]["mesh"] == "data 1 x fsdp 2"


def test_a_total_that_devices_do_not_divide_is_refused():
    with pytest.raises(UserError, match="not divisible"):
        scaling.main("--devices 1 3 --total 32".split())


@pytest.mark.long
def test_virtual_devices_are_made_and_said_to_be_such():
    flags = "--devices 2 --axes fsdp --batch 4 --total 8 --rounds 2 --json".split()
    command = [sys.executable, "-m", "benchmarks.scaling", *flags, f"--train={TRAIN}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["virtual"] and scaling.VIRTUAL[:25] in done.stderr
    assert [(row["scaling"], row["mesh"], row["batch"]) for row in result["rows"]] == [
        ("weak", "data 1 x fsdp 2", 8),
        ("strong", "data 1 x fsdp 2", 8),
    ]
