"""Softmax attention: one function, and implementations of it by name."""

from collections.abc import Callable
from typing import Literal

from jaxtyping import Array, Float

from core.errors import require
from core.nets.attention.flash import flash
from core.nets.attention.naive import naive

Implementation = Literal["xla", "blockwise", "pallas", "auto"]

AUTO_TOKENS = 1024
"""Keys from which `auto` goes block by block. There the gradient of a loss with a stopped tangent
takes a fifth of the formula's memory and, on a CPU, half of its time (18 MiB against 100,
`python -m benchmarks.attention`); at 256 keys it saves a quarter of the one and nothing of the
other, little beside the rest of a network."""


def attention(
    q: Float[Array, "n heads dim"],
    k: Float[Array, "m heads dim"],
    v: Float[Array, "m heads dim"],
    implementation: str = "xla",
) -> Float[Array, "n heads dim"]:
    """`softmax(q k^T / sqrt(dim)) v` of each head, in the dtype of `v`; the softmax in float32.

    "xla" is the formula, "blockwise" never has all scores at once, "pallas" is the same with
    kernels for GPU and TPU, and "auto" is "xla" for less than `AUTO_TOKENS` keys, else
    "blockwise". All are exact and can be differentiated by forward and reverse mode in any order,
    which objectives need that hold a derivative of the network; the fused kernels of JAX (cuDNN,
    Pallas) have no forward mode. Raises `UserError` for another name.
    """
    names = ", ".join(IMPLEMENTATIONS)
    require(
        implementation in IMPLEMENTATIONS,
        f"no attention is called {implementation!r}: choose one of {names}",
    )
    return IMPLEMENTATIONS[implementation](q, k, v)


def _pallas(q, k, v):
    from core.nets.attention.primitive import PALLAS  # and with it Pallas

    return flash(q, k, v, PALLAS)


def _auto(q, k, v):
    return (naive if k.shape[0] < AUTO_TOKENS else flash)(q, k, v)


IMPLEMENTATIONS: dict[str, Callable] = {
    "xla": naive,
    "blockwise": flash,
    "pallas": _pallas,
    "auto": _auto,
}
