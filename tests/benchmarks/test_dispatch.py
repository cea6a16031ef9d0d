"""Steps a dispatch."""

import pytest

from benchmarks import dispatch
from core.errors import UserError

JOB = "--data two-moons --data.n 64 --net.width 8 --net.depth 1 --batch 8 --dispatch 1"


def test_the_cost_of_a_dispatch_is_found_again():
    """Steps of 10 ms and dispatches of 2 ms, in two rounds of which one is twice as slow."""
    seconds = {k: [slow * (0.010 + 0.002 / k) for slow in (1, 2)] for k in (1, 10, 100)}
    rows = {row["dispatch"]: row for row in dispatch.rows_of("run", seconds)}
    assert rows[1]["dispatch_milliseconds"] == pytest.approx(3.0, rel=1e-3)  # mean of 2 and 4
    for k, row in rows.items():
        assert row["share"] == pytest.approx(0.002 / k / (0.010 + 0.002 / k), abs=1e-4)
        assert row["steps_per_second"] == pytest.approx(1000 / (1.5 * (10 + 2 / k)), rel=1e-3)


@pytest.mark.slow
def test_the_job_is_measured_at_its_own_steps_a_dispatch():
    flags = "--widths --job-steps 2 --rounds 2 --json".split()
    result = dispatch.main([*flags, f"--train={JOB}"])
    assert result is not None
    rows = result["rows"]
    assert {row["run"] for row in rows} == {"imf on two-moons"}
    assert [row["dispatch"] for row in rows] == [1, 10]
    assert result["job"] == rows[0]
    for row in rows:
        assert row["steps_per_second"] == pytest.approx(1000 / row["milliseconds"], rel=0.01)


def test_one_step_a_dispatch_alone_compares_nothing():
    with pytest.raises(UserError, match="above 1"):
        dispatch.main(["--dispatch", "1"])
