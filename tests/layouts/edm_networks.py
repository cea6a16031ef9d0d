"""EDM's three networks restated plainly, and their tensors: `training/networks.py` in NumPy."""

import numpy as np

from tests.layouts.torch_layers import (
    Layers,
    Maker,
    attention,
    channels_first,
    channels_last,
    filtered_down,
    filtered_up,
    silu,
)

CHANNELS, SIZE, CLASSES, HEAD = 8, 8, 3, 4
TAPS = {"ddpm++": (1, 1), "ncsn++": (1, 3, 3, 1), "adm": (1, 1)}


def made(rng, variant, mult=(1, 2), blocks=1, attention=(4,), size=SIZE, depth=2):
    """Tensors of a network by their names, in the order in which its code makes them."""
    maker, adm = Maker(rng), variant == "adm"
    noise, embed = CHANNELS * (2 if variant == "ncsn++" else 1), 4 * CHANNELS
    if variant == "ncsn++":
        maker.add("model.map_noise.freqs", (noise // 2,), 3.0)
    if adm:
        maker.dense("model.map_label", CLASSES, embed, bias=False)
    else:
        maker.dense("model.map_label", CLASSES, noise)
    maker.dense("model.map_augment", 9, noise, bias=False)
    maker.dense("model.map_layer0", noise, embed)
    maker.dense("model.map_layer1", embed, embed)

    def block(name, size_in, size_out, attends, resamples=False):
        name = f"model.{name}"
        maker.norm(f"{name}.norm0", size_in)
        maker.conv(f"{name}.conv0", size_in, size_out)
        maker.dense(f"{name}.affine", embed, size_out * (2 if adm else 1))
        maker.norm(f"{name}.norm1", size_out)
        maker.conv(f"{name}.conv1", size_out, size_out)
        if size_in != size_out or (resamples and not adm):
            maker.conv(f"{name}.skip", size_in, size_out, 1)
        if resamples:
            row = np.array(TAPS[variant], np.float32)
            kernel = np.outer(row, row)[None, None] / row.sum() ** 2
            maker.tensors[f"{name}.conv0.resample_filter"] = kernel
        if attends:
            maker.norm(f"{name}.norm2", size_out)
            maker.conv(f"{name}.qkv", size_out, 3 * size_out, 1)
            maker.conv(f"{name}.proj", size_out, size_out, 1)

    sizes = [CHANNELS * m for m in mult]
    wide, aux, skips = CHANNELS, depth, []
    for level, channels in enumerate(sizes):
        res = size >> level
        if level == 0:
            maker.conv(f"model.enc.{res}x{res}_conv", depth, wide)
            skips.append(wide)
        else:
            block(f"enc.{res}x{res}_down", wide, wide, False, True)
            skips.append(wide)
            if variant == "ncsn++":
                maker.conv(f"model.enc.{res}x{res}_aux_residual", aux, wide)
                aux = wide
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
            block(f"dec.{res}x{res}_up", wide, wide, False, True)
        for n in range(blocks + 1):
            attends = res in attention and (adm or n == blocks)
            block(f"dec.{res}x{res}_block{n}", wide + skips.pop(), sizes[level], attends)
            wide = sizes[level]
    last = "model.out" if adm else f"model.dec.{size}x{size}_aux"
    maker.norm(f"{last}_norm", wide)
    maker.conv(f"{last}_conv", wide, depth)
    return maker.tensors


def network(tensors, variant, x, noise, label=None):
    """F(x, c_noise, label) of one image (height, width, channels)."""
    layers, adm = Layers(tensors), variant == "adm"
    names = [name.split(".") for name in tensors]
    order = [".".join(n[:3]) for n in names if n[1] in ("enc", "dec")]
    modules = list(dict.fromkeys(order))
    onehot = np.zeros(CLASSES)
    if label is not None:
        onehot[label] = 1
    e = _noise(layers, adm, noise)
    if not adm:
        e = e + layers.dense("model.map_label", onehot * np.sqrt(CLASSES))
    e = layers.dense("model.map_layer1", silu(layers.dense("model.map_layer0", e)))
    if adm:
        e = e + layers.dense("model.map_label", onehot)
    e = silu(e)
    h = aux = channels_first(x)
    skips, out = [], None
    for name in modules:
        if name.endswith("_aux_residual"):
            low = layers.conv(name, aux, pad=(2, 2)) - layers.tensors[f"{name}.bias"][:, None, None]
            beside = (
                filtered_down(low, (1, 3, 3, 1), 0) + layers.tensors[f"{name}.bias"][:, None, None]
            )
            h = skips[-1] = aux = (h + beside) / np.sqrt(2)
        elif name.endswith("_aux_norm"):
            out = layers.group_norm(name, h, _groups(h), 1e-6)
        elif name.endswith("_aux_conv"):
            out = layers.conv(name, silu(out))
        elif ".enc." in name:
            h = (
                layers.conv(name, h)
                if name.endswith("_conv")
                else _block(layers, name, variant, h, e)
            )
            skips.append(h)
        else:
            if h.shape[0] != layers.tensors[f"{name}.norm0.weight"].shape[0]:
                h = np.concatenate([h, skips.pop()])
            h = _block(layers, name, variant, h, e)
    if adm:
        normed = layers.group_norm("model.out_norm", h, _groups(h), 1e-5)
        out = layers.conv("model.out_conv", silu(normed))
    return channels_last(out)


def preconditioned(tensors, variant, x, sigma, label=None, data=0.5):
    total = sigma**2 + data**2
    F = network(tensors, variant, x / np.sqrt(total), np.log(sigma) / 4, label)
    return data**2 / total * x + sigma * data / np.sqrt(total) * F


def _noise(layers, adm, noise):
    if layers.has("model.map_noise.freqs"):
        turns = 2 * np.pi * noise * layers.tensors["model.map_noise.freqs"]
        return np.concatenate([np.sin(turns), np.cos(turns)])
    half = CHANNELS // 2
    turns = noise * (1 / 10000) ** (np.arange(half) / (half - (0 if adm else 1)))
    parts = [np.cos(turns), np.sin(turns)]
    return np.concatenate(parts if adm else parts[::-1])


def _groups(x):
    return min(32, x.shape[0] // 4)


def _block(layers, name, variant, x, e):
    eps, factor = (1e-5, 1.0) if variant == "adm" else (1e-6, np.sqrt(0.5))

    def resampled(x):
        if name.endswith("_down"):
            return filtered_down(x, TAPS[variant], 1 if variant == "ncsn++" else 0)
        return filtered_up(x, TAPS[variant]) if name.endswith("_up") else x

    y = silu(layers.group_norm(f"{name}.norm0", x, _groups(x), eps))
    y = layers.conv(f"{name}.conv0", resampled(y))
    given = layers.dense(f"{name}.affine", e)[:, None, None]
    if variant == "adm":
        scale, shift = np.split(given, 2)
        y = layers.group_norm(f"{name}.norm1", y, _groups(y), eps) * (scale + 1) + shift
    else:
        y = layers.group_norm(f"{name}.norm1", y + given, _groups(y), eps)
    y = layers.conv(f"{name}.conv1", silu(y))
    x = resampled(x)
    x = (y + (layers.conv(f"{name}.skip", x) if layers.has(f"{name}.skip.weight") else x)) * factor
    if not layers.has(f"{name}.qkv.weight"):
        return x
    heads = x.shape[0] // HEAD if variant == "adm" else 1
    normed = layers.group_norm(f"{name}.norm2", x, _groups(x), eps)
    split = layers.conv(f"{name}.qkv", normed).reshape(heads, x.shape[0] // heads, 3, -1)
    a = attention(*(split[:, :, i] for i in range(3))).reshape(x.shape)
    return (layers.conv(f"{name}.proj", a) + x) * factor
