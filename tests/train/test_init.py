"""Training that starts from the weights of another run."""

import importlib

import jax.numpy as jnp
import pytest

from core.errors import UserError
from core.train.build import build
from core.train.cli import parse
from core.train.teachers import open_start, open_teacher
from tests.train.test_teachers import TINY, train

importlib.import_module("plugins")
DATA = ["--data", "eight-gaussians"]
X, S, T = jnp.array([0.3, -0.2]), jnp.asarray(0.7), jnp.asarray(0.2)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init") / "fm"
    return folder, train(folder, *DATA).flow_map()


def begun(folder, *flags):
    config = parse([*TINY, *DATA, "--init", str(folder), *flags])
    return build(config, start=open_start(config)).method.flow_map


def test_another_method_starts_from_the_averaged_weights(start):
    folder, trained = start
    for flags in (["--plugin", "mf"], ["--plugin", "ect"]):
        flow_map = begun(folder, *flags)
        assert (flow_map.average_velocity(X, S, T) == trained.average_velocity(X, S, T)).all()
    assert not flow_map.two_times


def test_a_decoupled_network_is_the_velocity_network_on_its_diagonal_bit_for_bit(start):
    folder, trained = start
    flow_map = begun(folder, "--plugin", "dmf", "--net.encoder-depth", "1")
    assert (flow_map.velocity(X, S) == trained.velocity(X, S)).all()
    assert not jnp.allclose(flow_map.average_velocity(X, S, T), trained.average_velocity(X, S, T))


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--plugin", "mf", "--net.width", "16"], "another network or form"),
        (["--plugin", "mf", "--net.max-frequency", "4"], "another network or form"),
        (["--plugin", "mf", "--plugin.form", "rotation"], "another network or form"),
        (["--plugin", "gcm-cu"], "another network or form"),
        (["--plugin", "mf", "--path", "trig"], "--path linear"),
    ],
)
def test_what_does_not_fit_is_refused(start, flags, message):
    with pytest.raises(UserError, match=message):
        begun(start[0], *flags)


def test_a_consistency_model_does_not_teach(tmp_path):
    folder = tmp_path / "ct"
    train(folder, *DATA, "--plugin", "ct")
    with pytest.raises(UserError, match="has no velocity"):
        open_teacher(parse([*TINY, *DATA, "--plugin", "lmd", "--teacher", str(folder)]))
