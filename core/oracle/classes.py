"""Data in classes, and the exact flow map of their guided velocity: the oracle of guidance."""

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Int, PRNGKeyArray

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import Path, Time
from core.flow.solve import AdaptiveSteps, FixedSteps, solve_average_velocity
from core.oracle.product import ProductMixture


class ClassMixture(eqx.Module):
    """A mixture on the line whose components belong to classes `0 .. num_classes - 1`.

    **Fields:** `mixture`, of all classes; `owners`, the class of each component.
    """

    mixture: ProductMixture
    owners: Int[Array, " k"]
    num_classes: int = eqx.field(static=True)

    def given(self, label: Int[Array, ""] | int) -> ProductMixture:
        """The distribution of one class; of all for the null class `num_classes`."""
        kept = (self.owners == label) | (label == self.num_classes)
        weights = jnp.where(kept, self.mixture.weights, 0.0)
        weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
        return ProductMixture(weights, self.mixture.means, self.mixture.stds)

    def sample(self, key: PRNGKeyArray) -> tuple[Float[Array, "1"], Int[Array, ""]]:
        """One example and its label."""
        key_component, key_value = jr.split(key)
        label = self.owners[jr.categorical(key_component, jnp.log(self.mixture.weights[0]))]
        return self.given(label).sample(key_value), label


class GuidedOracle(FlowMap):
    """The flow map of `v_w = w v(x, t | c) + (1 - w) v(x, t)`, integrated by Diffrax.

    A condition with guidance says `(w, a, b)`; without, `w` is `scale` on all times. The null class
    is not guided. It supports `jax.jvp`, not reverse mode in its own arguments. The guided velocity
    belongs to no path of known marginals: the map is exact, but no distribution of samples is.
    """

    distribution: ClassMixture
    path: Path
    scale: float = 1.0
    stepping: FixedSteps | AdaptiveSteps = eqx.field(default=FixedSteps("dopri8", 24))

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        assert cond is not None and cond.label is not None
        null = self.distribution.num_classes
        w, a, b = (self.scale, 0.0, 1.0) if cond.guidance is None else cond.guidance
        unit = self.path.unit_time(t)
        guided = (unit >= a) & (unit <= b) & (cond.label != null)
        w = jnp.where(guided, w, 1.0)
        v, v_null = (self.marginal_velocity(x, t, label) for label in (cond.label, null))
        return w * v + (1 - w) * v_null

    def marginal_velocity(
        self, x: Float[Array, "*shape"], t: Time, label: Int[Array, ""] | int
    ) -> Float[Array, "*shape"]:
        """`v(x, t | label)`, without guidance."""
        return self.distribution.given(label).velocity(self.path, x, t)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        def velocity(y: Float[Array, "*shape"], u: Float[Array, ""]) -> Float[Array, "*shape"]:
            return self.velocity(y, u, cond)

        return solve_average_velocity(velocity, x, s, t, stepping=self.stepping).x
