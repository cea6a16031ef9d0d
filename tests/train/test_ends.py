"""Two ends: data in the place of noise, which of them go together, and what refuses them."""

import dataclasses
import importlib

import jax
import jax.random as jr
import numpy as np
import pytest

import core.train.ends as ends
from core.data import Dataset, batches
from core.data.starts import start_values
from core.errors import UserError
from core.train.cli import parse
from core.train.ends import check_ends, load_ends
from core.train.gather import device_store, gathering
from core.train.run import open_run
from core.train.toml import to_dict
from tests.compiling import once
from tests.train.runs import make_run

importlib.import_module("plugins")
TINY = ["--net", "mlp", "--net.width", "8", "--net.depth", "2", "--steps", "2", "--batch", "8"]
ENDS = [*TINY, "--plugin", "fm", "--data", "eight-gaussians", "--source", "two-moons"]


class OnDisk:
    """Read one at a time."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return self.rows[index]


def line(first, n, resident=True, **more):
    """The bytes first, first + 1, ..., which decode to those over 100, minus 1."""
    rows = np.arange(first, first + n, dtype=np.uint8)[:, None]
    source = None if resident else OnDisk(rows)
    examples = rows if resident else rows[:0]
    return Dataset(
        name="line", kind="points", shape=(1,), examples=examples, levels=200, source=source, **more
    )


def drawn(data, count=12):
    """The examples of some batches and their other ends, as the numbers that are stored."""
    stream, gather, store = batches(data, 5, seed=3), gathering(data), device_store(data)
    raw = [next(stream) for _ in range(count)]
    stacked = {name: np.stack([one[name] for one in raw]) for name in raw[0]}
    stream.close()
    run = once(jax.vmap(lambda one: gather(store, one, jr.key(0))))
    batch = run(stacked)
    return tuple(np.rint(100 * (x.ravel() + 1)).astype(int) for x in (batch.x_0, batch.z))


@pytest.mark.parametrize("resident", [(True, True), (True, False), (False, True), (False, False)])
def test_the_other_end_comes_from_its_data_set_in_an_order_of_its_own(resident):
    data = line(0, 30, resident[0], starts=line(100, 20, resident[1]))
    x, z = drawn(data)
    assert sorted(x[:30]) == list(range(30)) and sorted(z[:20]) == list(range(100, 120))
    assert not np.array_equal(np.argsort(x[:20]), np.argsort(z[:20]))
    np.testing.assert_array_equal(x, drawn(line(0, 30, starts=line(100, 20)))[0])


@pytest.mark.parametrize("resident", [(True, True), (False, True), (True, False)])
def test_paired_ends_have_the_same_row(resident):
    x, z = drawn(line(0, 30, resident[0], starts=line(100, 30, resident[1]), paired=True))
    np.testing.assert_array_equal(z, x + 100)


def test_both_orders_are_kept_and_put_back():
    stream = batches(line(0, 30, starts=line(0, 30)), 7, seed=0)
    for _ in range(6):
        next(stream)
    state, then = stream.get_state(), [next(stream) for _ in range(6)]
    stream.set_state(state)
    for one, again in zip(then, stream):
        np.testing.assert_array_equal(one["index"], again["index"])
        np.testing.assert_array_equal(one["start"], again["start"])
    assert any(not np.array_equal(one["index"], one["start"]) for one in then)


def test_samples_start_from_rows_of_the_source():
    values = start_values(line(100, 4), 6, seed=1)
    assert sorted(np.rint(100 * (values.ravel()[:4] + 1))) == [100, 101, 102, 103]
    assert values.shape == (6, 1) and not np.array_equal(values, start_values(line(100, 4), 6, 2))


REFUSED = {
    "rows of noise": (["--coupling", "rows"], "name the second with --source"),
    "unknown source": (["--source", "two-moon"], "unknown source 'two-moon'; did you mean 'two-mo"),
    "unknown coupling": (["--coupling", "exakt"], "--coupling"),
    "no entropy": (["--entropy", "0"], "--entropy must be a positive number"),
    "another shape": (["--source", "digits"], r"examples of one shape: .* \(8, 8, 1\), .* \(2,\)"),
    "another number of rows": (
        ["--source", "two-moons", "--source.n", "9", "--coupling", "rows"],
        "as many examples at both ends: --source two-moons has 9 and --data eight-gaussians 65,536",
    ),
    "flag of the source": (["--source", "two-moons", "--source.n", "0"], "--source.n 0: too small"),
    "no file": (["--source", "arrays", "--source.path", "no.npz"], "with --source.path FILE"),
    "a method that takes noise for noise": (
        ["--plugin", "drift", "--source", "two-moons"],
        "drift needs noise that is independent .* leave out --source, or train one of .*imf",
    ),
    "a method with a teacher": (
        ["--plugin", "lmd", "--teacher", "exact", "--coupling", "exact"],
        "lmd needs noise that is independent of the data: leave out --coupling",
    ),
    "guidance": (
        ["--data.labelled", "--coupling", "exact", "--plugin.guidance.scale", "2"],
        "takes velocities for scores",
    ),
    "a path that does not end": (
        ["--source", "two-moons", "--path", "vp"],
        "on the vp path something of the data is left at t = 1: --source needs --path linear or",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_ends_that_do_not_fit_are_refused_in_one_line(case):
    flags, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as error:
        load_ends(parse(["--plugin", "imf", "--data", "eight-gaussians", *TINY, *flags]))
    assert "\n" not in str(error.value)


def test_without_the_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(ends, "find_spec", lambda name: None)
    for coupling in ("exact", "sinkhorn"):
        with pytest.raises(UserError, match=r"needs OTT-JAX: pip install portolan\[transport\]"):
            check_ends(parse([*ENDS, "--coupling", coupling]))
    check_ends(parse([*ENDS, "--coupling", "independent"]))


def test_a_file_or_a_folder_is_a_source_by_its_path(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 2), np.float32))
    config = parse([*TINY, "--data", "two-moons", "--source", str(tmp_path / "x.npz")])
    assert config.source == "arrays" and len(load_ends(config).starts) == 4
    config = parse([*TINY, "--data", "two-moons", "--source", str(tmp_path)])
    assert config.source == "images" and config.source_flags.path == str(tmp_path)


@pytest.mark.slow
def test_a_run_knows_its_source_and_opens_without_it(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 2), np.float32))
    make_run(tmp_path / "run", *ENDS[:-1], tmp_path / "x.npz", "--coupling", "exact")
    run = open_run(tmp_path / "run")
    assert run.config.source == "arrays" and run.config.coupling == "exact"
    assert len(run.starts) == 4
    (tmp_path / "x.npz").unlink()
    again = open_run(tmp_path / "run")
    with pytest.raises(
        UserError, match=r"start from examples of arrays, which do not open.*--from"
    ):
        again.starts  # noqa: B018
    assert to_dict(again.config) == to_dict(run.config)


@pytest.mark.slow
def test_a_teacher_of_other_ends_is_refused(tmp_path):
    from core.train.teachers import open_teacher

    make_run(tmp_path / "run", *ENDS)
    config = parse(
        [*TINY, "--plugin", "lmd", "--data", "two-moons", "--teacher", f"{tmp_path}/run"]
    )
    with pytest.raises(UserError, match="with --source two-moons --coupling independent"):
        open_teacher(config, dataclasses.replace(open_run(tmp_path / "run").spec))
