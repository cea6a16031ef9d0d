"""DINOv2 with weights of a seed, against NumPy.

The recipe of the weights: `numpy.random.default_rng(seed)` draws the tensors in the order of
`shapes`, normal, times `1 / sqrt(inputs)` for matrices and kernels, 0.1 for biases and tables; the
scales of norms and of `ls1`, `ls2` are 1 plus 0.1 times normal. All in float32.
"""

import jax
import numpy as np
import pytest
from PIL import Image
from scipy.special import erf

from core.errors import UserError
from core.nets.perceptions import open_network
from core.nets.perceptions.dinov2 import MEAN, STD, dinov2, position_table
from tests.compiling import once
from tests.nets.perceptions.sources import checksum, source_of
from tests.tensors.torch_files import Writer, ordered

CHECKSUM = "57ef2407ab3c0f4a3b156763d4692762214840e0e0a11b34e4b9a11532273aa3"
"""SHA-256 of the bytes of these weights at full width, in order of their names."""


def shapes(width, depth):
    found = {"cls_token": (1, 1, width), "pos_embed": (1, 1370, width), "mask_token": (1, width)}
    found["patch_embed.proj.weight"] = (width, 3, 14, 14)
    found["patch_embed.proj.bias"] = (width,)
    sizes = {
        "norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width),
        "norm2": (width,), "mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width),
    }  # fmt: skip
    for i in range(depth):
        for part, shape in sizes.items():
            found[f"blocks.{i}.{part}.weight"] = shape
            found[f"blocks.{i}.{part}.bias"] = shape[:1]
        found |= {f"blocks.{i}.{part}.gamma": (width,) for part in ("ls1", "ls2")}
    return found | {"norm.weight": (width,), "norm.bias": (width,)}


def weights(seed, width, depth):
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in shapes(width, depth).items():
        drawn = rng.standard_normal(shape, np.float32)
        scale = name.endswith("gamma") or (name.endswith("weight") and len(shape) == 1)
        if scale:
            found[name] = np.float32(1) + np.float32(0.1) * drawn
        elif name.endswith("weight"):
            found[name] = drawn * np.float32(np.prod(shape[1:]) ** -0.5)
        else:
            found[name] = drawn * np.float32(0.1)
    return found


def cubic(x, a=-0.75):
    x = abs(x)
    if x < 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a if x < 2 else 0.0


def moved(grid, side):
    """A table of places along its first axis, brought to `side` places by sums of neighbours."""
    found = np.zeros((side, *grid.shape[1:]))
    for i in range(side):
        centre = (i + 0.5) * len(grid) / (side + 0.1) - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            found[i] += cubic(centre - j) * grid[min(max(j, 0), len(grid) - 1)]
    return found


def restated(tensors, picture):
    """The class token and the patches after each block, one token at a time where it is short."""
    w = {name: values.astype(np.float64) for name, values in tensors.items()}
    planes = [Image.fromarray(picture[..., c].astype(np.float32)) for c in range(3)]
    small = [np.asarray(p.resize((224, 224), Image.Resampling.BICUBIC)) for p in planes]
    x = np.clip(np.stack(small).astype(np.float64), 0, 255) / 255
    x = (x - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    kernel = w["patch_embed.proj.weight"]
    tokens = [w["cls_token"][0, 0]]
    for i in range(16):
        for j in range(16):
            cell = x[:, 14 * i : 14 * i + 14, 14 * j : 14 * j + 14]
            tokens.append(np.einsum("dcij,cij->d", kernel, cell) + w["patch_embed.proj.bias"])
    table = w["pos_embed"][0]
    grid = moved(moved(table[1:].reshape(37, 37, -1), 16).swapaxes(0, 1), 16).swapaxes(0, 1)
    h = np.stack(tokens) + np.concatenate([table[:1], grid.reshape(256, -1)])

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        unit = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return unit * w[f"{name}.weight"] + w[f"{name}.bias"]

    def dense(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    width, after, i = h.shape[1], [], 0
    size = 64 if width >= 64 else width
    while f"blocks.{i}.norm1.weight" in w:
        b = f"blocks.{i}"
        q, k, v = np.split(dense(norm(h, f"{b}.norm1"), f"{b}.attn.qkv"), 3, axis=1)
        mixed = np.zeros_like(h)
        for start in range(0, width, size):
            part = slice(start, start + size)
            logits = q[:, part] @ k[:, part].T / np.sqrt(size)
            share = np.exp(logits - logits.max(1, keepdims=True))
            mixed[:, part] = share / share.sum(1, keepdims=True) @ v[:, part]
        h = h + w[f"{b}.ls1.gamma"] * dense(mixed, f"{b}.attn.proj")
        inner = dense(norm(h, f"{b}.norm2"), f"{b}.mlp.fc1")
        inner = inner * (1 + erf(inner / np.sqrt(2))) / 2
        h = h + w[f"{b}.ls2.gamma"] * dense(inner, f"{b}.mlp.fc2")
        after.append(h[1:])
        i += 1
    return norm(h, "norm")[0], after


def compare(tensors, picture, shown):
    network = dinov2(source_of(tensors))
    vector, images = once(lambda x: (network.look(x).vector, network.look(x).images))(
        picture.astype(np.float32)
    )
    expected, after = restated(tensors, picture)
    pairs = [(vector, expected)]
    pairs += [(one.reshape(256, -1), after[i]) for one, i in zip(images, shown, strict=True)]
    return [float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs], np.asarray(vector)


def test_the_position_table_is_moved_by_sums_of_neighbours(rng):
    """In steps of 37 / 16.1 places, not of 37 / 16."""
    table = rng.normal(size=(1370, 3))
    grid = moved(moved(table[1:].reshape(37, 37, 3), 16).swapaxes(0, 1), 16).swapaxes(0, 1)
    found = position_table(table)
    np.testing.assert_allclose(found[1:].reshape(16, 16, 3), grid, atol=1e-12)
    np.testing.assert_array_equal(found[0], table[0])
    np.testing.assert_array_equal(position_table(table[:257]), table[:257])


@pytest.mark.slow
@pytest.mark.ci
def test_a_small_network_agrees_with_numpy(rng):
    """Two heads, four blocks, a picture that is not square."""
    picture = rng.integers(0, 256, (40, 300, 3))
    errors, _ = compare(weights(0, 128, 4), picture, range(4))
    assert max(errors) < 1e-5, errors


@pytest.mark.long
def test_the_whole_network_agrees_with_numpy():
    """A ViT-L/14 of seed 2023, whose weights have the checksum; a picture of seed 0, 32 x 32."""
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    tensors = weights(2023, 1024, 24)
    errors, _ = compare(tensors, picture, (5, 11, 17, 23))
    assert max(errors) < 1e-5, errors
    assert checksum(tensors) == CHECKSUM


def test_a_file_is_opened_and_named_by_its_size(tmp_path):
    tensors = weights(0, 384, 1)
    writer = Writer(legacy=True)
    path = tmp_path / "dinov2_vits14_pretrain.pth"
    path.write_bytes(writer.file(ordered(**{k: writer.tensor(v) for k, v in tensors.items()})))
    known = open_network(f"dinov2={path}")
    assert known.title == "DINOv2 ViT-S/14" and known.kind.family == "dinov2"
    assert jax.tree.leaves(known.network.blocks)[0].shape == (1, 384)


def test_registers_and_the_giant_size_are_refused():
    tensors = weights(0, 64, 1) | {"register_tokens": np.zeros((1, 4, 64), np.float32)}
    with pytest.raises(UserError, match="with registers or of the giant size"):
        dinov2(source_of(tensors))
