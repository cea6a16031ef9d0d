"""Whose file it is, and what else it says, is read from the file."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from core.errors import UserError
from core.models import open_model
from core.models.conversion import converted, precision_of, source_of, write
from core.models.foreign import digest_of, open_foreign
from core.models.kinds import Given, kind_of
from core.models.scheduler import scheduled
from core.tensors import sha256
from tests.layouts import dit_files
from tests.models.foreign_files import MAKERS, case, namespace, put, torch_file

KINDS = {name: name.removesuffix("-orbax") for name in MAKERS}


@pytest.mark.parametrize("name", [one for one in MAKERS if one != "dinov2"])
def test_a_file_is_known_by_its_keys(name, tmp_path):
    made = case(name)
    file = open_foreign(tmp_path / made.write(tmp_path))
    assert kind_of(file).name == made.kind == KINDS[name]
    assert set(file.tensors) == set(made.tensors) and file.size > 1000


def of_sit(tmp_path, name="F.pt", **arguments):
    tensors = dit_files.torch_dit(3)
    content = torch_file(tensors, args=namespace(**arguments))
    return open_foreign(tmp_path / put(tmp_path, name, content))


def test_flags_of_training_and_names_tell_sit_from_dit(tmp_path):
    assert kind_of(of_sit(tmp_path, path_type="Linear")).name == "sit"
    assert kind_of(of_sit(tmp_path, model="DiT-XL/2")).name == "dit"
    assert kind_of(of_sit(tmp_path, name="SiT-XL.pt", results="x")).name == "sit"
    assert kind_of(of_sit(tmp_path, name="sit.pt", model="x"), "dit").name == "dit"
    with pytest.raises(UserError, match="say which it is, --from sit or --from dit"):
        kind_of(of_sit(tmp_path, model="XL/2"))


def test_places_on_the_machine_of_the_author_are_not_noted(tmp_path):
    file = of_sit(tmp_path, path_type="Linear", data_path="secret/place")
    source = source_of(converted(file, kind_of(file), Given(heads=3)), file.hashes())
    assert source["arguments"] == {"path_type": "Linear"} and "secret" not in str(source)


def test_the_path_of_sit_is_that_of_its_training(tmp_path):
    for path, clock in (("Linear", "reversed"), ("GVP", "reversed_cosine")):
        file = of_sit(tmp_path, path_type=path)
        found = kind_of(file).read(file, Given(heads=3))
        assert found.config.clock == clock and "--clock" not in found.assumed
    own = kind_of(file).read(file, Given(heads=3, clock="reversed"))
    assert own.config.clock == "reversed"


def test_the_raw_weights_are_taken_where_asked(tmp_path):
    """Those of the test's checkpoint are zero."""
    path = tmp_path / put(tmp_path, "sit.pt", torch_file(dit_files.torch_dit(3)))
    for which, zero in ((None, False), ("ema", False), ("model", True)):
        file = open_foreign(path, which)
        done = converted(file, kind_of(file), Given(heads=3))
        assert file.which == (which or "ema")
        assert (not np.asarray(done.net.patches.weight).any()) == zero


SCHEDULES = {
    "the default": ({}, "linear 0.0001 0.02 1000", "noise"),
    "Stable Diffusion": (
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
         "prediction_type": "v_prediction"}, "scaled_linear 0.00085 0.012 1000", "velocity"),
    "cosine": (
        {"beta_schedule": "squaredcos_cap_v2", "num_train_timesteps": 4000,
         "prediction_type": "sample"}, "squaredcos_cap_v2 4000", "x_0"),
    "flow matching": ({"_class_name": "FlowMatchEulerDiscreteScheduler"}, "thousand", None),
}  # fmt: skip


@pytest.mark.parametrize("config, clock, prediction", SCHEDULES.values(), ids=SCHEDULES)
def test_a_scheduler_tells_times_and_prediction(config, clock, prediction):
    assert scheduled(config) == (clock, prediction, "")
    given = scheduled(config, "linear 0.1 0.2 10", "x_0")
    assert given == ("linear 0.1 0.2 10", "x_0", "")


def test_without_a_scheduler_it_is_said(tmp_path):
    clock, prediction, said = scheduled(None)
    assert (clock, prediction) == ("linear 0.0001 0.02 1000", "noise")
    assert "(--clock)" in said and "(--prediction)" in said
    assert scheduled(None, "thousand") == ("thousand", None, "")
    assert scheduled(None, None, "x_0")[1:] == (
        "x_0",
        "the clock 'linear 0.0001 0.02 1000' (--clock)",
    )


