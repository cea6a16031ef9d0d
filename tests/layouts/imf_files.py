"""A file of improved MeanFlow with random numbers, and its network restated in NumPy."""

import numpy as np

from tests.layouts.dit_files import (
    CHANNELS,
    CLASSES,
    FEATURES,
    HEADS,
    PATCH,
    WIDTH,
    attended,
    number,
    numbers,
    silu,
)

DIM, HIDDEN = WIDTH // HEADS, int(WIDTH * 8 / 3)
SHARED, OWN = 1, 2
GROUPS = {"class": 8, "omega": 4, "t_min": 2, "t_max": 2, "time": 4}


def tensors(headed):
    """The tensors by name; without the head only its readout is there."""
    D = WIDTH
    shapes = {
        "x_embedder.proj.kernel": (PATCH, PATCH, CHANNELS, D),
        "x_embedder.proj.bias": (D,),
        "y_embedder.embedding_table._flax_embedding.embedding": (CLASSES + 1, D),
    } | {f"{name}_tokens": (count, D) for name, count in GROUPS.items()}
    for name in ("h", "omega", "cfg_t_start", "cfg_t_end"):
        for layer, size in ((0, FEATURES), (2, D)):
            start = f"{name}_embedder.mlp.layers_{layer}._flax_linear"
            shapes |= {f"{start}.kernel": (size, D), f"{start}.bias": (D,)}
    blocks = [f"shared_blocks_{i}" for i in range(SHARED)]
    for head in "uv" if headed else "u":
        blocks += [f"{head}_heads_{i}" for i in range(OWN)]
    for block in blocks:
        shapes |= {f"{block}.{name}": shape for name, shape in _block().items()}
    for head in "uv":
        start = f"{head}_final_layer"
        pixels = PATCH**2 * CHANNELS
        shapes |= {f"{start}.norm.kernel": (D,), f"{start}.linear._flax_linear.bias": (pixels,)}
        shapes |= {f"{start}.linear._flax_linear.kernel": (D, pixels)}
    return numbers(shapes)


def _block():
    D = WIDTH
    shapes = {f"norm{i}.kernel": (D,) for i in (1, 2)}
    shapes |= {f"attn.{part}_norm.kernel": (DIM,) for part in "qk"}
    shapes |= {f"attn.{part}_proj._flax_linear.kernel": (D, D) for part in ("q", "k", "v", "out")}
    shapes |= {f"mlp.w{i}._flax_linear.kernel": (D, HIDDEN) for i in (1, 3)}
    shapes |= {"mlp.w2._flax_linear.kernel": (HIDDEN, D)}
    return shapes | {"attn_scale": (D,), "mlp_scale": (D,)}


def reference(w, x, s, t, label, guidance):
    """`(u, v)` of one image (C, H, W); `v` is left out where there is no head."""

    def dense(name, values):
        bias = w.get(f"{name}._flax_linear.bias", 0.0)
        return np.einsum("io,...i->...o", w[f"{name}._flax_linear.kernel"], values) + bias

    w = {name: value.astype(np.float64) for name, value in w.items()}
    scale, start, end = guidance.astype(np.float64)
    embed = lambda name, value: number(dense, f"{name}_embedder.mlp.layers_", 0, 2, value)  # noqa: E731
    given = {
        "class": w["y_embedder.embedding_table._flax_embedding.embedding"][label],
        "omega": embed("omega", 1 - 1 / scale),
        "t_min": embed("cfg_t_start", start),
        "t_max": embed("cfg_t_end", end),
        "time": embed("h", np.float64(s) - np.float64(t)),
    }
    C, H, W = x.shape
    cut = x.astype(np.float64).reshape(C, H // PATCH, PATCH, W // PATCH, PATCH)
    patches = np.einsum("cipjq,pqcd->ijd", cut, w["x_embedder.proj.kernel"]).reshape(-1, WIDTH)
    front = [w[f"{name}_tokens"] + given[name] for name in GROUPS]
    h = np.concatenate([*front, patches + w["x_embedder.proj.bias"]])
    for i in range(SHARED):
        h = block(w, dense, f"shared_blocks_{i}", h)
    found = []
    for head in "uv":
        if f"{head}_heads_0.attn_scale" in w:
            found.append(_head(w, dense, head, h, H, W))
    return tuple(found)


def _head(w, dense, head, h, H, W):
    for i in range(OWN):
        h = block(w, dense, f"{head}_heads_{i}", h)
    tokens = rms(h[sum(GROUPS.values()) :], w[f"{head}_final_layer.norm.kernel"])
    pixels = dense(f"{head}_final_layer.linear", tokens)
    pixels = pixels.reshape(H // PATCH, W // PATCH, PATCH, PATCH, -1)
    return np.einsum("hwpqc->chpwq", pixels).reshape(-1, H, W)


def block(w, dense, name, h):
    a = rms(h, w[f"{name}.norm1.kernel"])
    q, k, v = (
        dense(f"{name}.attn.{part}_proj", a).reshape(len(h), HEADS, DIM).transpose(1, 0, 2)
        for part in "qkv"
    )
    q, k = (turned(rms(x, w[f"{name}.attn.{p}_norm.kernel"])) for p, x in (("q", q), ("k", k)))
    h = h + w[f"{name}.attn_scale"] * dense(f"{name}.attn.out_proj", attended(q, k, v))
    a = rms(h, w[f"{name}.norm2.kernel"])
    hidden = silu(dense(f"{name}.mlp.w1", a)) * dense(f"{name}.mlp.w3", a)
    return h + w[f"{name}.mlp_scale"] * dense(f"{name}.mlp.w2", hidden)


def rms(x, scale):
    return scale * x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-6)


def turned(x):
    """Pairs of neighbouring channels as complex numbers, turned by the place of the token."""
    pairs = x[..., ::2] + 1j * x[..., 1::2]
    places = np.arange(x.shape[1])[:, None]
    pairs = pairs * np.exp(1j * places / 10000 ** (np.arange(0, DIM, 2) / DIM))
    return np.stack([pairs.real, pairs.imag], -1).reshape(x.shape)
