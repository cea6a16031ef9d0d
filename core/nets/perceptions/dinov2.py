"""DINOv2's vision transformers, on whose class token FD-DINOv2 is taken.

Source: DINOv2 (arXiv 2304.07193); its use for distances: Stein et al. (arXiv 2306.04675). The
tensors are named as in the released files.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.nets.perceptions.layers import single
from core.nets.perceptions.pretrained import Layers, Pretrained
from core.nets.perceptions.resize import pillow_bicubic, resized, torch_bicubic
from core.nets.perceptions.source import Source

SIDE, PATCH, HEAD = 224, 14, 64
GRID = SIDE // PATCH
OFFSET = 0.1
"""What the position table's new side is taken to be more than it is: the released code's."""
EPSILON = 1e-6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIZES = {384: "S", 768: "B", 1024: "L"}
"""Names of the released networks by width."""


class Affine(eqx.Module):
    """Layer norm with a scale and a shift."""

    weight: Float[Array, "*depth width"]
    bias: Float[Array, "*depth width"]

    def __call__(self, h: Float[Array, "n width"]) -> Float[Array, "n width"]:
        centred = h - h.mean(-1, keepdims=True)
        normed = centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + EPSILON)
        return normed * self.weight[None] + self.bias[None]


class Linear(eqx.Module):
    """`x W^T + b`."""

    weight: Float[Array, "*depth out in"]
    bias: Float[Array, "*depth out"]

    def __call__(self, h: Float[Array, "n in"]) -> Float[Array, "n out"]:
        return h @ self.weight.T + self.bias[None]


class Block(eqx.Module):
    """Attention and a network with exact GELU, each behind a norm and before a scale."""

    norm1: Affine
    qkv: Linear
    proj: Linear
    scale1: Float[Array, "*depth width"]
    norm2: Affine
    fc1: Linear
    fc2: Linear
    scale2: Float[Array, "*depth width"]
    heads: int = eqx.field(static=True)

    def __call__(self, h: Float[Array, "n width"]) -> Float[Array, "n width"]:
        n, width = h.shape
        q, k, v = jnp.moveaxis(self.qkv(self.norm1(h)).reshape(n, 3, self.heads, -1), 1, 0)
        logits = jnp.einsum("nhd,mhd->hnm", q, k) * (width // self.heads) ** -0.5
        mixed = jnp.einsum("hnm,mhd->nhd", jax.nn.softmax(logits, -1), v).reshape(n, width)
        h = h + self.scale1[None] * self.proj(mixed)
        inner = jax.nn.gelu(self.fc1(self.norm2(h)), approximate=False)
        return h + self.scale2[None] * self.fc2(inner)


class DINOv2(Pretrained):
    """The normalised class token, and as maps the patches after each quarter of the blocks.

    Preprocessing: Pillow's bicubic to 224 x 224 in float, cut to [0, 255], not rounded;
    `(b / 255 - mean) / std` of ImageNet. The position table of 37 x 37 places is brought to 16 x 16
    by torch's bicubic in steps of `37 / 16.1`, as the released code does.
    """

    patches: Linear
    token: Float[Array, " width"]
    positions: Float[Array, "places width"]
    blocks: Block
    norm: Affine
    depth: int = eqx.field(static=True)

    def prepared(self, levels: Float[Array, "h w 3"]) -> Float[Array, "224 224 3"]:
        rows, columns = (pillow_bicubic(n, SIDE) for n in levels.shape[:2])
        scaled = jnp.clip(resized(levels, rows, columns), 0, 255) / 255
        return (scaled - jnp.asarray(MEAN)[None, None]) / jnp.asarray(STD)[None, None]

    def layers(self, image: Float[Array, "224 224 3"]) -> Layers:
        cells = image.reshape(GRID, PATCH, GRID, PATCH, 3).swapaxes(1, 2)
        h = self.patches(cells.reshape(GRID * GRID, -1))
        h = jnp.concatenate([self.token[None], h]) + self.positions
        ends = [round(self.depth * i / 4) for i in range(5)]
        images = []
        for start, end in zip(ends, ends[1:]):
            part = jax.tree.map(lambda leaf: leaf[start:end], self.blocks)
            h = jax.lax.scan(lambda h, block: (block(h), None), h, part)[0]
            images.append(h[1:].reshape(GRID, GRID, -1))
        return Layers(tuple(images), self.norm(h)[0])


def dinov2(source: Source) -> DINOv2:
    """The network of a file's tensors; width and depth are theirs. Raises `UserError`."""
    width = source.shape("cls_token")[-1]
    depth = sum(key.endswith(".norm1.weight") for key in source.tensors)
    if source.has("register_tokens") or source.has("blocks.0.mlp.w12.weight"):
        raise UserError(
            f"{source.name} is a DINOv2 with registers or of the giant size; the networks that are "
            "known are ViT-S/14, ViT-B/14 and ViT-L/14 without registers"
        )
    heads = max(width // HEAD, 1)
    places = source.shape("pos_embed")[1] - 1
    side = round(places**0.5)
    positions = position_table(source.take("pos_embed", (1, side * side + 1, width))[0])
    kernel = source.take("patch_embed.proj.weight", (width, 3, PATCH, PATCH))
    patches = Linear(
        single(kernel.transpose(0, 2, 3, 1).reshape(width, -1)),
        single(source.take("patch_embed.proj.bias", (width,))),
    )
    token = single(source.take("cls_token", (1, 1, width))[0, 0])
    blocks = _blocks(source, depth, width, heads)
    norm = Affine(*(single(source.take(f"norm.{part}", (width,))) for part in ("weight", "bias")))
    source.finish("mask_token")
    return DINOv2(patches, token, single(positions), blocks, norm, depth)


def position_table(table: Float[np.ndarray, "n width"]) -> Float[np.ndarray, "m width"]:
    """The class token's row, and those of the places brought to the grid of a picture."""
    side = round((len(table) - 1) ** 0.5)
    if side == GRID:
        return table
    matrix = torch_bicubic(side, GRID, side / (GRID + OFFSET))
    grid = table[1:].reshape(side, side, -1)
    moved = np.einsum("ih,jw,hwc->ijc", matrix, matrix, grid, optimize=True)
    return np.concatenate([table[:1], moved.reshape(GRID * GRID, -1)])


def _blocks(source: Source, depth: int, width: int, heads: int) -> Block:
    """All blocks as one, each array with a leading axis of depth."""

    def take(part: str, *shape: int) -> Array:
        names = [f"blocks.{i}.{part}" for i in range(depth)]
        return single(np.stack([source.take(n, shape).astype(np.float32) for n in names]))

    def both(part: str, *shape: int) -> list[Array]:
        return [take(f"{part}.weight", *shape), take(f"{part}.bias", shape[0])]

    inner = source.shape("blocks.0.mlp.fc1.weight")[0]
    return Block(
        Affine(*both("norm1", width)),
        Linear(*both("attn.qkv", 3 * width, width)),
        Linear(*both("attn.proj", width, width)),
        take("ls1.gamma", width),
        Affine(*both("norm2", width)),
        Linear(*both("mlp.fc1", inner, width)),
        Linear(*both("mlp.fc2", width, inner)),
        take("ls2.gamma", width),
        heads,
    )
