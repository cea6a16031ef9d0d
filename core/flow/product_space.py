"""Products of unlike spaces, such as rigid motions: rotations and translations."""

import itertools
from collections.abc import Callable, Sequence

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from core.flow.space import Space


class ProductSpace(Space):
    """A product of spaces, whose coordinates lie one after the other along the last axis.

    Equal factors need no product: they are axes before the last one. **Fields:** `factors`, and
    `sizes`, the coordinates of each: `ProductSpace((SO3(), Euclidean()), (4, 3))` is a rotation and
    a translation. Raises `ValueError` where the last axis has another length than their sum.
    """

    factors: tuple[Space, ...]
    sizes: tuple[int, ...] = eqx.field(static=True)

    def __check_init__(self):
        if len(self.factors) != len(self.sizes):
            raise ValueError(
                f"ProductSpace has {len(self.factors)} factors, but {len(self.sizes)} sizes."
            )

    @property
    def flat(self) -> bool:
        return all(factor.flat for factor in self.factors)

    @property
    def name(self) -> str:
        return " x ".join(factor.name for factor in self.factors)

    def exp(self, x: Float[Array, "*shape"], u: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.exp(*parts), x, u)

    def log(self, x: Float[Array, "*shape"], y: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.log(*parts), x, y)

    def tangent(
        self, x: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.tangent(*parts), x, w)

    def project(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.project(*parts), x)

    def noise(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
        keys = jr.split(key, len(self.factors))
        each = zip(self.factors, keys, self.sizes, strict=True)
        parts = [space.noise(key, (*shape[:-1], size)) for space, key, size in each]
        return jnp.concatenate(parts, axis=-1)

    def push(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], g: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.push(*parts), x, u, g)

    def source_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], v: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.source_pull(*parts), x, u, v)

    def target_pull(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.target_pull(*parts), x, u, w)

    def join(
        self, x: Float[Array, "*shape"], u: Float[Array, "*shape"], w: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        return self._each(lambda space, *parts: space.join(*parts), x, u, w)

    def features(self, x: Float[Array, "*shape"]) -> Float[Array, "..."]:
        return self._each(lambda space, *parts: space.features(*parts), x)

    def from_network(
        self, x: Float[Array, "*shape"], out: Float[Array, "..."]
    ) -> Float[Array, "*shape"]:
        sizes = [space.output_shape((size,))[0] for space, size in self._pairs()]
        parts = zip(self.factors, _split(x, self.sizes), _split(out, sizes), strict=True)
        return jnp.concatenate([space.from_network(a, b) for space, a, b in parts], axis=-1)

    def feature_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = [space.feature_shape((size,))[0] for space, size in self._pairs()]
        return (*shape[:-1], sum(sizes))

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        sizes = [space.output_shape((size,))[0] for space, size in self._pairs()]
        return (*shape[:-1], sum(sizes))

    def _pairs(self) -> zip:
        return zip(self.factors, self.sizes, strict=True)

    def _each(self, function: Callable[..., Array], *arrays: Array) -> Array:
        """The function of every factor, of its parts of the arrays."""
        parts = zip(self.factors, *(_split(array, self.sizes) for array in arrays), strict=True)
        return jnp.concatenate([function(*part) for part in parts], axis=-1)


def _split(x: Float[Array, "..."], sizes: Sequence[int]) -> list[Float[Array, "..."]]:
    if x.shape[-1] != sum(sizes):
        raise ValueError(f"ProductSpace has {sum(sizes)} coordinates, but got {x.shape[-1]}.")
    return jnp.split(x, list(itertools.accumulate(sizes))[:-1], axis=-1)
