"""The loader beside training."""

import pytest

from benchmarks import input as data_input
from core.errors import UserError


@pytest.mark.slow
def test_points_and_written_arrays_are_measured():
    flags = "--data two-moons --batches 3 --rounds 2 --json".split()
    result = data_input.main([*flags, "--train=--net.width 8 --net.depth 1 --batch 8 --dispatch 1"])
    assert result is not None
    (row,) = result["rows"]
    assert (row["data"], row["net"], row["batch"], row["resident"]) == ("two-moons", "mlp", 8, True)
    assert row["loader_per_second"] > 0 and row["training_per_second"] > 0 and row["ratio"] > 0


def test_the_arrays_that_are_written_can_be_read(tmp_path):
    from core.train.cli import parse

    chosen = data_input.sources(data_input.InputConfig(("digits", "arrays"), idx="x"), tmp_path)
    assert list(chosen) == ["digits", "arrays", "idx"]
    assert chosen["idx"] == ["--data", "idx", "--data.path", "x"]
    dataset = parse(chosen["arrays"]).data_flags.load()
    assert (len(dataset), dataset.shape) == (2048, (28, 28, 1))


def test_a_data_set_that_needs_a_file_has_its_own_flag():
    with pytest.raises(UserError, match="idx is none of"):
        data_input.main(["--data", "idx"])
