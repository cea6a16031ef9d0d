"""Inception of 2015 with weights of a seed, against NumPy.

The recipe of the weights: `numpy.random.default_rng(seed)` draws, for each convolution in the
order of `shapes`, its kernel, normal times `sqrt(2 / inputs of a place)`, then the norm's weight,
uniform in [0.5, 1.5], bias and running mean, normal times 0.1, and running variance, uniform in
[0.5, 1.5]; last the classifier's weight, normal times `1 / sqrt(channels)`, and bias, normal times
0.1. All are rounded to float32 as they are drawn.
"""

import hashlib

import jax
import numpy as np
import pytest

from core.metrics.networks import network_features
from core.nets.perceptions import open_network
from core.nets.perceptions.inception import BLOCKS, CLASSES, STEM, Conv, Fork, inception_2015
from tests.compiling import once
from tests.nets.perceptions import plain
from tests.nets.perceptions.sources import checksum, source_of
from tests.tensors.torch_files import Writer, ordered

CHECKSUM = "2be5f3993b2c95361ab5219bce2980a65c9bca0739105853bf012e4b54196142"
"""SHA-256 of the bytes of these weights at full width, in order of their names."""
SUM, LENGTH = 6931.914, 264.9176
"""Of the vector of the picture of `test_the_whole...`, the sum of its numbers and its length."""


