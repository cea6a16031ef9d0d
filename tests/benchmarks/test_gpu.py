"""The list of cases for a GPU: every one in tiny, and how a list is gone through."""

import itertools
import json
import subprocess

import jax
import pytest

from benchmarks import _gpu_cases, gpu
from benchmarks._gpu_cases import CASES, METHODS, Sizes, method
from benchmarks.mesh import SIZES
from core.errors import UserError

COMPILED = ("step", "unroll", "remat", "dispatch")


@pytest.fixture
def cases(monkeypatch):
    """Two cases that do nothing, in place of the real ones; those that were measured."""
    calls = []

    def case(name):
        return lambda sizes: calls.append(name) or {"value": float("nan"), "rounds": sizes.rounds}

    found = {name: case(name) for name in ("one", "two")}
    monkeypatch.setattr(gpu, "CASES", found)
    return calls


def lines(path):
    return [json.loads(text) for text in path.read_text().splitlines()]


def tiny(*flags):
    return gpu.main(["--tiny", "--no-isolate", "--json", *map(str, flags)])


def test_a_case_with_a_line_is_left_out(cases, tmp_path):
    file = tmp_path / "new" / "gpu.jsonl"
    tiny("--append", file, "--case", "two", "--rounds", 3)
    assert cases == ["two"]
    assert tiny("--append", file) == {"done": ["one", "two"], "left": []}
    assert cases == ["two", "one"]
    assert [line["case"] for line in lines(file)] == ["two", "one"]
    assert lines(file)[0]["rounds"] == 3 and lines(file)[0]["value"] is None
    assert "jax" in lines(file)[0]["versions"]


def test_a_line_that_was_cut_short_or_is_of_another_size_does_not_count(cases, tmp_path):
    file = tmp_path / "gpu.jsonl"
    file.write_text('{"case": "one", "tiny": false}\n{"case": "two", "tiny": true, "mil')
    tiny("--append", file)
    assert cases == ["one", "two"]
    assert [json.loads(text)["case"] for text in file.read_text().splitlines()[2:]] == cases


def test_what_runs_out_of_memory_leaves_a_line_and_stops_no_other(cases, monkeypatch, tmp_path):
    def large(sizes):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: 900 GiB\nand more")

    monkeypatch.setitem(gpu.CASES, "one", large)
    file = tmp_path / "gpu.jsonl"
    tiny("--append", file)
    assert lines(file)[0]["error"] == "RESOURCE_EXHAUSTED: 900 GiB"
    assert cases == ["two"]


def test_nothing_is_begun_once_time_is_up():
    """Cases of four minutes in nine: the third would begin at eight, is stopped, and is left."""
    now, given = [0.0], []

    def measure(config, name, seconds):
        given.append(seconds)
        now[0] += min(240, seconds)
        return seconds >= 240

    left = list(gpu.run(gpu.GpuConfig(minutes=9), list("abcd"), measure, lambda: now[0]))
    assert left == ["c", "d"]
    assert given == [540, 300, 60]


@pytest.mark.parametrize("seconds, kept", [(500.0, True), (200.0, False)])
def test_a_case_is_given_up_only_after_most_of_the_minutes(seconds, kept, monkeypatch, tmp_path):
    def run(command, timeout):
        assert "--no-isolate" in command and timeout == seconds
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", run)
    config = gpu.GpuConfig(append=str(tmp_path / "gpu.jsonl"))
    assert gpu._in_a_process(config, "unroll", seconds) == kept
    assert (gpu.done(config) == {"unroll"}) == kept


def test_sizes_are_those_of_the_papers():
    """Forward operations of DiT-B/2 and XL/2 on 256 tokens, and the counts of the methods."""
    sizes = Sizes()
    assert sizes.operations(sizes.transformer("B")) == pytest.approx(45.9e9, rel=0.01)
    assert sizes.operations(sizes.transformer("XL")) == pytest.approx(236.8e9, rel=0.01)
    assert set(SIZES) > {"B", "XL"}
    assert [method(name)[1] for name in METHODS] == [3, 4, 3.25, 4, 4, 4]


def test_unknown_cases_and_no_gpu_are_one_line(cases):
    with pytest.raises(UserError, match="unknown case"):
        gpu.main(["--case", "three"])
    if jax.default_backend() != "gpu":
        with pytest.raises(UserError, match="no GPU"):
            gpu.main(["--no-isolate"])
        assert cases == []


@pytest.mark.parametrize("name", [name for name in CASES if name.split("/")[0] in COMPILED])
def test_cases_of_compiled_steps_have_their_figures(name, monkeypatch):
    """With steps that are built and not compiled, and loops that are not begun."""

    class Built:
        memory_mib, state_mib, parameters = 1.0, 2.0, 3

        def __init__(self, method, batch):
            self.method = method

        def __call__(self):
            return self.method.flow_map

    monkeypatch.setattr(_gpu_cases, "training_step", Built)
    monkeypatch.setattr("benchmarks.dispatch.dispatches", lambda run, data: itertools.count())
    found = CASES[name](Sizes(tiny=True, rounds=1))
    json.dumps(found)
    if name.startswith("step"):
        assert found["fpe"] == method(name.split("/")[-1])[1] and found["batch"] == 4
    else:
        assert len(found["rows"]) == {"remat": 3}.get(name, 2)


def test_a_process_that_finds_no_gpu_ends_the_command_and_one_that_breaks_does_not(
    monkeypatch, tmp_path
):
    statuses = iter((1, 2))
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, timeout: subprocess.CompletedProcess(command, next(statuses)),
    )
    file = tmp_path / "gpu.jsonl"
    with pytest.raises(SystemExit, match="2"):
        gpu.main(["--append", str(file), "--case", "unroll", "remat", "precision"])
    (line,) = lines(file)
    assert (line["case"], line["error"]) == ("unroll", "the process ended with status 1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "attention/64",
        "latency/B",
        *(pytest.param(name, marks=pytest.mark.long) for name in ("step/B/mf-split", "precision")),
    ],
)
def test_a_case_of_each_kind_runs_in_tiny(name):
    found = CASES[name](Sizes(tiny=True, rounds=1))
    json.dumps(found)
    if name.startswith("step"):
        used = found["fpe"] * found["forward_gflop"] * found["images_per_second"] / 1e3
        assert used == pytest.approx(found["utilisation"] * found["product_tflops"], abs=0.01)
        assert found["temporary_mib"] > 0 and found["state_mib"] > 0
    else:
        assert len(found["rows"]) >= 2
    if name == "precision":
        errors = {(r["precision"], r["step"]): r["relative_error"] for r in found["quotients"]}
        assert errors["highest", 0.0] == 0 < errors["highest", 1e-2] < errors["highest", 1e-1] < 1
