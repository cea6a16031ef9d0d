"""Runs that begin with a model folder: its network, and its velocity before the first step."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.layouts import sit
from core.models import write_model
from core.nets import OfficialDiTConfig
from core.train.cli import parse
from core.train.teachers import build_run, open_teacher
from tests.compiling import once
from tests.layouts import dit_files as files

pytestmark = pytest.mark.programs(200)  # runs are built
SHAPE = (files.SIDE, files.SIDE, files.CHANNELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder of a small SiT, and labelled images of its shape beside it."""
    place = tmp_path_factory.mktemp("models")
    tensors = files.torch_dit(files.CHANNELS)
    found = sit.options_of(tensors, heads=files.HEADS)
    source = {"kind": "sit", "sha256": "0" * 64, "file": "sit.pt"}
    write_model(place / "sit", found, found.network(tensors), source)
    generator = np.random.default_rng(0)
    x = generator.uniform(-1, 1, (20, *SHAPE)).astype(np.float32)
    np.savez(place / "data.npz", x=x, labels=np.arange(20) % files.CLASSES)
    np.savez(place / "bare.npz", x=x)
    return place / "sit"


def config(folder, *flags):
    data = ["--data", "arrays", "--data.path", str(folder.parent / "data.npz")]
    return parse([*data, "--steps", "2", "--batch", "4", *map(str, flags)])


def test_the_network_is_that_of_the_folder_where_none_is_given(folder):
    by_init = config(folder, "--plugin", "sct", "--init", folder)
    by_teacher = config(
        folder, "--plugin", "ayf-emd", "--teacher", folder, "--net.dtype", "bfloat16"
    )
    flags = by_init.net_flags
    assert by_init.net == by_teacher.net == "official-dit"
    assert isinstance(flags, OfficialDiTConfig)
    assert (flags.width, flags.depth, flags.heads) == (files.WIDTH, files.DEPTH, files.HEADS)
    assert (flags.times, flags.clock, flags.positions) == ("s", "reversed", "stored")
    assert (flags.predicts, flags.second_time, flags.guidance) == ("linear-velocity", True, False)
    assert by_teacher.net_flags.dtype == "bfloat16" and by_teacher.net_flags.second_time
    assert config(folder, "--plugin", "mf", "--net", "dit", "--init", folder).net == "dit"


def test_labels_stay_where_a_network_was_never_trained_without(folder, tmp_path):
    tensors = files.torch_dit(files.CHANNELS)
    found = sit.options_of(tensors, heads=files.HEADS, null_class=False)
    source = {"kind": "sit", "sha256": "0" * 64, "file": "sit.pt"}
    write_model(tmp_path / "sit", found, found.network(tensors), source)
    drops = [
        config(folder, "--plugin", "mf", "--init", one).plugin_flags.label_drop
        for one in (folder, tmp_path / "sit")
    ]
    assert drops == [0.1, 0]


@pytest.mark.long
@pytest.mark.parametrize(
    "flags",
    [
        ["--plugin", "ayf-emd"],
        ["--plugin", "ayf-emd", "--path", "trig", "--plugin.guidance.most", "4"],
        ["--plugin", "sct"],
    ],
)
def test_a_student_of_a_folder_begins_as_it(folder, flags):
    begun = config(folder, *flags, "--teacher", folder, "--init", folder)
    built = build_run(begun)
    assert built.start.startswith(f"starts from the weights of {folder}; the second time")
    teacher, generator = open_teacher(begun), np.random.default_rng(0)
    x = generator.normal(size=(8, *SHAPE)).astype(np.float32)
    times = generator.uniform(0.1, 0.9, 8).astype(np.float32) * np.float32(built.path.t_max)
    cond = Condition(jax.device_put(np.int32(2)), jax.device_put(np.float32([1, 0, 1])))
    velocities = lambda fields, x, t: [one.velocity(x, t, cond) for one in fields]  # noqa: E731
    fields = teacher, built.method.flow_map
    exact, found = once(jax.vmap(velocities, in_axes=(None, 0, 0)))(fields, x, times)
    assert np.abs(exact).max() > 0.1
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_another_network_is_refused_by_what_differs(folder):
    flags = ["--plugin", "mf", "--init", folder]
    with pytest.raises(UserError, match="config.mlp_ratio 4.0 there, 2.0 here"):
        build_run(config(folder, *flags, "--net.mlp-ratio", "2"))
    with pytest.raises(UserError, match="OfficialDiT there, DiT here"):
        build_run(config(folder, *flags, "--net", "dit", "--net.patch", "2"))
    with pytest.raises(UserError, match="has 5 classes, data 0"):
        build_run(config(folder, *flags, "--data.path", folder.parent / "bare.npz"))
