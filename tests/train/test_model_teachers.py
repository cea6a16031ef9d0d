"""Converted networks teach: which flags take their folders, and what does not fit is refused."""

import dataclasses

import equinox as eqx
import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.teacher import Autoguided, Guided
from core.train.build import build
from core.train.claim import weights_print
from core.train.cli import parse
from core.train.teachers import build_run, moves, open_teacher
from portolan.training import describe
from tests.compiling import once
from tests.layouts import dit_files, edm_networks
from tests.layouts.test_transformers import torch_reference
from tests.models.tiny import model_folder
from tests.train.conftest import LABELLED, TINY

SIT, EDM = (6, 6, 3), (8, 8, 2)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("teachers")
    for kind in ("sit", "dit", "imf", "edm", "vae"):
        model_folder(root / kind, kind)
    model_folder(root / "latent", "edm", scaling={"scaling_factor": 0.5})
    for name, shape, classes in (("sit", SIT, 5), ("edm", EDM, 3), ("few", SIT, 2)):
        x = np.random.default_rng(0).uniform(-1, 1, size=(16, *shape)).astype(np.float32)
        np.savez(root / f"{name}.npz", x=x, labels=np.arange(16) % classes)
    return root


def student(folders, data, teacher, *flags):
    tiny = ["--net", "dit", "--net.width", "8", "--net.depth", "1", "--net.heads", "1"]
    given = ["--data", "arrays", "--data.path", f"{folders}/{data}.npz", "--plugin", "ayf-lmd"]
    named = teacher if ":" in teacher or teacher == "exact" else f"{folders}/{teacher}"
    return parse([*tiny, "--batch", "4", "--steps", "2", *given, "--teacher", named, *flags])


def test_a_velocity_network_teaches_on_its_own_path_guided_as_a_run(folders, normal):
    config = student(folders, "sit", "sit", "--teaching.scale", "2",
                     "--teaching.guidance-channels", "2")  # fmt: skip
    teacher = open_teacher(config)
    assert isinstance(teacher, Guided) and teacher.null_label == 5 and moves(config, teacher) == ()
    x, t = normal(*SIT).astype(np.float32), np.float32(0.3)
    found = once(lambda x, t: teacher.velocity(x, t, Condition(label=jax.numpy.asarray(1))))(x, t)
    network = torch_reference(dit_files.torch_dit(dit_files.CHANNELS))
    own, null = (-network(x.transpose(2, 0, 1), 0.7, 0.7, label) for label in (1, 5))
    wanted = np.concatenate([(2 * own - null)[:2], own[2:]]).transpose(1, 2, 0)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=2e-5)


@pytest.mark.slow
def test_a_denoiser_is_moved_to_the_path_of_the_run(folders, normal):
    """From the noise levels of EDM to the linear path: `v = z - D` of the state divided by its
    signal, with D restated from the file in NumPy."""
    config = student(folders, "edm", "edm")
    teacher = open_teacher(config)
    x, t = normal(*EDM).astype(np.float32), np.float32(0.6)
    found = once(lambda x, t: teacher.velocity(x, t, Condition(label=jax.numpy.asarray(2))))(x, t)
    tensors = edm_networks.made(np.random.default_rng(0), "ddpm++")
    D = edm_networks.preconditioned(tensors, "ddpm++", x / 0.4, 1.5, 2)
    np.testing.assert_allclose(found, (x - 0.4 * D) / 0.6 - D, rtol=1e-4, atol=1e-4)
    (line,) = moves(config, teacher)
    assert line == (
        f"teacher {folders}/edm is moved from the edm path to linear and knows the unit times "
        "0.001996 to 0.9877: elsewhere its velocity is that of the nearest"
    )
    assert line in describe(config, build_run(config))


