"""Exported samplers: the folder alone draws what the run draws, on any platform, in any number."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from safetensors.numpy import load_file

from apps import export as export_app
from core.errors import UserError
from core.export import SamplerFunction, make_program, read
from core.export.function import KEYS
from core.export.program import to_bytes
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.nets.unet import UNetConfig
from core.sampling import SAMPLERS, Drawing, generate, uniform_grid
from core.train.run import open_run
from portolan import runs
from tests.apps.conftest import POINTS, ROOT
from tests.apps.inside import run
from tests.nets.randomised import randomised
from tests.train.runs import make_run

pytestmark = pytest.mark.slow

DIGITS = [
    "--plugin", "imf", "--plugin.head", "--data", "digits",
    "--net", "dit", "--net.width", "8", "--net.depth", "1", "--net.heads", "2", "--net.patch", "4",
    "--net.head-depth", "1", "--net.attention", "blockwise", "--net.remat", "none",
]  # fmt: skip
GUIDED = ["--plugin.guidance.most", "4"]
TWICE = ["--nfe", "2", "--json", "--platforms"]


def made(folder, *flags):
    """The folder, with a run in it whose averaged weights are noise."""
    make_run(folder, *flags)
    return folder


@dataclasses.dataclass
class Case:
    """A run, what the app said, what lies in the folder, and samples of both from one noise."""

    run: Path
    result: dict
    about: dict
    program: jax.export.Exported
    weights: dict
    inputs: dict
    own: np.ndarray

    def draw(self, n):
        inputs = {name: value[:n] for name, value in self.inputs.items()}
        return np.asarray(jax.jit(self.program.call)(self.weights, **inputs))


def exported(folder, sampler, guidance, *flags):
    """Exports the run by the command and draws six samples of it by hand."""
    status, _, result = run("export", "--run", folder, "--sampler", sampler, *flags)
    assert status == 0
    opened, n = open_run(folder), 6
    shape, classes = opened.shape, opened.num_classes
    labels = np.asarray([3, 1, 4, 1, 5, 9]) if classes else n
    asked = None if guidance is None else (guidance, 0.0, 1.0)
    path, key = opened.flow_map.path, jr.key(7, impl=KEYS)
    drawing = Drawing(SAMPLERS[sampler], uniform_grid(path, 2), asked)
    own = generate(opened.flow_map, drawing, shape, labels, key=key, batch=n)
    pairs = [jr.split(k) for k in jr.split(jr.fold_in(key, 0), n)]  # as `generate` has them
    given = {
        "noise": np.stack([jr.normal(k, shape) for k, _ in pairs]),
        "labels": np.asarray(labels, np.int32),
        "guidance": np.full(n, 0 if guidance is None else guidance, np.float32),
        "keys": np.stack([jr.key_data(k) for _, k in pairs]),
    }
    out = Path(result["out"])
    about = json.loads((out / "export.json").read_text())
    inputs = {name: given[name] for name in about["inputs"]}
    return Case(folder, result, about, *read(out), inputs, own.x)


@pytest.fixture(scope="module")
def points(tmp_path_factory):
    """Points without labels, by a sampler that adds noise on its way."""
    folder = made(tmp_path_factory.mktemp("points") / "run", *POINTS)
    return exported(folder, "restart", None, *TWICE, "cpu", "cuda", "tpu")


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Labelled images by a guided transformer with a velocity head and blockwise attention."""
    folder = made(tmp_path_factory.mktemp("digits") / "run", *DIGITS, *GUIDED)
    return exported(folder, "pushforward", 2.5, *TWICE, "cpu", "cuda", "rocm", "tpu")


@pytest.fixture(params=["points", "digits"])
def case(request):
    return request.getfixturevalue(request.param)


def test_a_folder_draws_what_its_run_draws_from_the_same_noise(case):
    assert np.abs(case.own).max() > 0.1 and np.abs(case.own - case.inputs["noise"]).max() > 0.1
    np.testing.assert_allclose(case.draw(6), case.own, rtol=0, atol=1e-5)
    assert case.result["equal"] and case.result["difference"] < 1e-5


def test_one_program_serves_any_number_of_samples(case):
    assert case.draw(1).shape == (1, *case.own.shape[1:])
    np.testing.assert_allclose(case.draw(1), case.own[:1], rtol=0, atol=1e-5)


def test_labels_and_guidance_are_inputs(digits):
    for name, other in (("labels", 8), ("guidance", 1.0)):
        changed = digits.inputs | {name: np.full_like(digits.inputs[name], other)}
        moved = jax.jit(digits.program.call)(digits.weights, **changed)
        assert np.abs(np.asarray(moved) - digits.own).max() > 1e-3


