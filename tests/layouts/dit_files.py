"""Files of published transformers with random numbers, and their networks restated in NumPy.

The restatement is NCHW, float64, and reads the foreign names: nothing of it is the code under test.
"""

import numpy as np

WIDTH, DEPTH, HEADS, PATCH, CHANNELS, SIDE, CLASSES, FEATURES = 24, 2, 3, 2, 3, 6, 5, 12
TOKENS = (SIDE // PATCH) ** 2


def numbers(shapes, seed=0):
    """Normal numbers of these shapes, smaller where many are summed: no value explodes."""
    generator = np.random.default_rng(seed)

    def draw(name, shape):
        one = name.endswith(("norm.kernel", "norm1.kernel", "norm2.kernel"))
        sums = "kernel" in name and len(shape) > 1
        inputs = np.prod(shape[:-1] if sums else shape[1:]) if len(shape) > 1 else 4
        spread = 1.0 if "embed" in name and "table" in name else 0.7 * inputs**-0.5
        return (one + spread * generator.normal(size=shape)).astype(np.float32)

    return {name: draw(name, shape) for name, shape in shapes.items()}


def dense(name, out, size, style="torch"):
    if style == "flax":
        return {f"{name}._flax_linear.kernel": (size, out), f"{name}._flax_linear.bias": (out,)}
    return {f"{name}.weight": (out, size), f"{name}.bias": (out,)}


def torch_dit(out):
    """The keys of SiT and DiT; `out` channels of the readout."""
    D = WIDTH
    shapes = {
        "pos_embed": (1, TOKENS, D),
        "x_embedder.proj.weight": (D, CHANNELS, PATCH, PATCH),
        "x_embedder.proj.bias": (D,),
        "y_embedder.embedding_table.weight": (CLASSES + 1, D),
    }
    shapes |= dense("t_embedder.mlp.0", D, FEATURES) | dense("t_embedder.mlp.2", D, D)
    for i in range(DEPTH):
        name = f"blocks.{i}."
        shapes |= dense(f"{name}attn.qkv", 3 * D, D) | dense(f"{name}attn.proj", D, D)
        shapes |= dense(f"{name}mlp.fc1", 4 * D, D) | dense(f"{name}mlp.fc2", D, 4 * D)
        shapes |= dense(f"{name}adaLN_modulation.1", 6 * D, D)
    shapes |= dense("final_layer.linear", PATCH**2 * out, D)
    return numbers(shapes | dense("final_layer.adaLN_modulation.1", 2 * D, D))


def flax_meanflow():
    """The keys of MeanFlow."""
    D, put = WIDTH, lambda name, out, size: dense(name, out, size, "flax")  # noqa: E731
    shapes = {
        "x_embedder.proj.kernel": (PATCH, PATCH, CHANNELS, D),
        "x_embedder.proj.bias": (D,),
        "y_embedder.embedding_table._flax_embedding.embedding": (CLASSES + 1, D),
    }
    for which in "th":
        shapes |= put(f"{which}_embedder.mlp.layers_0", D, FEATURES)
        shapes |= put(f"{which}_embedder.mlp.layers_2", D, D)
    for i in range(DEPTH):
        name = f"blocks.layers_{i}."
        shapes |= put(f"{name}attn.qkv", 3 * D, D) | put(f"{name}attn.proj", D, D)
        shapes |= put(f"{name}mlp.fc1", 4 * D, D) | put(f"{name}mlp.fc2", D, 4 * D)
        shapes |= put(f"{name}adaLN_modulation.layers_1", 6 * D, D)
    shapes |= put("final_layer.linear", PATCH**2 * CHANNELS, D)
    return numbers(shapes | put("final_layer.adaLN_modulation.layers_1", 2 * D, D))


def diffusers_dit(out):
    """The keys of `DiTTransformer2DModel`."""
    D = WIDTH
    shapes = {"pos_embed.proj.weight": (D, CHANNELS, PATCH, PATCH), "pos_embed.proj.bias": (D,)}
    for i in range(DEPTH):
        name = f"transformer_blocks.{i}."
        embed = f"{name}norm1.emb."
        shapes |= {f"{embed}class_embedder.embedding_table.weight": (CLASSES + 1, D)}
        shapes |= dense(f"{embed}timestep_embedder.linear_1", D, FEATURES)
        shapes |= dense(f"{embed}timestep_embedder.linear_2", D, D)
        shapes |= dense(f"{name}norm1.linear", 6 * D, D)
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= dense(f"{name}attn1.{part}", D, D)
        shapes |= dense(f"{name}ff.net.0.proj", 4 * D, D) | dense(f"{name}ff.net.2", D, 4 * D)
    shapes |= dense("proj_out_1", 2 * D, D) | dense("proj_out_2", PATCH**2 * out, D)
    return numbers(shapes)


class Reference:
    """The transformer of DiT in NumPy; `get(name)` gives weight (out, in) and bias by our words."""

    def __init__(self, get, patch, positions, mlp_eps=1e-6):
        self.get, self.patch = get, patch
        self.positions, self.mlp_eps = np.asarray(positions, np.float64), mlp_eps

    def __call__(self, x, embedded):
        """`x` (C, H, W); `embedded[i]` the embedding in block `i`; the readout has the first."""
        weight, bias = self.patch
        C, H, W = x.shape
        cut = x.astype(np.float64).reshape(C, H // PATCH, PATCH, W // PATCH, PATCH)
        h = np.einsum("cipjq,dcpq->ijd", cut, weight).reshape(-1, WIDTH) + bias + self.positions
        for i in range(DEPTH):
            h = self.block(h, embedded[i], i)
        shift, scale = np.split(self.dense("final.ada", silu(embedded[0])), 2)
        pixels = self.dense("final.linear", norm(h) * (1 + scale) + shift)
        pixels = pixels.reshape(H // PATCH, W // PATCH, PATCH, PATCH, -1)
        return np.einsum("hwpqc->chpwq", pixels).reshape(-1, H, W)[:C]

    def dense(self, name, x):
        weight, bias = self.get(name)
        return np.einsum("oi,...i->...o", weight.astype(np.float64), x) + bias

    def block(self, h, e, i):
        ada = self.dense(f"{i}.ada", silu(e)).reshape(6, -1)
        a = norm(h) * (1 + ada[1]) + ada[0]
        q, k, v = self.dense(f"{i}.qkv", a).reshape(len(h), 3, HEADS, -1).transpose(1, 2, 0, 3)
        h = h + ada[2] * self.dense(f"{i}.proj", attended(q, k, v))
        a = norm(h, self.mlp_eps) * (1 + ada[4]) + ada[3]
        hidden = self.dense(f"{i}.fc1", a)
        inner = np.sqrt(2 / np.pi) * (hidden + 0.044715 * hidden**3)
        return h + ada[5] * self.dense(f"{i}.fc2", 0.5 * hidden * (1 + np.tanh(inner)))


def attended(q, k, v):
    """Attention of queries, keys and values, (heads, tokens, dim), as (tokens, width)."""
    logits = np.einsum("hnd,hmd->hnm", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("hnm,hmd->nhd", weights, v).reshape(q.shape[1], -1)


def silu(x):
    return x / (1 + np.exp(-x))


def norm(x, eps=1e-6):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)


def number(dense, name, first, second, value, last=0):
    """The embedding of a number; `last` 1 where the end point is a frequency."""
    half = FEATURES // 2
    angles = float(value) * 10000.0 ** (-np.arange(half) / (half - last))
    hidden = dense(f"{name}{first}", np.concatenate([np.cos(angles), np.sin(angles)]))
    return dense(f"{name}{second}", silu(hidden))


def table(side=SIDE // PATCH, width=WIDTH):
    """The papers' position table, place by place."""
    rows = []
    for row in range(side):
        for column in range(side):
            line = []
            for place in (column, row):
                angles = [place / 10000 ** (j / (width // 4)) for j in range(width // 4)]
                line += [*np.sin(angles), *np.cos(angles)]
            rows.append(line)
    return np.array(rows)