@pytest.mark.slow
def test_the_noise_of_a_step_is_moved_to_the_path_of_the_run(folders, normal):
    """DiT on the linear path: `v = eps - x_0`, with the noise in the state of the step that has its
    noise-to-signal ratio, restated from the file in NumPy."""
    teacher = open_teacher(student(folders, "sit", "dit"))
    x, u = normal(*SIT).astype(np.float32), np.float32(0.6)
    found = once(lambda x, t: teacher.velocity(x, t, Condition(label=jax.numpy.asarray(4))))(x, u)
    signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    step = np.interp(np.log(u / (1 - u)), np.log((1 - signal) / signal) / 2, np.arange(1000))
    network = torch_reference(dit_files.torch_dit(2 * dit_files.CHANNELS))
    state = (x / np.hypot(1 - u, u)).transpose(2, 0, 1)
    eps = network(state, step, step, 4).transpose(1, 2, 0)
    wanted = eps - (x - u * eps) / (1 - u)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    "data, teacher, flags, message",
    [
        ("few", "sit", [], "teacher has 5 classes, data 2"),
        ("edm", "sit", [], r"another shape than those of arrays \(\(6, 6, 3\), not \(8, 8, 2\)\)"),
        ("edm", "edm", ["--teaching.scale", "2"],
         "this network was never trained without labels: leave out --teaching.scale"),
        ("edm", "edm", ["--plugin.guidance.most", "4"],
         "this network was never trained without labels: leave out --plugin.guidance.most"),
        ("sit", "vae", [], "holds an autoencoder and no flow map"),
        ("sit", "nowhere", [], "is not a run folder .* and no model folder"),
        ("sit", "sit", ["--source", "digits"], "trained with --source noise"),
        ("sit", "sit", ["--teaching.weak", "nowhere"], "no model folder"),
        ("sit", "sit", ["--teaching.guidance-channels", "0"], "must be at least 1"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(folders, data, teacher, flags, message):
    with pytest.raises(UserError, match=message) as caught:
        open_teacher(student(folders, data, teacher, *flags))
    assert "\n" not in str(caught.value)


def test_a_weak_model_and_learned_guidance(folders):
    weak = open_teacher(student(folders, "sit", "sit", "--teaching.weak", f"{folders}/imf"))
    assert isinstance(weak, Autoguided)
    drawn = "--plugin.guidance.most", "4"
    taught = open_teacher(student(folders, "sit", "imf", *drawn))
    assert not isinstance(taught, Guided)  # it takes guidance itself
    assert isinstance(open_teacher(student(folders, "sit", "sit", *drawn)), Guided)


def test_latents_of_another_scale_than_the_teachers_are_refused(folders):
    """Where the data are no latents nothing is known of their scale."""
    from core.data.codec import Codec
    from core.data.scale import Scale

    config = student(folders, "edm", "latent")
    spec = config.data_flags.load().spec
    assert open_teacher(config, spec) is not None
    for spread, fits in ((2.0, True), (1 / 0.18215, False)):
        latents = dataclasses.replace(
            spec, codec=Codec("vae", "", (16, 16, 3)), scale=Scale((0.0, 0.0), (spread, spread))
        )
        if fits:
            assert open_teacher(config, latents) is not None
            continue
        with pytest.raises(UserError, match="latents are scaled by .*; encode them again"):
            open_teacher(config, latents)


def test_a_student_of_a_teacher_in_sixteen_bits_has_its_own_precision(taught):
    """The one of a run with the same network: its weights are copied."""
    folder, averaged = taught
    config = parse([*TINY, *LABELLED, "--plugin", "lmd", "--teacher", str(folder),
                    "--teaching.dtype", "bfloat16"])  # fmt: skip
    begun = build(config, open_teacher(config)).method.flow_map
    for own, leaf in zip(*(jax.tree.leaves(eqx.filter(m, eqx.is_inexact_array))
                           for m in (begun, averaged))):  # fmt: skip
        assert own.dtype == leaf.dtype == np.float32
        np.testing.assert_allclose(own, leaf, rtol=5e-3)


def test_the_fingerprint_of_a_model_folder_is_that_of_its_weights(folders):
    found = {kind: weights_print(folders / kind) for kind in ("sit", "edm", "latent")}
    assert found["edm"] == found["latent"] != found["sit"] and len(found["sit"]) == 16


@pytest.mark.slow
@pytest.mark.parametrize("kind, shape", [("sit", SIT), ("imf", SIT), ("edm", EDM)])
def test_a_teacher_in_sixteen_bits_is_close(folders, normal, kind, shape):
    """bfloat16 has 8 bits of mantissa; half of the bytes of matrices are left."""
    data = "edm" if kind == "edm" else "sit"
    whole = open_teacher(student(folders, data, kind))
    half = open_teacher(student(folders, data, kind, "--teaching.dtype", "bfloat16"))
    sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(one) if hasattr(leaf, "nbytes"))
             for one in (whole, half)]  # fmt: skip
    assert sizes[1] < 0.7 * sizes[0]
    cond = Condition(label=jax.numpy.asarray(1))
    x, t = normal(*shape).astype(np.float32), np.float32(0.5)
    run = once(lambda teachers, x, t: [one.velocity(x, t, cond) for one in teachers])
    full, short = run([whole, half], x, t)
    error = np.abs(full - short).max() / np.abs(full).max()
    assert short.dtype == np.float32 and 1e-5 < error < 0.05
