"""A folder of a published network is accepted wherever a run is."""

import shutil
import tomllib

import numpy as np
import pytest

import portolan as po
from apps import eval as eval_app
from apps import export as export_app
from apps import inspect as inspect_app
from apps import latents as latents_app
from apps import sample as sample_app
from apps import tilt as tilt_app
from core.data.codec import Ranged
from core.errors import UserError
from core.sampling.grids import edm_grid, uniform_grid
from core.train.source import open_source
from tests.compiling import once
from tests.layouts import diffusers_networks, dit_files
from tests.layouts.test_autoencoder_kl import GROUPS, LAYERS, SIZES
from tests.layouts.test_autoencoder_kl import made as autoencoder
from tests.layouts.test_transformers import torch_reference
from tests.models.tiny import model_folder

SHAPE = (dit_files.SIDE, dit_files.SIDE, dit_files.CHANNELS)
CLASSES = dit_files.CLASSES
FACTOR = 0.18215


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A model folder of each layout, and files of pictures: of SiT's size, and of 16 x 16."""
    root = tmp_path_factory.mktemp("models")
    for kind in ("sit", "imf", "edm", "vae"):
        model_folder(root / kind, kind)
    rng = np.random.default_rng(0)
    for name, shape in {"small": SHAPE, "large": (16, 16, 3)}.items():
        x = rng.integers(0, 256, size=(60, *shape), dtype=np.uint8)
        np.savez(root / f"{name}.npz", x=x, labels=np.arange(60) % CLASSES)
    return root


@pytest.mark.slow
def test_samples_are_those_of_the_network_in_the_file(folders, normal):
    """Two Euler steps with guidance of two channels, restated from the file in NumPy."""
    drawn = normal(3, *SHAPE).astype(np.float32)
    model = po.open(folders / "sit")
    sampling = {"sampler": "euler", "times": (1.0, 0.6, 0.0), "label": 2, "start": drawn}
    plain, guided = model.sample(3, **sampling), model.sample(3, **sampling, guidance=2.5)

    network = torch_reference(dit_files.torch_dit(dit_files.CHANNELS))

    def velocity(x, t, w):
        found = [-network(x, 1 - t, 1 - t, label) for label in (2, CLASSES)]
        return found[1] + w * (found[0] - found[1])

    for got, w in ((plain, 1.0), (guided, 2.5)):
        x = drawn.astype(np.float64).transpose(0, 3, 1, 2)
        for s, t in ((1.0, 0.6), (0.6, 0.0)):
            x = np.stack([one + (t - s) * velocity(one, s, w) for one in x])
        np.testing.assert_allclose(got, x.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_every_command_takes_the_folder(folders, tmp_path):
    run = str(folders / "sit")
    flags = ["--run", run, "--sampler", "dpmpp-2m"]
    drawn = sample_app.main(
        [*flags, "--steps", "3", "--n", "6", "--label", "2", "--guidance", "3",
         "--guidance-channels", "2", "--out", f"{tmp_path}/x", "--json"]
    )  # fmt: skip
    assert drawn["nfe"] == 6
    with np.load(f"{tmp_path}/x.npz") as found:
        assert found["samples"].shape == (6, *SHAPE) and set(found["labels"]) == {2}
    sample_app.main([*flags, "--steps", "1", "--n", "7", "--out", f"{tmp_path}/y"])

    with pytest.raises(UserError, match=r"has no data: name some with --data"):
        eval_app.main([*flags, "--nfe", "2"])
    data = ["--data", "arrays", "--data.path", f"{folders}/small.npz"]
    out = ["--out", f"{tmp_path}/eval.json", "--json"]
    result = eval_app.main([*flags, "--nfe", "2", "--n", "32", *data, *out])
    assert result["step"] is None and result["rows"][0]["frechet"] > 0
    with pytest.raises(UserError, match="name others with --data"):
        eval_app.main([*flags, "--nfe", "2", "--data", "digits"])

    tilted = tilt_app.main(
        ["--run", run, "--plugin", "snis", "--n", "8", "--label", "1", "--out", f"{tmp_path}/tilt",
         "--json"]
    )  # fmt: skip
    assert len(tilted["rows"]) == 2
    export = ["--nfe", "2", "--platforms", "cpu", "--out", f"{tmp_path}/export", "--json"]
    assert export_app.main([*flags, *export])["equal"]


@pytest.mark.slow
def test_a_map_with_two_times_jumps_and_one_without_a_null_class_is_not_guided(folders, tmp_path):
    imf, edm = po.open(folders / "imf"), po.open(folders / "edm")
    assert (imf.sampler, edm.sampler) == ("pushforward", "euler")
    assert (imf.grid, edm.grid) == (uniform_grid, edm_grid)
    assert imf.sample(2, guidance=2.0).shape == (2, *SHAPE)
    assert edm.sample(2, sampler="heun", times=(1.0, 0.5, 0.0)).shape == (2, 8, 8, 2)
    with pytest.raises(UserError, match="never trained without labels: leave out --guidance"):
        edm.sample(2, sampler="heun", guidance=2.0)
    with pytest.raises(UserError, match="has learned guidance of all channels"):
        sample_app.main(
            ["--run", str(folders / "imf"), "--guidance", "2", "--guidance-channels", "1"]
        )


def test_a_folder_that_is_neither_is_named(folders, tmp_path):
    with pytest.raises(UserError, match="is not a run folder .* and no model folder"):
        po.open(tmp_path)
    with pytest.raises(UserError, match="holds an autoencoder and no flow map"):
        po.open(folders / "vae")
    with pytest.raises(UserError, match="--vae .* has latents of 2 channels, and this network"):
        po.open(folders / "sit", vae=folders / "vae")


def test_it_is_inspected(folders):
    found = inspect_app.main(["--run", str(folders / "sit"), "--json"])
    assert found["model"]["shape"] == list(SHAPE) and found["model"]["net"] == "official-dit"
    damaged = shutil.copytree(folders / "sit", folders / "damaged")
    with (damaged / "weights.safetensors").open("r+b") as file:
        file.seek(-5, 2)
        file.write(b"x")
    with pytest.raises(UserError, match="is damaged or of another model"):
        inspect_app.main(["--run", str(damaged)])


def test_arrays_stand_in_for_its_data(folders):
    x = np.zeros((3, *SHAPE), np.uint8)
    model = po.open(folders / "sit", data=x, labels=np.arange(3))
    assert len(model.dataset()) == 3 and model.dataset().num_classes == CLASSES
    with pytest.raises(UserError, match=r"examples of shape \(6, 4, 3\), and the sit network"):
        po.open(folders / "sit", data=x[:, :, :4]).dataset()


@pytest.mark.parametrize("name", ["samples", "eval.json", "weights.safetensors"])
def test_links_of_a_folder_lead_nowhere_else(folders, tmp_path, name):
    """Nothing is read or written through them."""
    folder = shutil.copytree(folders / "sit", tmp_path / "gift")
    (tmp_path / "elsewhere").mkdir()
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "elsewhere")
    for use in (po.open, open_source):
        with pytest.raises(UserError, match="is a link that leads out of"):
            use(folder)


