"""Latents: encoded by shard, drawn in the step, decoded by the codec that they name."""

import dataclasses
import tomllib

import jax.random as jr
import numpy as np
import pytest

from apps import latents as latents_app
from core import trust
from core.data import Dataset, LatentsData
from core.data.codec import Codec, _opened, open_python
from core.data.latent_folder import LatentFolder, encode_missing
from core.data.record import conflict, recorded
from core.errors import UserError
from core.train.gather import device_store, gathering
from tests.compiling import device, once

HALF = "python:tests.data.halving:halving"
SHAPE = (4, 6, 1)


@pytest.fixture
def pictures(rng):
    x = rng.integers(0, 256, (25, *SHAPE), np.uint8)
    labels = (np.arange(25) % 3).astype(np.int32)
    names = ("a", "b", "c")
    return Dataset(
        name="p", kind="image", shape=SHAPE, examples=x, labels=labels, num_classes=3,
        class_names=names, levels=255,
    )  # fmt: skip


@pytest.fixture
def codec():
    trust.typed([HALF])
    return Codec(HALF, open_python(HALF)[1], SHAPE)


def encoded(folder, data, codec, flips=False, seen=None):
    done = [] if seen is None else seen
    place = LatentFolder.claim(folder, data, codec, 8, flips)
    encode_missing(place, data, codec, 5, done.append)
    return LatentsData(str(folder)).load()


def test_what_is_stored_is_what_the_codec_says(pictures, codec, tmp_path):
    found = encoded(tmp_path, pictures, codec)
    x = np.asarray(pictures.decode(pictures.examples))
    z = 3 + x.reshape(25, 2, 2, 3, 2, 1).mean((2, 4))
    assert found.shape == (2, 3, 1) and found.examples.shape == (25, 2, 3, 2)
    np.testing.assert_allclose(found.examples[..., :1], z, atol=2e-3)
    np.testing.assert_array_equal(found.examples[..., 1:], np.float16(0.25))
    np.testing.assert_array_equal(found.labels, pictures.labels)
    assert found.class_names == ("a", "b", "c")
    names = [f"moments-0000{k}-of-00004.npy" for k in range(4)]
    assert sorted(p.name for p in tmp_path.glob("moments*")) == names
    values = np.asarray(found.decode(found.examples))
    drawn = (z.std() ** 2 + 0.25**2) ** 0.5  # the spread of draws
    np.testing.assert_allclose(values, (z - z.mean()) / drawn, atol=1e-2)
    pictured = found.spec.pictures(values)
    np.testing.assert_allclose(pictured[:, ::2, ::2], z - 3, atol=1e-2)
    assert found.spec.encode(values).shape == (25, 4, 6, 1)


@pytest.mark.slow
def test_a_stopped_encoding_goes_on_and_a_damaged_shard_is_made_again(pictures, codec, tmp_path):
    whole = encoded(tmp_path / "whole", pictures, codec).examples
    place = LatentFolder.claim(tmp_path / "part", pictures, codec, 8, False)

    class Stopped(Exception):
        pass

    def stop(count, seen=[]):
        seen.append(count)
        if len(seen) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        encode_missing(place, pictures, codec, 5, stop)
    with pytest.raises(UserError, match="not all encoded yet; run the same apps.latents again"):
        LatentsData(str(tmp_path / "part")).load()
    first = tmp_path / "part" / "moments-00000-of-00004.npy"
    second = tmp_path / "part" / "moments-00001-of-00004.npy"
    before = first.stat().st_mtime_ns
    second.write_bytes(second.read_bytes()[:-1] + b"?")
    np.testing.assert_array_equal(encoded(tmp_path / "part", pictures, codec).examples, whole)
    assert first.stat().st_mtime_ns == before


@pytest.mark.slow
def test_mirrored_pictures_are_rows_of_their_own(pictures, codec, tmp_path):
    found = encoded(tmp_path, pictures, codec, flips=True)
    z = found.examples[..., :1].astype(np.float32)
    assert len(found) == 50
    np.testing.assert_allclose(z[25:], z[:25, :, ::-1], atol=3e-3)
    np.testing.assert_array_equal(found.labels[25:], pictures.labels)


