"""EDM2's network restated plainly, and its tensors: `training/networks_edm2.py` in NumPy."""

import numpy as np

from tests.layouts.torch_layers import (
    Layers,
    Maker,
    attention,
    channels_first,
    channels_last,
    conv,
    filtered_down,
    filtered_up,
    silu,
)

CHANNELS, SIZE, CLASSES, HEAD = 8, 8, 3, 4


def made(rng, mult=(1, 2), blocks=1, attention=(4,), size=SIZE, depth=2):
    """Tensors of a network by their names, in the order in which its code makes them."""
    maker = Maker(rng)
    sizes = [CHANNELS * m for m in mult]
    embed = max(sizes)

    def weight(name, *shape):
        maker.add(f"unet.{name}.weight", shape, 1.7)

    maker.add("unet.out_gain", (), 0.1, 1.0)
    maker.add("unet.emb_fourier.freqs", (sizes[0],), 2 * np.pi)
    maker.add("unet.emb_fourier.phases", (sizes[0],), 2.0)
    weight("emb_noise", embed, sizes[0])
    weight("emb_label", embed, CLASSES)

    def block(name, size_in, size_out, attends):
        maker.add(f"unet.{name}.emb_gain", (), 0.1, 0.7)
        inside = size_out if name.startswith("enc") else size_in
        weight(f"{name}.conv_res0", size_out, inside, 3, 3)
        weight(f"{name}.emb_linear", size_out, embed)
        weight(f"{name}.conv_res1", size_out, size_out, 3, 3)
        if size_in != size_out:
            weight(f"{name}.conv_skip", size_out, size_in, 1, 1)
        if attends:
            weight(f"{name}.attn_qkv", 3 * size_out, size_out, 1, 1)
            weight(f"{name}.attn_proj", size_out, size_out, 1, 1)

    wide, skips = depth + 1, []
    for level, channels in enumerate(sizes):
        res = size >> level
        if level == 0:
            weight(f"enc.{res}x{res}_conv", channels, wide, 3, 3)
            wide = channels
        else:
            block(f"enc.{res}x{res}_down", wide, wide, False)
        skips.append(wide)
        for n in range(blocks):
            block(f"enc.{res}x{res}_block{n}", wide, channels, res in attention)
            wide = channels
            skips.append(wide)
    for level in reversed(range(len(sizes))):
        res = size >> level
        if level == len(sizes) - 1:
            block(f"dec.{res}x{res}_in0", wide, wide, True)
            block(f"dec.{res}x{res}_in1", wide, wide, False)
        else:
            block(f"dec.{res}x{res}_up", wide, wide, False)
        for n in range(blocks + 1):
            block(f"dec.{res}x{res}_block{n}", wide + skips.pop(), sizes[level], res in attention)
            wide = sizes[level]
    weight("out_conv", depth, wide, 3, 3)
    maker.add("logvar_fourier.freqs", (4,))
    maker.add("logvar_fourier.phases", (4,))
    maker.add("logvar_linear.weight", (1, 4))
    return maker.tensors


def network(tensors, x, noise, label=None):
    """F(x, c_noise, label) of one image (height, width, channels)."""
    layers = Layers(tensors)
    names = [name.split(".") for name in tensors if name.split(".")[1] in ("enc", "dec")]
    modules = list(dict.fromkeys(".".join(n[:3]) for n in names))
    turns = layers.tensors["unet.emb_fourier.freqs"] * noise
    e = np.sqrt(2) * np.cos(turns + layers.tensors["unet.emb_fourier.phases"])
    onehot = np.zeros(CLASSES)
    if label is not None:
        onehot[label] = np.sqrt(CLASSES)
    e = _sum(_layer(layers, "unet.emb_noise", e), _layer(layers, "unet.emb_label", onehot), 0.5)
    e = silu(e) / 0.596
    h = channels_first(x)
    h = np.concatenate([h, np.ones_like(h[:1])])
    skips = []
    for name in modules:
        if name.endswith("_conv"):
            h = _layer(layers, name, h)
        else:
            if ".dec." in name and "_block" in name:
                h = _joined(h, skips.pop())
            h = _block(layers, name, h, e)
        if ".enc." in name:
            skips.append(h)
    return channels_last(_layer(layers, "unet.out_conv", h, layers.tensors["unet.out_gain"]))


def preconditioned(tensors, x, sigma, label=None, data=0.5):
    total = sigma**2 + data**2
    F = network(tensors, x / np.sqrt(total), np.log(sigma) / 4, label)
    return data**2 / total * x + sigma * data / np.sqrt(total) * F


def effective(weight):
    """torch's `normalize(w) / sqrt(fan_in)`."""
    rows = weight.reshape(len(weight), -1)
    rms = np.linalg.norm(rows, axis=1) / np.sqrt(rows.shape[1])
    return (rows / (1e-4 + rms)[:, None] / np.sqrt(rows.shape[1])).reshape(weight.shape)


def _layer(layers, name, x, gain=1.0):
    weight = effective(layers.tensors[f"{name}.weight"]) * gain
    return weight @ x if weight.ndim == 2 else conv(x, weight, 1, (weight.shape[2] // 2,) * 2)


def _sum(a, b, t):
    return ((1 - t) * a + t * b) / np.sqrt((1 - t) ** 2 + t**2)


def _joined(a, b):
    scale = np.sqrt((len(a) + len(b)) / 0.5)
    return np.concatenate([scale / np.sqrt(len(a)) * 0.5 * a, scale / np.sqrt(len(b)) * 0.5 * b])


def _normed(x, axis=0):
    return x / (1e-4 + np.sqrt(np.square(x).mean(axis, keepdims=True)))


def _block(layers, name, x, e):
    if name.endswith("_down"):
        x = filtered_down(x, (1, 1), 0)
    if name.endswith("_up"):
        x = filtered_up(x, (1, 1))
    skips = layers.has(f"{name}.conv_skip.weight")
    if ".enc." in name:
        x = _normed(_layer(layers, f"{name}.conv_skip", x) if skips else x)
    y = _layer(layers, f"{name}.conv_res0", silu(x) / 0.596)
    c = _layer(layers, f"{name}.emb_linear", e, layers.tensors[f"{name}.emb_gain"]) + 1
    y = _layer(layers, f"{name}.conv_res1", silu(y * c[:, None, None]) / 0.596)
    if ".dec." in name and skips:
        x = _layer(layers, f"{name}.conv_skip", x)
    x = _sum(x, y, 0.3)
    if layers.has(f"{name}.attn_qkv.weight"):
        heads = len(x) // HEAD
        split = _layer(layers, f"{name}.attn_qkv", x).reshape(heads, HEAD, 3, -1)
        q, k, v = (_normed(split[:, :, i], 1) for i in range(3))
        x = _sum(x, _layer(layers, f"{name}.attn_proj", attention(q, k, v).reshape(x.shape)), 0.3)
    return np.clip(x, -256, 256)
