"""Conditioning as published transformers have it: sinusoids of a number through an MLP, labels."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.nets.initial import Normal
from core.nets.layers import Dense
from core.nets.noise_levels import angles


def features(
    number: Float[Array, ""], count: int, *, end_point: bool = False
) -> Float[Array, " features"]:
    """`(cos(omega_i number), sin(omega_i number))`, `omega_i = 10000^(-i / n)` for `i < count`.

    `n = count`, or `count - 1` with the `end_point` (diffusers' `downscale_freq_shift` 1). The
    frequencies are those of float64. Source: DiT (arXiv 2212.09748), after arXiv 1706.03762.
    """
    turned = angles(number, count, shift=float(end_point))
    return jnp.concatenate([jnp.cos(turned), jnp.sin(turned)])


class NumberEmbedder(eqx.Module):
    """`B silu(A features(number) + a) + b`, in float32 or wider."""

    hidden: Dense
    output: Dense
    end_point: bool = eqx.field(static=True)

    def __init__(self, width: int, frequencies: int, *, end_point: bool = False, normal: Normal):
        self.hidden = Dense(2 * frequencies, width, normal=normal)
        self.output = Dense(width, width, normal=normal)
        self.end_point = end_point

    def __call__(self, number: Float[Array, ""]) -> Float[Array, " width"]:
        count = self.hidden.weight.shape[-1] // 2
        given = features(number, count, end_point=self.end_point)
        return self.output(jax.nn.silu(self.hidden(given)))


class Conditioning(eqx.Module):
    """`e = sum_i embed_i(number_i) + label row`.

    With a `null_class` the label table has `num_classes + 1` rows, and the last stands for no label
    at all; without one no label adds nothing, and neither does a label that the table has not.
    """

    numbers: tuple[NumberEmbedder, ...]
    labels: Float[Array, "rows width"] | None
    null_class: bool = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        num_classes: int,
        *,
        numbers: int,
        frequencies: int,
        end_point: bool,
        null_class: bool,
        normal: Normal,
    ):
        self.numbers = tuple(
            NumberEmbedder(width, frequencies, end_point=end_point, normal=normal)
            for _ in range(numbers)
        )
        rows = num_classes + null_class if num_classes else 0
        self.labels = 0.02 * normal(rows, width) if rows else None
        self.null_class = null_class

    def __call__(
        self, numbers: Sequence[Float[Array, ""]], label: Int[Array, ""] | None
    ) -> Float[Array, " width"]:
        embedded = [embed(x) for embed, x in zip(self.numbers, numbers, strict=True)]
        e = sum(embedded[1:], embedded[0])
        if self.labels is None or (label is None and not self.null_class):
            return e
        row = self.labels.shape[0] - 1 if label is None else label
        return e + self.labels.at[row].get(mode="fill", fill_value=0)