def test_weights_are_arguments_and_only_those_that_samples_depend_on(digits):
    names = set(digits.weights)
    assert "net.blocks.qkv.weight" in names and not any("head" in name for name in names)
    assert any("head_blocks" in name for name in SamplerFunction.weights(_function(digits.run)))
    still = {name: np.zeros_like(weight) for name, weight in digits.weights.items()}
    drawn = jax.jit(digits.program.call)(still, **digits.inputs)
    np.testing.assert_allclose(drawn, digits.inputs["noise"], rtol=0, atol=1e-6)  # V = 0


def _function(folder):
    return SamplerFunction(
        open_run(folder).flow_map, SAMPLERS["pushforward"], np.array([1.0, 0.0]), (8,)
    )


def test_a_program_is_for_the_platforms_asked_for_and_names_no_folder(case):
    assert list(case.program.platforms) == case.about["platforms"] == case.result["platforms"]
    assert {"cpu", "cuda", "tpu"} <= set(case.program.platforms)
    text = (Path(case.result["out"]) / "sampler.bin").read_bytes()
    assert str(ROOT).encode() not in text and b".py" not in text


def test_the_description_is_that_of_the_program(case):
    about, program = case.about, case.program
    assert about["arguments"] == [*sorted(case.weights), *sorted(case.inputs)]
    listed = [*about["weights"].values(), *(item for _, item in sorted(about["inputs"].items()))]
    for item, aval in zip(listed, program.in_avals, strict=True):
        assert [str(size) for size in item["shape"]] == [str(size) for size in aval.shape]
        assert item["dtype"] == str(aval.dtype)
    assert (about["evaluations"], about["steps"], about["step"]) == (2, 2, 0)
    assert (
        about["config"]["plugin"]["name"] == "imf" and about["versions"]["jax"] == jax.__version__
    )


def test_attention_is_exported_by_the_formula(digits, points):
    assert digits.about["attention"] == {"run": "blockwise", "here": "xla"}
    assert digits.about["config"]["net"]["attention"] == "blockwise"
    assert points.about["attention"] is None


def test_a_symbolic_number_of_samples_goes_through_a_unet():
    config = UNetConfig(channels=4, multipliers=(1, 2), attention=(2,))
    net = randomised(config, (4, 4, 1), 3, jr.key(0))
    flow_map = AverageVelocityMap(net=net, path=LinearPath())
    function = SamplerFunction(
        flow_map, SAMPLERS["pushforward"], np.array([1.0, 0.0]), (4, 4, 1), 3
    )
    program, weights = make_program(function, ["tpu", "cuda"])
    assert str(program.out_avals[0].shape) == "(n, 4, 4, 1)" and len(weights) > 40


def test_a_network_that_calls_python_is_refused_in_one_line():
    def calls(x, s, t, cond):
        return jax.pure_callback(np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x)

    flow_map = AverageVelocityMap(net=calls, path=LinearPath())
    function = SamplerFunction(flow_map, SAMPLERS["pushforward"], np.array([1.0, 0.0]), (2,))
    with pytest.raises(UserError, match="^this sampler cannot be exported: .*callback.*$"):
        make_program(function, ["cpu", "tpu"])
    with pytest.raises(UserError, match="^this sampler cannot be exported: .*callback.*$"):
        to_bytes(make_program(function, ["cpu"])[0])


