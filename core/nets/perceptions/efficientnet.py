"""EfficientNet-Lite0: a small network with real ImageNet weights that a package brings.

Source: EfficientNet (arXiv 1905.11946), and its Lite variant without squeeze-and-excitation, with
ReLU6.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.nets.perceptions.layers import Convolution, folded, single
from core.nets.perceptions.pretrained import Layers, Pretrained
from core.nets.perceptions.resize import pillow_bicubic, resized
from core.nets.perceptions.source import Source

SIDE = 224
EPSILON = 1e-3
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip
"""Blocks, kernel, stride of the first, expansion and channels of each stage."""
SHOWN = (2, 4, 10, 15)
"""The blocks whose outputs are maps: 56, 28, 14 and 7 places a side."""


class Block(eqx.Module):
    """Expands, filters each channel, projects; the input is added where the shape is the same."""

    expand: Convolution | None
    filter: Convolution
    project: Convolution
    short: bool = eqx.field(static=True)

    def __call__(self, x: Float[Array, "h w c"]) -> Float[Array, "_ _ out"]:
        h = x if self.expand is None else relu6(self.expand(x))
        h = self.project(relu6(self.filter(h)))
        return x + h if self.short else h


class EfficientNetLite0(Pretrained):
    """Features of 1,280 numbers, the mean over 7 x 7 places, and 1,000 classes of ImageNet.

    Preprocessing: Pillow's bicubic to 224 x 224 in float, cut to [0, 255], not rounded;
    `(b - 127) / 128`.
    """

    stem: Convolution
    blocks: tuple[Block, ...]
    head: Convolution
    weight: Float[Array, "classes dim"]
    bias: Float[Array, " classes"]

    def prepared(self, levels: Float[Array, "h w 3"]) -> Float[Array, "224 224 3"]:
        rows, columns = (pillow_bicubic(n, SIDE) for n in levels.shape[:2])
        return (jnp.clip(resized(levels, rows, columns), 0, 255) - 127) / 128

    def layers(self, image: Float[Array, "224 224 3"]) -> Layers:
        h, found = relu6(self.stem(image)), []
        for i, block in enumerate(self.blocks):
            h = block(h)
            if i in SHOWN:
                found.append(h)
        return Layers(tuple(found), jnp.mean(relu6(self.head(h)), axis=(0, 1)))

    def logits(self, vector: Float[Array, " dim"]) -> Float[Array, " classes"]:
        return self.weight @ vector + self.bias


def relu6(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Between 0 and 6."""
    return jnp.clip(x, 0, 6)


def efficientnet_lite0(source: Source) -> EfficientNetLite0:
    """The network of a file's tensors, named as the package names them. Raises `UserError`."""
    stem = folded(source, "_conv_stem", "_bn0", (32, 3, 3, 3), EPSILON, stride=2)
    blocks, channels = [], 32
    for count, kernel, stride, times, out in STAGES:
        for i in range(count):
            name = f"_blocks.{len(blocks)}"
            step = stride if i == 0 else 1
            blocks.append(_block(source, name, channels, out, kernel, step, times))
            channels = out
    head = folded(source, "_conv_head", "_bn1", (1280, channels, 1, 1), EPSILON)
    weight, bias = source.take("_fc.weight", (1000, 1280)), source.take("_fc.bias", (1000,))
    source.finish("num_batches_tracked")
    return EfficientNetLite0(stem, tuple(blocks), head, single(weight), single(bias))


def _block(
    source: Source, name: str, channels: int, out: int, kernel: int, stride: int, times: int
) -> Block:
    inner, expand = channels * times, None
    if times > 1:
        shape = (inner, channels, 1, 1)
        expand = folded(source, f"{name}._expand_conv", f"{name}._bn0", shape, EPSILON)
    shape = (inner, 1, kernel, kernel)
    filtering = folded(
        source, f"{name}._depthwise_conv", f"{name}._bn1", shape, EPSILON, stride=stride
    )
    shape = (out, inner, 1, 1)
    project = folded(source, f"{name}._project_conv", f"{name}._bn2", shape, EPSILON)
    return Block(expand, filtering, project, stride == 1 and channels == out)
