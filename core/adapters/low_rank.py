"""A layer with an adapter of low rank around it."""

import equinox as eqx
import jax
from jaxtyping import Array, Float

from core.nets.convolutional import LAYOUT, Conv
from core.nets.layers import Dense


class LowRank(eqx.Module):
    """`y = base(x) + scale B(A x)`: a layer whose weights stay, and a change of rank `r`.

    Around a dense layer `W' = W + scale B A`, with `A` (r, in) and `B` (out, r); around a
    convolution `A` is one with `r` filters, (h, w, in, r), and `B` acts at each place. Layers that
    are stacked for the scan have a leading axis of layers in all arrays. With `B = 0` it is the
    layer itself, bit for bit. Source: LoRA (arXiv 2106.09685), eq. 3.
    """

    base: Dense | Conv
    A: Float[Array, "..."]
    B: Float[Array, "*layers out r"]
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "*places in"]) -> Float[Array, "*there out"]:
        if isinstance(self.base, Conv):
            hidden = jax.lax.conv_general_dilated(
                x[None],
                self.A,
                (self.base.stride,) * 2,
                self.base.padding,
                dimension_numbers=LAYOUT,
            )[0]
        else:
            hidden = _last(x, self.A)
        return self.base(x) + self.scale * _last(hidden, self.B)

    @property
    def weight(self) -> Float[Array, "..."]:
        """The weights of the layer, without the change."""
        return self.base.weight

    @property
    def bias(self) -> Float[Array, "..."] | None:
        """The bias of the layer."""
        return self.base.bias

    @property
    def rank(self) -> int:
        """`r`."""
        return self.B.shape[-1]


def _last(x: Float[Array, "*places in"], W: Float[Array, "out in"]) -> Float[Array, "*places out"]:
    """`W x` along the last axis."""
    return jax.lax.dot_general(x, W, (((x.ndim - 1,), (1,)), ((), ())))