@pytest.mark.slow
def test_latents_of_a_published_autoencoder_have_its_scale(folders, tmp_path):
    """Moments are those of the file, restated in NumPy; networks see them times the factor."""
    out = tmp_path / "z"
    data = ["--images", "arrays", "--data.path", f"{folders}/large.npz"]
    latents_app.main([*data, "--vae", f"{folders}/vae", "--out", str(out)])
    about = tomllib.loads((out / "latents.toml").read_text())
    assert about["shift"] == [0, 0]
    np.testing.assert_allclose(about["spread"], 1 / FACTOR)
    with np.load(folders / "large.npz") as file:
        x = file["x"][7].astype(np.float32) / 127.5 - 1
    weights = autoencoder(np.random.default_rng(0))
    mean, log_variance = diffusers_networks.encoded(weights, x, SIZES, LAYERS, GROUPS)
    stored = np.load(out / min(about["shards"]))[7].astype(np.float32)
    wanted = np.concatenate([mean, np.exp(log_variance / 2)], axis=-1)
    np.testing.assert_allclose(stored, wanted, rtol=2e-3, atol=2e-3)  # float16


@pytest.mark.slow
def test_latents_of_a_network_become_pictures(folders, tmp_path):
    flags = ["--run", f"{folders}/edm", "--vae", f"{folders}/vae", "--sampler", "heun"]
    sample_app.main([*flags, "--steps", "2", "--n", "4", "--out", f"{tmp_path}/x"])
    weights = autoencoder(np.random.default_rng(0))
    with np.load(f"{tmp_path}/x.npz") as found:
        assert found["samples"].shape == (4, 8, 8, 2)
        shown = diffusers_networks.decoded(weights, found["samples"][1], SIZES, LAYERS, GROUPS)
        np.testing.assert_allclose(found["pictures"][1], shown, rtol=1e-3, atol=1e-3)


def test_an_autoencoder_of_pictures_from_0_to_1_is_one_of_others(normal):
    """EDM2's latents come from such pictures."""

    class Halving:
        def encode(self, x):
            return x / 2, 0 * x

        def decode(self, z):
            return 2 * z

    codec, x = Ranged(Halving(), 0.0, 1.0), normal(2, 2, 3)

    @once
    def run(x):
        mean = codec.encode(x)[0]
        return mean, codec.decode(mean)

    mean, back = run(x)
    np.testing.assert_allclose(mean, (x + 1) / 4, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-6)