UNKNOWN = {
    "trained_betas": [0.1, 0.2], "rescale_betas_zero_snr": True, "beta_schedule": "laplace",
    "prediction_type": "flow", "beta_start": "0.1",
}  # fmt: skip


@pytest.mark.parametrize("option", UNKNOWN)
def test_another_schedule_is_refused_by_its_name(option):
    with pytest.raises(UserError, match=f"a scheduler with {option} = .* is not known"):
        scheduled({option: UNKNOWN[option]})


def test_a_pipeline_holds_its_components(tmp_path):
    made, vae = case("diffusers-dit"), case("autoencoder-kl")
    for one, name in ((made, "transformer"), (vae, "vae")):
        one.write(tmp_path)
        shutil.move(tmp_path / "network", tmp_path / "p" / name)
    shutil.move(tmp_path / "p" / "transformer" / "scheduler", tmp_path / "p" / "scheduler")
    said = {"beta_schedule": "scaled_linear", "beta_start": 0.1, "beta_end": 0.2}
    (tmp_path / "p" / "scheduler" / "scheduler_config.json").write_text(json.dumps(said))
    (tmp_path / "p" / "model_index.json").write_text("{}")
    file = open_foreign(tmp_path / "p")
    kind = kind_of(file)
    assert kind.name == "diffusers-dit" and len(file.files) == 3
    assert kind.read(file, Given()).config.clock == "scaled_linear 0.1 0.2 1000"
    assert kind_of(open_foreign(tmp_path / "p", vae=True)).name == "autoencoder-kl"
    alone = open_foreign(tmp_path / "p" / "transformer")
    assert kind.read(alone, Given()).config.clock == "scaled_linear 0.1 0.2 1000"


def latents(tmp_path, **how):
    """A transformer of latents of four channels."""
    tensors = dict(dit_files.torch_dit(3))
    tensors["x_embedder.proj.weight"] = np.zeros((24, 4, 2, 2), np.float32)
    for part, shape in (("weight", (16, 24)), ("bias", (16,))):
        tensors[f"final_layer.linear.{part}"] = np.zeros(shape, np.float32)
    file = open_foreign(tmp_path / put(tmp_path, "sit.pt", torch_file(tensors)))
    return converted(file, kind_of(file), Given(heads=3, **how))


def test_latents_are_scaled_as_published_or_as_it_is_said(tmp_path):
    plain, own = latents(tmp_path), latents(tmp_path, scaling=0.13025)
    assert plain.scaling == {"scaling_factor": 0.18215}
    assert plain.assumed.endswith(", latents scaled by 0.18215 (--scaling)")
    assert own.scaling == {"scaling_factor": 0.13025} and "--scaling" not in own.assumed
    pictures = of_sit(tmp_path, path_type="Linear")
    done = converted(pictures, kind_of(pictures), Given(heads=3))
    assert done.scaling == {} and "--scaling" not in done.assumed


def test_the_source_is_noted(tmp_path):
    made = case("dit")
    path = tmp_path / made.write(tmp_path)
    file = open_foreign(path)
    done = converted(file, kind_of(file), Given(heads=3))
    source = source_of(done, file.hashes())
    assert source["sha256"] == sha256(path) == source["files"]["DiT-S-2.pt"]
    assert (source["kind"], source["licence"]) == ("dit", "CC BY-NC 4.0")
    assert source["bytes"] == path.stat().st_size and source["left_out"] == []
    assert source["numbers"] == sum(w.size for k, w in made.tensors.items() if k != "pos_embed")
    assert source["assumed"].endswith("the clock 'linear 0.0001 0.02 1000' (--clock)")
    assert source_of(done, file.hashes(), "mine")["licence"] == "mine"
    assert digest_of({"a": "1", "b": "2"}) != digest_of({"a": "2", "b": "1"})


def test_what_is_left_out_is_noted_and_sixteen_bits_are_kept(tmp_path):
    made = case("edm2")
    half = {name: value.astype(np.float16) for name, value in made.tensors.items()}
    file = open_foreign(tmp_path / made.write(tmp_path, half))
    done = converted(file, kind_of(file), Given(head_channels=4))
    assert done.spare and all("logvar" in key for key in done.spare)
    assert precision_of(done) == "float16"
    source = source_of(done, file.hashes())
    assert source["left_out"] == list(done.spare)
    write(done, tmp_path / "m", source, precision_of(done))
    arrays = load_file(tmp_path / "m" / "weights.safetensors")
    assert {one.dtype.name for one in arrays.values()} == {"float16"}
    opened = open_model(tmp_path / "m")
    assert opened.trained_without_null and opened.source["keys"] == len(done.used)