def isolated(script, *flags, cwd):
    """Runs a script that sees neither the folder it is started in nor PYTHONPATH, and says which
    packages it has imported."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; "
        "runpy.run_path(sys.argv[0], run_name='__main__'); "
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    command = [sys.executable, "-I", "-c", code, str(script), *flags]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


def test_the_example_needs_nothing_of_this_project(digits, tmp_path):
    script = Path(digits.result["out"]) / "example.py"
    packages = isolated(script, "--n", "6", "--seed", "3", cwd=tmp_path)
    assert "jax" in packages
    assert not {"core", "apps", "plugins", "equinox", "diffrax", "einops"} & set(packages)
    with np.load(tmp_path / "samples.npz") as drawn:
        assert drawn["samples"].shape == (6, 8, 8, 1) and drawn["labels"].tolist() == [*range(6)]
        assert (drawn["guidance"] == 1).all()
        inputs = {name: drawn[name] for name in ("noise", "labels", "guidance")}
        again = jax.jit(digits.program.call)(digits.weights, **inputs)
        np.testing.assert_allclose(drawn["samples"], again, rtol=0, atol=1e-5)


WRONG = {
    "no run": (["--run", "nowhere"], "is not a run folder"),
    "a platform that is none": (["--platforms", "cpu", "gpu"], "unknown platform 'gpu'"),
    "a platform twice": (["--platforms", "cpu", "cpu"], "once, of cpu, cuda"),
    "no evaluations": (["--nfe", "0"], "--nfe must be at least 1"),
    "a solver": (["--sampler", "heun", "--nfe", "2"], "'heun' is Diffrax's.*churn with --churn 0"),
    "an even number of churn": (["--sampler", "churn", "--nfe", "2"], "use an odd number"),
    "two scales": (["--guidance", "2", "3"], "one --guidance at most"),
    "guidance without labels": (
        ["--guidance", "2"],
        "goes by labels, and imf was trained without them",
    ),
    "times and evaluations": (["--times", "1", "0", "--nfe", "1"], "leave out --nfe"),
    "a run and a part of it": (["--packed", "float16", "--adapter-only"], "give one of them"),
    "names of no adapter": (["--keys", "peft"], "--keys goes with --adapter-only"),
    "a file for a folder": (["--out", "file/x"], "cannot write"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_mistake_is_one_line_and_exit_status_2(case, points, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    flags, message = WRONG[case]
    status, out, _ = run("export", "--run", points.run, *flags)
    error = capsys.readouterr().err
    assert status == 2 and out == "" and error.count("\n") == 1
    with pytest.raises(UserError, match=message):
        raise UserError(error)


def test_a_run_without_weights(points, tmp_path):
    (tmp_path / "config.toml").write_text((points.run / "config.toml").read_text())
    with pytest.raises(UserError, match="has no checkpoint yet"):
        export_app.main(["--run", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_samples_that_are_not_the_runs_are_exit_status_1(points, tmp_path, monkeypatch, capsys):
    def spoilt(function, platforms):
        program, weights = make_program(function, platforms)
        return program, {name: weight + jnp.ones_like(weight) for name, weight in weights.items()}

    monkeypatch.setattr(export_app, "make_program", spoilt)
    status, _, result = run("export", "--run", points.run, "--out", tmp_path / "out", "--json")
    assert status == 1 and "does not draw what the run draws" in capsys.readouterr().err
    assert result["equal"] is False and result["difference"] > 1e-3


def test_a_program_for_other_machines_is_not_checked(points, tmp_path, capsys):
    flags = ["--run", points.run, "--out", tmp_path / "out", "--platforms", "tpu", "--json"]
    status, _, result = run("export", *flags)
    assert status == 0 and "equal" not in result and "not checked" in capsys.readouterr().err


def test_guidance_that_was_not_learned_and_every_exportable_sampler(points, tmp_path, monkeypatch):
    for sampler, nfe in (
        ("gamma", 2),
        ("ddim", 2),
        ("dpmpp-2m", 3),
        ("churn", 3),
        ("ancestral", 2),
    ):
        flags = ["--sampler", sampler, "--nfe", nfe, "--out", tmp_path / sampler, "--json"]
        _, _, result = run("export", "--run", points.run, *flags)
        assert result["difference"] < 1e-5 and result["evaluations"] == nfe
    folder = made(tmp_path / "run", *DIGITS, "--plugin.label-drop", "0.5")
    flags = ["--sampler", "dpmpp-2m", "--nfe", 2, "--guidance", 3, "--interval", 0.4, 0.6, "--json"]
    _, _, result = run("export", "--run", folder, *flags)
    assert result["inputs"] == ["noise", "labels", "guidance"] and result["evaluations"] == 4
    assert result["difference"] < 1e-5
    assert "np.full(n, 3.0" in (folder / "export" / "example.py").read_text()
    monkeypatch.setattr(runs, "knows_all", lambda flags: False)  # as without --plugin.label-drop
    with pytest.raises(UserError, match="never trained without labels.*--plugin.label-drop 0.1"):
        runs.open(folder).sample(2, sampler="heun", guidance=2.0)


@pytest.mark.ci
def test_the_whole_command(run_app, points, tmp_path):
    done = run_app("export", "--run", points.run, "--out", tmp_path / "out")
    assert done.returncode == 0 and "largest difference" in done.stderr and done.stdout == ""
    isolated(tmp_path / "out" / "example.py", cwd=tmp_path)
    assert load_file(tmp_path / "out" / "weights.safetensors")["net.output.weight"].shape == (2, 16)
