"""The blocks of EDM's and EDM2's U-Nets, level by level, under the names that their files have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from core.errors import UserError
from core.nets.convolutional import Resample
from core.nets.later_inputs import PublishedConfig
from core.nets.layers import Dtype, Remat


class Block(NamedTuple):
    """One residual block: `joins` says that a skip connection is appended to its input, `attends`
    that attention follows it."""

    name: str
    size_in: int
    size_out: int
    how: Resample = "keep"
    attends: bool = False
    joins: bool = False


@dataclass(frozen=True)
class LevelsConfig(PublishedConfig):
    """Flags of EDM's networks. Attention follows the blocks of the resolutions that `attention`
    names, and the first of the decoder always."""

    channels: int = 128
    """Channels that the multipliers multiply."""
    multipliers: tuple[int, ...] = (2, 2, 2)
    """Channels of each level over `channels`; each level halves the resolution."""
    blocks: int = 4
    """Residual blocks of a level on the way down; one more on the way up."""
    attention: tuple[int, ...] = (16,)
    """Resolutions (heights in pixels) at which blocks have self-attention."""
    head_channels: int = 64
    """Channels of an attention head; a block of fewer channels has no attention."""
    dropout: float = 0.0
    """Share of the numbers before the second convolution of a block that are dropped in training,
    drawn afresh for each row of a batch; none in targets, teachers and samples."""
    trained_without_null: bool = False
    """Whether labels were never left out in training: guidance by this network's own null class
    means nothing then."""
    dtype: Dtype = "float32"
    """Compute dtype; parameters, times, softmax, norms and output stay float32."""
    remat: Remat = "none"
    """The activations of each block that the backward pass recomputes: none, all but matrix
    products (dots; convolutions are computed again), or all (full)."""

    def __post_init__(self):
        self.check_sizes(channels=4, multipliers=1, attention=1, head_channels=1, blocks=1)
        self.check_dropout(self.dropout)
        if not self.multipliers or self.channels % 4:
            raise UserError(
                "--net.multipliers needs one number a level, and --net.channels a multiple of 4"
            )

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Raises `UserError` unless `shape` is that of square images which can be halved."""
        step = 2 ** (len(self.multipliers) - 1)
        if len(shape) != 3 or shape[0] != shape[1] or shape[0] % step:
            raise UserError(
                f"this network of {len(self.multipliers)} levels is for square images (H, H, C) "
                f"with H divisible by {step}, but the data have shape {shape}: use another --net"
            )


def levels(
    height: int, first: int, sizes: Sequence[int], blocks: int, down: set[int], up: set[int]
) -> tuple[list[Block], list[Block]]:
    """Encoder and decoder.

    **Arguments:** `first` channels behind the first convolution; `sizes` channels of each level;
    resolutions whose blocks attend on the way `down`. On the way `up` all blocks of a level of `up`
    attend, and the last block of a level of `down` that is not in `up`.
    """
    encoder, skips, size = [], [first], first
    for i, wanted in enumerate(sizes):
        side = height >> i
        if i > 0:
            encoder.append(Block(f"{side}x{side}_down", size, size, "down"))
            skips.append(size)
        for n in range(blocks):
            encoder.append(Block(f"{side}x{side}_block{n}", size, wanted, "keep", side in down))
            skips.append(size := wanted)
    side = height >> (len(sizes) - 1)
    decoder = [Block(f"{side}x{side}_in0", size, size, "keep", True)]
    decoder += [Block(f"{side}x{side}_in1", size, size)]
    for i in reversed(range(len(sizes))):
        side = height >> i
        if i < len(sizes) - 1:
            decoder.append(Block(f"{side}x{side}_up", size, size, "up"))
        for n in range(blocks + 1):
            attends = side in up or (side in down and n == blocks)
            joined = size + skips.pop()
            decoder.append(
                Block(f"{side}x{side}_block{n}", joined, sizes[i], "keep", attends, True)
            )
            size = sizes[i]
    return encoder, decoder