@pytest.mark.slow
def test_another_codec_or_other_data_are_refused(pictures, codec, tmp_path):
    encoded(tmp_path, pictures, codec)
    with pytest.raises(UserError, match="latents of another kind .flips False there, True asked"):
        encoded(tmp_path, pictures, codec, flips=True)
    other = dataclasses.replace(codec, sha256="0" * 64)
    with pytest.raises(UserError, match="is another one than it was"):
        encoded(tmp_path, pictures, other)
    fewer = dataclasses.replace(pictures, examples=pictures.examples + 1)
    with pytest.raises(UserError, match="latents of another kind .fingerprint"):
        encoded(tmp_path, fewer, codec)


def test_a_mismatch_of_codecs_is_a_conflict_of_data(pictures, codec, tmp_path):
    then = recorded(encoded(tmp_path, pictures, codec))
    now = dataclasses.replace(then, codec=dataclasses.replace(codec, sha256="1" * 64))
    assert "now, of the codec" in (conflict(then, now) or "")
    assert conflict(then, then) is None


def test_each_step_draws_other_latents_by_its_key_alone(pictures, codec, tmp_path):
    data = encoded(tmp_path, pictures, codec)
    gather, store = gathering(data), device_store(data)
    index = device(np.zeros(4000, np.int32))
    run = once(lambda seed: gather(store, {"index": index}, jr.key(seed)).x_0)
    first, again, other = run(0), run(0), run(1)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    mean, std = (part[0].astype(np.float32) for part in np.split(data.examples, 2, axis=-1))
    scale = np.asarray(data.scale.spread[0])
    np.testing.assert_allclose(first.std(0), std / scale, rtol=0.06)
    np.testing.assert_allclose(first.mean(0), (mean - data.scale.centre[0]) / scale, atol=0.03)


def test_a_missing_codec_is_one_line(pictures, codec, tmp_path):
    spec = dataclasses.replace(encoded(tmp_path, pictures, codec).spec)
    _opened.cache_clear()
    gone = dataclasses.replace(spec, codec=Codec(f"{tmp_path}/vae.safetensors", "", SHAPE))
    with pytest.raises(UserError, match="vae.safetensors is gone, so that these latents") as error:
        gone.encode(np.zeros((1, 2, 3, 1), np.float32))
    assert "\n" not in str(error.value)


REFUSED = {
    "no pictures": ([], "no pictures given; name their folder or data set with --images"),
    "no autoencoder": (
        ["--images", "digits"],
        "no autoencoder given; name its run",
    ),
    "no folder": (["--images", "digits", "--vae", "x"], "no folder to write given"),
    "unknown data": (["--images", "digitz"], "unknown folder of pictures or data set 'digitz'"),
    "no run": (["--images", "digits", "--vae", "nowhere", "--out", "o"], "no features in nowhere"),
    "no rows": (["--images", "digits", "--vae", "x", "--out", "o", "--rows", "0"], "at least 1"),
    "no function": (
        ["--images", "digits", "--vae", "python:nothing:here", "--out", "o"],
        "nothing:here names no function .No module named",
    ),
    "no codec": (
        ["--images", "digits", "--vae", "python:collections:OrderedDict", "--out", "o"],
        "returns OrderedDict, which has no encode and decode",
    ),
    "points": (
        ["--images", "two-moons", "--vae", HALF, "--out", "o"],
        "latents are of pictures, and two-moons has examples of another kind",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_flags_are_refused_in_one_line(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags, message = REFUSED[case]
    with pytest.raises(UserError, match=message) as error:
        latents_app.main(flags)
    assert "\n" not in str(error.value)


def test_a_folder_without_latents_is_refused(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(UserError, match="no latents.toml in it; make latents with"):
        LatentsData(str(tmp_path)).load()
    (tmp_path / "latents.toml").write_text("codec = 3")
    with pytest.raises(UserError, match="latents.toml is damaged"):
        LatentsData(str(tmp_path)).load()


@pytest.mark.slow
def test_the_command_writes_what_latents_toml_says(tmp_path):
    found = latents_app.main(
        ["--images", "digits", "--vae", HALF, "--out", f"{tmp_path}/z", "--rows", "1000", "--json"]
    )
    about = tomllib.loads((tmp_path / "z" / "latents.toml").read_text())
    assert found["rows"] == about["rows"] == 1797 and about["complete"]
    assert len(about["shards"]) == 2 and len(about["codec"]["sha256"]) == 64
    assert len(about["shift"]) == len(about["spread"]) == 1
