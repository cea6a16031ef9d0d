"""From noise to samples as one pure function of named weights and named inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Shaped, UInt32

from core.data.scale import Scale
from core.export.noise import noise_of
from core.flow.condition import Condition
from core.flow.field import VelocityField
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import Path
from core.sampling import Sampler

KEYS = "threefry2x32"
"""The random numbers of an exported sampler, whatever JAX's default is where it runs."""


class Input(NamedTuple):
    """An input of one sample: the shape beside the axis of samples, the dtype, and its meaning."""

    shape: tuple[int, ...]
    dtype: str
    meaning: str


@dataclass(frozen=True)
class SamplerFunction:
    """A sampler of a map, or of another velocity field, as a function of weights and inputs.

    **Fields:** `times` decreasing, see `core.sampling.GRIDS`; `shape` of one sample; `num_classes`,
    0 where the map has no label; `interval`, the unit times between which guidance acts, or
    None where the map has no guidance scale; `scale`, by which samples are brought to the units of
    the data; `codec`, an object with `decode(z)` that makes pictures of latents, or None. Its
    arrays are weights too, by names that begin with `codec`.
    """

    field: VelocityField
    sampler: Sampler
    times: Float[np.ndarray, " nodes"]
    shape: tuple[int, ...]
    num_classes: int = 0
    interval: tuple[float, float] | None = None
    scale: Scale = Scale()
    codec: Any = None

    @property
    def steps(self) -> int:
        """Steps of the sampler."""
        return len(self.times) - 1

    @property
    def inputs(self) -> dict[str, Input]:
        """The inputs of a draw by name; each has an axis of samples in front."""
        found = {"noise": Input(self.shape, "float32", noise_of(self.field.path).meaning)}
        if self.num_classes:
            last = self.num_classes - 1
            what = f"class of each sample, 0 to {last}; {self.num_classes} for no class"
            found["labels"] = Input((), "int32", what)
        if self.interval is not None:
            found["guidance"] = Input((), "float32", "guidance scale of each sample; 1 for none")
        if self.sampler.draws_noise(self.steps):
            what = "random bits, other ones for each sample: the sampler adds noise on its way"
            found["keys"] = Input((2,), "uint32", what)
        return found

    def evaluations(self) -> int:
        """Network evaluations a sample, as the sampler counts them on a map that stands still."""
        path, start = self.field.path, jnp.zeros(self.shape, jnp.float32)
        answer = path.space.output_shape(self.shape)
        still = AverageVelocityMap(net=lambda x, s, t, cond: jnp.zeros(answer), path=path)
        times = jnp.asarray(self.times, jnp.float32)
        taken = self.sampler(still, start, times, None, key=jr.key(0)).nfe
        return int(taken) * self.field.evaluations

    def weights(self) -> dict[str, Array]:
        """The arrays of the map by their place in it, such as `net.blocks.qkv.weight`."""
        leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(self.field, eqx.is_array))
        decoding = jax.tree_util.tree_leaves_with_path(eqx.filter(self.codec, eqx.is_array))
        found = {_name(path): leaf for path, leaf in leaves}
        return found | {_codec_name(path): leaf for path, leaf in decoding}

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what is drawn: of latents that of their pictures."""
        if self.codec is None:
            return self.shape
        return eqx.filter_eval_shape(
            self.codec.decode, jax.ShapeDtypeStruct(self.shape, jnp.float32)
        ).shape

    def finished(self, x: Float[Array, "*shape"], codec: Any) -> Float[Array, "..."]:
        """A sample in the units of the data, or as the picture that the codec makes of it."""
        values = self.scale.undone(x)
        return values if codec is None else codec.decode(values)

    def __call__(
        self,
        weights: dict[str, Shaped[Array, "..."]],
        noise: Float[Array, " n *shape"],
        labels: Int[Array, " n"] | None = None,
        guidance: Float[Array, " n"] | None = None,
        keys: UInt32[Array, " n 2"] | None = None,
    ) -> Float[Array, " n ..."]:
        """Samples with these weights. Weights that are left out are zeros."""
        field, codec = self.map_with(weights), _with(self.codec, weights, _codec_name)
        times, path = jnp.asarray(self.times, jnp.float32), field.path

        def one(z, label, scale, bits):
            cond = conditions(label, scale, self.interval)
            key = jr.key(0, impl=KEYS) if bits is None else jr.wrap_key_data(bits, impl=KEYS)
            x = path.start(path.noise_std * z if isinstance(path, Path) else z, times[0])
            return self.finished(self.sampler(field, x, times, cond, key=key).x, codec)

        return jax.vmap(one)(noise, labels, guidance, keys)

    def map_with(self, weights: dict[str, Shaped[Array, "..."]]) -> Any:
        """The map with these weights. Those that are left out are zeros."""
        return _with(self.field, weights, _name)


def conditions(label: Any, scale: Any, interval: tuple[float, float] | None) -> Condition | None:
    """The conditions of one sample: its label and its guidance scale, where there are such."""
    guidance = None
    if scale is not None:
        guidance = jnp.asarray([scale, *(interval or (0.0, 1.0))], scale.dtype)
    return None if label is None and guidance is None else Condition(label, guidance)


def _with(tree: Any, weights: dict[str, Shaped[Array, "..."]], named: Callable) -> Any:
    """The tree with these weights in the place of its arrays; zeros where there are none."""
    arrays, static = eqx.partition(tree, eqx.is_array)

    def given(path, leaf):
        name = named(path)
        return weights[name] if name in weights else jnp.zeros(leaf.shape, leaf.dtype)

    return eqx.combine(jax.tree_util.tree_map_with_path(given, arrays), static)


def _codec_name(path: tuple) -> str:
    """The name of an array of the codec."""
    return f"codec.{jax.tree_util.keystr(path, simple=True, separator='.')}"


def _name(path: tuple) -> str:
    """The place of an array in the network's map, whatever field or map is around that map."""
    name = jax.tree_util.keystr(path, simple=True, separator=".")
    return name.removeprefix("field.").removeprefix("flow_map.")