def convolutions(thin=1):
    """Name, shape, stride and padding of every convolution, in order."""
    found = []

    def walk(block, steps, size):
        for step in steps:
            if isinstance(step, Fork):
                size = sum(walk(block, (part,), size) for part in step.parts)
            elif isinstance(step, Conv):
                shape = (step.out // thin, size, *step.kernel)
                found.append((block + step.name, shape))
                size = step.out // thin
        return size

    size = 3
    for steps in STEM.values():
        size = walk("", steps, size)
    for name, branches in BLOCKS.items():
        size = sum(walk(f"{name}.", steps, size) for steps in branches)
    return found, size


def weights(seed, thin=1, classes=CLASSES):
    rng = np.random.default_rng(seed)
    shapes, size = convolutions(thin)
    tensors = {}
    for name, shape in shapes:
        spread = np.sqrt(2 / np.prod(shape[1:]))
        drawn = {
            f"{name}.conv.weight": rng.standard_normal(shape, np.float32) * np.float32(spread),
            f"{name}.bn.weight": 0.5 + rng.random(shape[0], np.float32),
            f"{name}.bn.bias": 0.1 * rng.standard_normal(shape[0], np.float32),
            f"{name}.bn.running_mean": 0.1 * rng.standard_normal(shape[0], np.float32),
            f"{name}.bn.running_var": 0.5 + rng.random(shape[0], np.float32),
        }
        tensors |= {key: np.asarray(values, np.float32) for key, values in drawn.items()}
        tensors[f"{name}.bn.num_batches_tracked"] = np.array(0)
    head = rng.standard_normal((classes, size), np.float32) * np.float32(size**-0.5)
    return tensors | {
        "fc.weight": head,
        "fc.bias": np.asarray(0.1 * rng.standard_normal(classes, np.float32), np.float32),
    }


def bilinear(picture, side):
    """TensorFlow 1's rule by its two neighbours."""
    where = [np.arange(side) * n / side for n in picture.shape[:2]]
    low = [np.floor(w).astype(int) for w in where]
    high = [np.minimum(i + 1, n - 1) for i, n in zip(low, picture.shape)]
    rows, columns = (w - i for w, i in zip(where, low))

    def row(i):
        left, right = picture[i][:, low[1]], picture[i][:, high[1]]
        return left + (right - left) * columns[None, :, None]

    top, bottom = row(low[0]), row(high[0])
    return top + (bottom - top) * rows[:, None, None]


class Restated:
    """The blocks of the network as the specification writes them, on one picture (C, H, W)."""

    def __init__(self, tensors):
        self.wide = {name: values.astype(np.float64) for name, values in tensors.items()}

    def conv(self, x, name, stride=1, pad=(0, 0)):
        weight = self.wide[f"{name}.conv.weight"]
        x = plain.convolution(x, weight, stride, (pad[0], pad[0], pad[1], pad[1]))
        return np.maximum(plain.norm(x, self.wide, f"{name}.bn"), 0)

    def average(self, x):
        return plain.pool(x, np.nanmean, 1, 1)

    def halved(self, x):
        return plain.pool(x, np.nanmax, 2)

    def a(self, x, n):
        conv = self.conv
        one = conv(x, f"{n}.branch1x1")
        five = conv(conv(x, f"{n}.branch5x5_1"), f"{n}.branch5x5_2", 1, (2, 2))
        three = conv(conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", 1, (1, 1))
        three = conv(three, f"{n}.branch3x3dbl_3", 1, (1, 1))
        return np.concatenate([one, five, three, conv(self.average(x), f"{n}.branch_pool")])

    def b(self, x, n):
        conv = self.conv
        three = conv(conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", 1, (1, 1))
        three = conv(three, f"{n}.branch3x3dbl_3", 2)
        return np.concatenate([conv(x, f"{n}.branch3x3", 2), three, self.halved(x)])

    def c(self, x, n):
        conv = self.conv
        seven = conv(conv(x, f"{n}.branch7x7_1"), f"{n}.branch7x7_2", 1, (0, 3))
        seven = conv(seven, f"{n}.branch7x7_3", 1, (3, 0))
        double = conv(x, f"{n}.branch7x7dbl_1")
        for i, pad in ((2, (3, 0)), (3, (0, 3)), (4, (3, 0)), (5, (0, 3))):
            double = conv(double, f"{n}.branch7x7dbl_{i}", 1, pad)
        pooled = conv(self.average(x), f"{n}.branch_pool")
        return np.concatenate([conv(x, f"{n}.branch1x1"), seven, double, pooled])

    def d(self, x, n):
        conv = self.conv
        three = conv(conv(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2", 2)
        seven = conv(conv(x, f"{n}.branch7x7x3_1"), f"{n}.branch7x7x3_2", 1, (0, 3))
        seven = conv(conv(seven, f"{n}.branch7x7x3_3", 1, (3, 0)), f"{n}.branch7x7x3_4", 2)
        return np.concatenate([three, seven, self.halved(x)])

    def e(self, x, n, pooled):
        conv = self.conv

        def both(y, name):
            return [conv(y, f"{name}a", 1, (0, 1)), conv(y, f"{name}b", 1, (1, 0))]

        three = both(conv(x, f"{n}.branch3x3_1"), f"{n}.branch3x3_2")
        double = conv(conv(x, f"{n}.branch3x3dbl_1"), f"{n}.branch3x3dbl_2", 1, (1, 1))
        last = conv(pooled, f"{n}.branch_pool")
        one = conv(x, f"{n}.branch1x1")
        return np.concatenate([one, *three, *both(double, f"{n}.branch3x3dbl_3"), last])


def restated(tensors, picture):
    """The parts by name, the vector and the logits without bias, block after block."""
    net, found = Restated(tensors), {}
    conv = net.conv
    x = ((bilinear(picture.astype(np.float64), 299) - 128) / 128).transpose(2, 0, 1)
    x = conv(conv(x, "Conv2d_1a_3x3", 2), "Conv2d_2a_3x3")
    x = found["first"] = net.halved(conv(x, "Conv2d_2b_3x3", 1, (1, 1)))
    x = found["second"] = net.halved(conv(conv(x, "Conv2d_3b_1x1"), "Conv2d_4a_3x3"))
    for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d"):
        x = net.a(x, name)
    x = net.b(x, "Mixed_6a")
    for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e"):
        if name == "Mixed_6d":
            found["spatial"] = conv(x, "Mixed_6d.branch1x1")[:7]
        x = net.c(x, name)
    found["Mixed_6e"] = x
    x = net.d(x, "Mixed_7a")
    x = net.e(x, "Mixed_7b", net.average(x))
    x = found["Mixed_7c"] = net.e(x, "Mixed_7c", plain.pool(x, np.nanmax, 1, 1))
    vector = x.mean((1, 2))
    return found, vector, net.wide["fc.weight"] @ vector


def compare(tensors, picture, thin):
    """Largest error of each output over its largest number; and the vector."""
    network = inception_2015(source_of(tensors), thin)

    def all_of(levels):
        image = network.input(levels)
        with jax.default_matmul_precision("highest"):
            blocks, spatial = network.blocks(image), network.spatial(image)
            vector = network.layers(image).vector
            return blocks, spatial, vector, network.logits(vector)

    blocks, spatial, vector, logits = once(all_of)(picture.astype(np.float32))
    found, expected, classes = restated(tensors, picture)
    pairs = {name: (blocks[name].transpose(2, 0, 1), found[name]) for name in found.keys() & blocks}
    pairs |= {"vector": (vector, expected), "logits": (logits, classes)}
    pairs["spatial"] = spatial, found["spatial"].transpose(1, 2, 0).ravel()
    errors = {
        name: float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        for name, (ours, theirs) in pairs.items()
    }
    return errors, np.asarray(vector)


def test_the_layout_has_as_many_tensors_and_numbers_as_the_file():
    """566 tensors and 23,885,486 numbers, of which a counter a norm is one."""
    shapes, size = convolutions()
    numbers = sum(np.prod(shape) + 4 * shape[0] + 1 for _, shape in shapes)
    assert 6 * len(shapes) + 2 == 566 and size == 2048
    assert numbers + CLASSES * (size + 1) == 23_885_486


@pytest.mark.slow
@pytest.mark.ci
def test_a_thin_network_agrees_with_numpy(rng):
    """An eighth of the channels: every block, pool, the numbers of sFID, and the logits."""
    picture = rng.integers(0, 256, (32, 40, 3))
    errors, _ = compare(weights(0, 8, 10), picture, 8)
    assert len(errors) == 7 and max(errors.values()) < 1e-5, errors


@pytest.mark.long
def test_the_whole_network_agrees_with_numpy():
    """And gives the same numbers on every machine: seed 2015, a picture of seed 0, 32 x 32."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    tensors = weights(2015)
    errors, vector = compare(tensors, picture, 1)
    assert max(errors.values()) < 1e-5, errors
    assert checksum(tensors) == CHECKSUM
    found = vector.sum(), np.linalg.norm(vector)
    np.testing.assert_allclose(found, (SUM, LENGTH), rtol=1e-4, atol=1e-4)


@pytest.mark.long
def test_a_torch_file_is_opened_by_its_path(tmp_path, rng):
    """Written as torch writes it: the features of bytes are those of the network."""
    tensors = weights(1)
    writer = Writer()
    path = tmp_path / "pt_inception.pth"
    path.write_bytes(writer.file(ordered(**{k: writer.tensor(v) for k, v in tensors.items()})))
    known = open_network(f"inception={path}")
    assert known.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    features = network_features(open_network(f"inception={tmp_path}"))
    assert features.name == "Inception-2015" and features.origin.family == "inception-2015"
    pictures = rng.integers(0, 256, (2, 32, 32, 3)).astype(np.uint8)
    assert features(pictures).shape == (2, 2048) and features.logits(pictures).shape == (2, 1008)
    assert features.spatial(pictures).shape == (2, 2023)
