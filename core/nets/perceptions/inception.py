"""Inception of 2015, on whose features FID is defined.

Source: Inception v3 (arXiv 1512.00567) as TensorFlow's graph `classify_image_graph_def.pb` of
2015-12-05 has it, with the tensors' names of its port to torch, `pt_inception-2015-12-05`. It
differs from torchvision's: average pools leave padding out, the last block pools by the greatest,
and it has 1,008 classes.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.nets.perceptions.layers import Convolution, Image, average_pool, folded, max_pool, single
from core.nets.perceptions.pretrained import Layers, Pretrained
from core.nets.perceptions.resize import resized, tensorflow_bilinear
from core.nets.perceptions.source import Source

SIDE, CLASSES = 299, 1008
EPSILON = 1e-3


class Conv(NamedTuple):
    """A convolution, batch norm and ReLU: its name, output channels, kernel and stride. One of
    stride 2 is not padded."""

    name: str
    out: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"


class Fork(NamedTuple):
    """Convolutions of one input, side by side."""

    parts: tuple[Conv, ...]


Part = Float[Array, "_ _ _"]
Step = Conv | Fork | str
Branch = tuple[Step, ...]


def _three(name: str, out: int, stride: int = 1) -> Conv:
    return Conv(name, out, (3, 3), stride, "SAME" if stride == 1 else "VALID")


def _a(pool: int) -> tuple[Branch, ...]:
    double = Conv("branch3x3dbl_1", 64), _three("branch3x3dbl_2", 96), _three("branch3x3dbl_3", 96)
    five = Conv("branch5x5_1", 48), Conv("branch5x5_2", 64, (5, 5))
    return (Conv("branch1x1", 64),), five, double, ("average", Conv("branch_pool", pool))


def _b() -> tuple[Branch, ...]:
    double = (
        Conv("branch3x3dbl_1", 64), _three("branch3x3dbl_2", 96), _three("branch3x3dbl_3", 96, 2)
    )  # fmt: skip
    return (_three("branch3x3", 384, 2),), double, ("max 2",)


def _c(inner: int) -> tuple[Branch, ...]:
    wide, high = (1, 7), (7, 1)
    seven = (
        Conv("branch7x7_1", inner), Conv("branch7x7_2", inner, wide), Conv("branch7x7_3", 192, high)
    )  # fmt: skip
    double = (
        Conv("branch7x7dbl_1", inner), Conv("branch7x7dbl_2", inner, high),
        Conv("branch7x7dbl_3", inner, wide), Conv("branch7x7dbl_4", inner, high),
        Conv("branch7x7dbl_5", 192, wide),
    )  # fmt: skip
    return (Conv("branch1x1", 192),), seven, double, ("average", Conv("branch_pool", 192))


def _d() -> tuple[Branch, ...]:
    three = Conv("branch3x3_1", 192), _three("branch3x3_2", 320, 2)
    seven = (
        Conv("branch7x7x3_1", 192), Conv("branch7x7x3_2", 192, (1, 7)),
        Conv("branch7x7x3_3", 192, (7, 1)), _three("branch7x7x3_4", 192, 2),
    )  # fmt: skip
    return three, seven, ("max 2",)


def _e(pool: str) -> tuple[Branch, ...]:
    def fork(name: str) -> Fork:
        return Fork((Conv(f"{name}a", 384, (1, 3)), Conv(f"{name}b", 384, (3, 1))))

    three = Conv("branch3x3_1", 384), fork("branch3x3_2")
    double = Conv("branch3x3dbl_1", 448), _three("branch3x3dbl_2", 384), fork("branch3x3dbl_3")
    return (Conv("branch1x1", 320),), three, double, (pool, Conv("branch_pool", 192))


STEM: dict[str, Branch] = {
    "first": (
        Conv("Conv2d_1a_3x3", 32, (3, 3), 2, "VALID"),
        Conv("Conv2d_2a_3x3", 32, (3, 3), 1, "VALID"), _three("Conv2d_2b_3x3", 64), "max 2",
    ),
    "second": (Conv("Conv2d_3b_1x1", 80), Conv("Conv2d_4a_3x3", 192, (3, 3), 1, "VALID"), "max 2"),
}  # fmt: skip
BLOCKS: dict[str, tuple[Branch, ...]] = {
    "Mixed_5b": _a(32), "Mixed_5c": _a(64), "Mixed_5d": _a(64), "Mixed_6a": _b(),
    "Mixed_6b": _c(128), "Mixed_6c": _c(160), "Mixed_6d": _c(160), "Mixed_6e": _c(192),
    "Mixed_7a": _d(), "Mixed_7b": _e("average"), "Mixed_7c": _e("max 1"),
}  # fmt: skip
"""The branches of each block; their outputs are put side by side in this order."""
SHOWN = ("first", "second", "Mixed_6e", "Mixed_7c")
"""The maps: 64, 192, 768 and 2,048 channels."""


class Inception2015(Pretrained):
    """Features of 2,048 numbers (`pool3`), and 1,008 classes.

    Preprocessing: TensorFlow 1's bilinear to 299 x 299 in float, not rounded; `(b - 128) / 128`.
    Logits leave out the bias, as those of the Inception score do.
    """

    convolutions: dict[str, Convolution]
    weight: Float[Array, "classes dim"]

    def prepared(self, levels: Float[Array, "h w 3"]) -> Float[Array, "299 299 3"]:
        rows, columns = (tensorflow_bilinear(n, SIDE) for n in levels.shape[:2])
        return (resized(levels, rows, columns) - 128) / 128

    def layers(self, image: Float[Array, "299 299 3"]) -> Layers:
        found = self.blocks(image)
        images = tuple(found[name] for name in SHOWN)
        return Layers(images, jnp.mean(images[-1], axis=(0, 1)))

    def logits(self, vector: Float[Array, " dim"]) -> Float[Array, " classes"]:
        return self.weight @ vector

    def blocks(self, image: Float[Array, "299 299 3"]) -> dict[str, Part]:
        """The output of each part of the stem and of each block, by name."""
        h, found = image, {}
        for name, steps in STEM.items():
            h = found[name] = self._run(h, "", steps)
        for name, branches in BLOCKS.items():
            parts = [self._run(h, f"{name}.", steps) for steps in branches]
            h = found[name] = jnp.concatenate(parts, axis=-1)
        return found

    def spatial(self, image: Float[Array, "299 299 3"]) -> Float[Array, " 2023"]:
        """The numbers of sFID: 7 channels at 17 x 17 places of the first branch of `Mixed_6d`."""
        before = self.blocks(image)["Mixed_6c"]
        return self._run(before, "Mixed_6d.", BLOCKS["Mixed_6d"][0])[..., :7].reshape(-1)

    def _run(self, x: Image, block: str, steps: Branch) -> Part:
        for step in steps:
            if isinstance(step, Conv):
                x = jax.nn.relu(self.convolutions[block + step.name](x))
            elif isinstance(step, Fork):
                parts = [self._run(x, block, (part,)) for part in step.parts]
                x = jnp.concatenate(parts, axis=-1)
            elif step == "average":
                x = average_pool(x)
            else:
                x = max_pool(x, 2, "VALID") if step == "max 2" else max_pool(x, 1, "SAME")
        return x


def inception_2015(source: Source, thin: int = 1) -> Inception2015:
    """The network of a file's tensors. Raises `UserError`.

    `thin` divides all numbers of channels, for networks of tests.
    """
    found: dict[str, Convolution] = {}
    channels = 3
    for steps in STEM.values():
        channels = _read(source, found, "", steps, channels, thin)
    for name, branches in BLOCKS.items():
        channels = sum(
            _read(source, found, f"{name}.", steps, channels, thin) for steps in branches
        )
    classes = source.shape("fc.weight")[0]
    weight = source.take("fc.weight", (classes, channels))
    source.finish("num_batches_tracked", "fc.bias")
    return Inception2015(found, single(weight))


def _read(
    source: Source, found: dict[str, Convolution], block: str, steps: Branch, size: int, thin: int
) -> int:
    """Reads the convolutions of a branch; the number of channels that it ends with."""
    for step in steps:
        if isinstance(step, Fork):
            size = sum(_read(source, found, block, (part,), size, thin) for part in step.parts)
        elif isinstance(step, Conv):
            name, out = block + step.name, step.out // thin
            shape, how = (out, size, *step.kernel), {"stride": step.stride, "padding": step.padding}
            found[name] = folded(source, f"{name}.conv", f"{name}.bn", shape, EPSILON, **how)
            size = out
    return size
