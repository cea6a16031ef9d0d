"""ONNX files: onnxruntime makes of them what JAX makes of the sampler."""

import importlib
import json
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.export import SamplerFunction
from core.export import onnx_file as files
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.nets import NETS
from core.sampling import SAMPLERS
from tests.nets.randomised import randomised

pytestmark = pytest.mark.skipif(
    not all(map(find_spec, ("jax2onnx", "onnx", "onnxruntime"))),
    reason='pip install "portolan[onnx]"',
)

TIMES = {1: np.array([1.0, 0.0]), 4: np.array([1.0, 0.8, 0.5, 0.2, 0.0])}
MLP = (NETS["mlp"](width=8, depth=2, guidance=True), (2,))
DIT = (NETS["dit"](width=8, depth=2, heads=2, patch=4, guidance=True), (8, 8, 1))
UNET = (NETS["unet"](channels=4, multipliers=(1, 2), attention=(2,), blocks=1), (4, 4, 1))
NARROW = (NETS["dit"](width=8, depth=1, heads=2, patch=4, dtype="bfloat16"), (8, 8, 1))


def sampler(net, steps=1, name="pushforward", interval=None):
    """A sampler of a network with noise for weights, of three classes."""
    config, shape = net
    drawn = randomised(config, shape, 3, jr.key(0))
    flow_map = AverageVelocityMap(net=drawn, path=LinearPath())
    return SamplerFunction(flow_map, SAMPLERS[name], TIMES[steps], shape, 3, interval)


def differs(function, content, n=5):
    """The largest difference between the file and the function, over the largest value or 1, of
    other inputs than those that the export itself takes; and of the first of them alone."""
    rng = np.random.default_rng(n)
    given = {
        "noise": rng.standard_normal((n, *function.shape), np.float32),
        "labels": rng.integers(0, 4, n, np.int32),
        "guidance": rng.uniform(1, 4, n).astype(np.float32),
    }
    given = {name: given[name] for name in function.inputs}
    wanted = np.asarray(jax.jit(lambda w, x: function(w, **x))(function.weights(), given))
    assert np.abs(wanted - given["noise"]).max() > 0.1
    alone = files.run(content, {name: value[:1] for name, value in given.items()})
    far = max(np.abs(files.run(content, given) - wanted).max(), np.abs(alone - wanted[:1]).max())
    return far / max(1, np.abs(wanted).max())


@pytest.mark.ci
@pytest.mark.slow
def test_a_guided_sampler_of_labelled_points_for_any_number_with_what_it_says_of_itself():
    function = sampler(MLP, 4, interval=(0.0, 1.0))
    content = files.to_onnx(function, {"run": "mine", "shape": [2]})
    assert differs(function, content) < 1e-5
    model = importlib.import_module("onnx").load_from_string(content)
    said = {item.key: item.value for item in model.metadata_props}
    assert said["run"] == "mine" and json.loads(said["shape"]) == [2]
    assert [item.name for item in model.graph.input] == ["noise", "labels", "guidance"]
    sizes = [item.type.tensor_type.shape.dim[0].dim_param for item in model.graph.input]
    assert sizes == ["n"] * 3


@pytest.mark.long
@pytest.mark.parametrize("steps", TIMES)
@pytest.mark.parametrize("net", ["dit", "unet"])
def test_networks_of_pictures(net, steps):
    interval = (0.0, 1.0) if net == "dit" else None
    function = sampler({"dit": DIT, "unet": UNET}[net], steps, interval=interval)
    content = files.to_onnx(function, {})
    assert differs(function, content) < 1e-5


@pytest.mark.long
@pytest.mark.parametrize("name", ["ddim", "dpmpp-2m"])
def test_samplers_that_follow_the_velocity(name):
    function = sampler(MLP, 4, name)
    assert differs(function, files.to_onnx(function, {})) < 1e-5


@pytest.mark.long
def test_a_network_that_computes_in_bfloat16_is_written_in_float32():
    function = sampler(NARROW)
    assert differs(function, files.to_onnx(function, {})) < 0.05


def test_a_sampler_that_draws_noise_is_refused():
    with pytest.raises(UserError, match="'restart' adds noise on its way.*--sampler pushforward"):
        files.check_function(sampler(MLP, 4, "restart"), "restart")


def test_what_is_not_installed_is_one_line(monkeypatch):
    monkeypatch.setattr(files, "_found", lambda name: name != "jax2onnx")
    with pytest.raises(UserError, match=r'^ONNX files need .*pip install "portolan\[onnx\]"$'):
        files.check_installed()


@pytest.mark.long
def test_an_operation_that_the_converter_lacks_is_named():
    def calls(x, s, t, cond):
        return jax.pure_callback(
            np.sin, jax.ShapeDtypeStruct(x.shape, x.dtype), x, vmap_method="expand_dims"
        )

    flow_map = AverageVelocityMap(net=calls, path=LinearPath())
    function = SamplerFunction(flow_map, SAMPLERS["pushforward"], TIMES[1], (2,))
    with pytest.raises(UserError, match="^this sampler cannot be .*pure_callback; use --format"):
        files.to_onnx(function, {})


@pytest.mark.long
def test_a_file_that_differs_is_noticed():
    function = sampler(MLP)
    other = SamplerFunction(
        jax.tree.map(lambda leaf: leaf + 0.1 if jnp.ndim(leaf) else leaf, function.field),
        function.sampler, function.times, function.shape, 3,
    )  # fmt: skip
    assert files.difference(files.to_onnx(function, {}), other, None)[0] > 1e-3
