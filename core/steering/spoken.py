"""Rewards of text: a function of a string, and a beginning that the text should have."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Integer

from core.data.spec import DataSpec
from core.data.vocabulary import texts
from core.errors import UserError, require
from core.steering.reward import Observation, Reward
from core.trust import words


class OfText(Reward):
    """`r(text)` of the likeliest symbols, by a function that takes a string: no gradient.

    It is called on the host, text by text, so any library may be behind it.
    """

    function: Callable[[str], Any] = eqx.field(static=True)
    spec: DataSpec = eqx.field(static=True)

    @property
    def differentiable(self) -> bool:
        return False

    def __call__(self, x: Float[Array, "length symbols"]) -> Float[Array, ""]:
        result = jax.ShapeDtypeStruct((), jnp.float32)
        codes = jnp.argmax(x, axis=-1)
        return jax.pure_callback(self.values, result, codes, vmap_method="broadcast_all")

    def values(self, codes: Integer[Array | np.ndarray, "*n length"]) -> Float32[np.ndarray, "*n"]:
        """The rewards of texts in codes. Raises `UserError` where one is no single number."""
        codes, spec = np.asarray(codes), self.spec
        flat = texts(codes.reshape(-1, codes.shape[-1]), spec.vocabulary, spec.end, spec.utf8)
        found = {text: self._value(text) for text in set(flat)}
        values = np.array([found[text] for text in flat], np.float32)
        return values.reshape(codes.shape[:-1])

    def _value(self, text: str) -> float:
        try:
            found = np.asarray(self.function(text))
            value = float(found.reshape(())) if found.size == 1 else None
        except Exception as error:
            raise UserError(
                f"the reward of {text!r} raised {words(error, self.function)}"
            ) from error
        if value is None:
            raise UserError(
                f"the reward of {text!r} has shape {found.shape}; it must be a single number"
            )
        return value


def beginning(spec: DataSpec, prefix: str, noise: float) -> Observation:
    """The likelihood of the first symbols of a text as one-hot values seen in Gaussian noise: a
    symbol that is another costs `1 / noise^2` nats.

    Raises `UserError` where the text is not made of single symbols, or too long.
    """
    length, symbols = spec.shape
    known = {name: code for code, name in enumerate(spec.vocabulary)}
    missing = [letter for letter in prefix if letter not in known]
    require(
        not missing,
        f"--reward prefix:{prefix}: {missing and missing[0]!r} is no symbol of this run, which has "
        f"{''.join(spec.vocabulary)[:60]!r}",
    )
    require(
        0 < len(prefix) <= length, f"--reward prefix:{prefix}: texts have {length} symbols at most"
    )
    y, mask = np.zeros((length, symbols), np.float32), np.zeros((length, 1), np.float32)
    y[np.arange(len(prefix)), [known[letter] for letter in prefix]] = 1
    mask[: len(prefix)] = 1
    return Observation(jnp.asarray(y), jnp.asarray(np.broadcast_to(mask, y.shape)), noise)
