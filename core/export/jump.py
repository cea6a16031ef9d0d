"""One jump of a map as a pure function of named weights and named inputs."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from core.export.function import Input, SamplerFunction, conditions
from core.flow.field import VelocityField


@dataclass(frozen=True)
class JumpFunction:
    """`F(x, s, t)` of the map of a sampler, of many examples at once, in network values.

    Whoever has it takes as many steps as they like, between any times, with no other weights than
    those of `SamplerFunction`.
    """

    whole: SamplerFunction

    @property
    def field(self) -> VelocityField:
        """The map."""
        return self.whole.field

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an example."""
        return self.whole.shape

    @property
    def num_classes(self) -> int:
        """Classes, 0 for none."""
        return self.whole.num_classes

    @property
    def inputs(self) -> dict[str, Input]:
        """The inputs by name; each has an axis of examples in front."""
        path = self.field.path
        low, high = float(path.t_min), float(path.t_max)
        found = {
            "x": Input(self.shape, "float32", "states at the time s"),
            "s": Input((), "float32", f"source times, from {low:g} (data) to {high:g} (noise)"),
            "t": Input((), "float32", "target times"),
        }
        kept = ("labels", "guidance")
        return found | {name: i for name, i in self.whole.inputs.items() if name in kept}

    def weights(self) -> dict[str, Array]:
        """The arrays of the map by their place in it."""
        return self.whole.weights()

    def __call__(
        self,
        weights: dict[str, Shaped[Array, "..."]],
        x: Float[Array, " n *shape"],
        s: Float[Array, " n"],
        t: Float[Array, " n"],
        labels: Int[Array, " n"] | None = None,
        guidance: Float[Array, " n"] | None = None,
    ) -> Float[Array, " n *shape"]:
        """The states at the times `t`."""
        field = self.whole.map_with(weights)
        space = field.path.space

        def one(x, s, t, label, scale):
            cond = conditions(label, scale, self.whole.interval)
            return space.project(field(x, s, t, cond))

        return jax.vmap(one)(jnp.asarray(x), s, t, labels, guidance)
