"""The layers of torch, restated plainly: images (channels, height, width), float64, loops.

Nothing here is shared with what is tested. `Maker` makes random tensors by torch's names.
"""

import numpy as np


class Maker:
    """Random tensors of a network of another program, by name, in its order; nothing is zero."""

    def __init__(self, rng):
        self.rng = rng
        self.tensors = {}

    def add(self, name, shape, scale=1.0, mean=0.0):
        values = mean + scale * self.rng.normal(size=shape)
        self.tensors[name] = np.asarray(values, np.float32)

    def dense(self, name, size_in, size_out, bias=True):
        self.add(f"{name}.weight", (size_out, size_in), size_in**-0.5)
        if bias:
            self.add(f"{name}.bias", (size_out,), 0.3)

    def conv(self, name, size_in, size_out, side=3, bias=True):
        self.add(f"{name}.weight", (size_out, size_in, side, side), (side * side * size_in) ** -0.5)
        if bias:
            self.add(f"{name}.bias", (size_out,), 0.3)

    def norm(self, name, size):
        self.add(f"{name}.weight", (size,), 0.3, 1.0)
        self.add(f"{name}.bias", (size,), 0.3)


class Layers:
    """Layers that take their weights from tensors by name, in float64."""

    def __init__(self, tensors):
        self.tensors = {name: np.asarray(value, np.float64) for name, value in tensors.items()}

    def has(self, name):
        return name in self.tensors

    def dense(self, name, x):
        y = np.einsum("oi,...i->...o", self.tensors[f"{name}.weight"], x)
        return y + self.tensors.get(f"{name}.bias", 0.0)

    def conv(self, name, x, stride=1, pad=None):
        weight = self.tensors[f"{name}.weight"]
        y = conv(x, weight, stride, (weight.shape[2] // 2,) * 2 if pad is None else pad)
        bias = self.tensors.get(f"{name}.bias")
        return y if bias is None else y + bias[:, None, None]

    def group_norm(self, name, x, groups, eps):
        split = x.reshape(groups, -1)
        mean, variance = split.mean(1, keepdims=True), split.var(1, keepdims=True)
        y = ((split - mean) / np.sqrt(variance + eps)).reshape(x.shape)
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return y * weight[:, None, None] + bias[:, None, None]


def conv(x, weight, stride=1, pad=(1, 1)):
    """A convolution with `pad` zeros before and after along each axis, one pixel at a time."""
    wide = np.pad(x, [(0, 0), pad, pad])
    out, _, high, broad = weight.shape
    sizes = [(n - k) // stride + 1 for n, k in zip(wide.shape[1:], (high, broad))]
    y = np.zeros((out, *sizes))
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            part = wide[:, i * stride : i * stride + high, j * stride : j * stride + broad]
            y[:, i, j] = np.einsum("ohij,hij->o", weight, part)
    return y


def each_channel(x, kernel, stride, pad):
    """The same filter over each channel."""
    return np.concatenate([conv(c[None], kernel[None, None], stride, pad) for c in x])


def filtered_down(x, taps, pad):
    """torch's strided convolution of each channel with an outer product."""
    row = np.array(taps, float) / sum(taps)
    return each_channel(x, np.outer(row, row), 2, (pad, pad))


def filtered_up(x, taps):
    """torch's transposed convolution, stride 2: zeros between pixels, 4 times the filter."""
    row = np.array(taps, float) / sum(taps)
    wide = np.zeros((x.shape[0], 2 * x.shape[1] - 1, 2 * x.shape[2] - 1))
    wide[:, ::2, ::2] = x
    around = len(taps) - 1 - (len(taps) - 1) // 2
    return each_channel(wide, 4 * np.outer(row, row), 1, (around, around))


def nearest(x):
    return x.repeat(2, 1).repeat(2, 2)


def silu(x):
    return x / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v):
    """Of heads: (heads, channels, places) each."""
    weights = softmax(np.einsum("hcq,hck->hqk", q, k) / np.sqrt(q.shape[1]))
    return np.einsum("hqk,hck->hcq", weights, v)


def channels_first(x):
    return np.moveaxis(np.asarray(x, np.float64), -1, 0)


def channels_last(x):
    return np.moveaxis(x, 0, -1)
