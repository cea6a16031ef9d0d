"""Features of trained networks as metrics look at them: bytes, batches, and what a number names."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.metrics import FeatureExtractor, FeatureOrigin, extract
from core.metrics.networks import BATCH, NetworkFeatures, in_batches, levels, network_features
from core.nets.perceptions import NETWORKS, Known, Pretrained
from core.nets.perceptions.pretrained import Layers
from core.train.features import open_perception
from core.train.named_features import open_features


class Means(Pretrained):
    """The mean of each colour, of levels that are doubled; three classes."""

    def prepared(self, levels):
        return 2 * levels

    def layers(self, image):
        return Layers((image,), jnp.mean(image, axis=(0, 1)))

    def logits(self, vector):
        return -vector


def opened(network=Means()):
    return network_features(Known(network, NETWORKS["inception"], "Means", "ab12"))


def test_network_values_become_bytes_and_bytes_stay(rng):
    """What lies between two bytes is rounded, what lies outside is cut."""
    x = np.array([-3, -1, -1 + 0.6 / 127.5, 0.1, 1, 7], np.float32).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(levels(x).ravel(), [0, 0, 1, 140, 255, 255])
    pictures = rng.integers(0, 256, (2, 4, 5, 3)).astype(np.uint8)
    np.testing.assert_array_equal(levels(pictures), pictures)
    np.testing.assert_array_equal(levels(pictures / np.float32(127.5) - 1), pictures)


def test_gray_is_repeated_and_the_last_batch_is_filled_up(rng):
    pictures = rng.integers(0, 256, (BATCH + 3, 2, 3, 1)).astype(np.uint8)
    features = opened()
    expected = 2 * pictures.mean((1, 2), dtype=np.float64).repeat(3, axis=1)
    found = extract(features, pictures)
    assert found.dtype == np.float64 and isinstance(features, FeatureExtractor)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(features.classify(found), -expected, rtol=1e-6)


def test_all_batches_have_one_shape():
    shapes = []

    def compute(part):
        shapes.append(part.shape)
        return part

    found = in_batches(compute, np.arange(10.0).reshape(5, 2), 2)
    np.testing.assert_array_equal(found, np.arange(10).reshape(5, 2))
    assert shapes == [(2, 2)] * 3


def test_a_number_can_say_how_it_was_made():
    features = opened()
    origin = features.origin
    assert isinstance(origin, FeatureOrigin) and features.name == "Means"
    assert (origin.weights_sha256, origin.family) == ("ab12", "inception-2015")
    assert "299" in origin.resize and origin.licence == "Apache-2.0"


def test_a_network_without_classes_has_no_logits():
    class Plain(Pretrained):
        def prepared(self, levels):
            return levels

        def layers(self, image):
            return Layers((image,), jnp.mean(image, axis=(0, 1)))

    features = opened(Plain())
    assert features.logits is None and features.classify is None and features.spatial is None
    assert isinstance(replace(features, name="other"), NetworkFeatures)


def test_pictures_that_are_not_finite_are_found(rng):
    x = rng.uniform(-1, 1, (4, 2, 2, 1)).astype(np.float32)
    x[2, 0, 0] = np.nan
    with pytest.raises(ValueError, match="1 of 4 examples have features that are not finite"):
        extract(opened(), x)


@pytest.mark.parametrize(
    "name, shape, message",
    [
        ("inception", (8, 8, 3), "inception features need their weights: give inception=FILE"),
        ("dinov2", (8, 8, 3), "dinov2 features need their weights: give dinov2=FILE"),
        ("dinov2=nowhere.pth", (8, 8, 3), "no file nowhere.pth; give dinov2=FILE"),
        ("efficientnet-lite0", (2,), r"pictures of 1 or 3 channels, .* have shape \(2,\)"),
        ("efficientnet-lite0", (8, 8, 4), r"channels, .* have shape \(8, 8, 4\)"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(name, shape, message):
    with pytest.raises(UserError, match=message):
        open_features(name, shape)
    with pytest.raises(UserError, match=message):
        open_perception(name, shape)


def test_a_folder_of_weights_has_one_file(tmp_path):
    with pytest.raises(UserError, match="has no files of weights"):
        open_features(f"inception={tmp_path}", (8, 8, 3))
    for name in ("a.pth", "b.safetensors"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="has 2 files of weights .* name the file"):
        open_features(f"inception={tmp_path}", (8, 8, 3))
