"""Maps that the oracle checks put in the place of a trained one: exact, perturbed, wrong."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from core.conformance.policies import PolicyBumped, PolicyFlipped
from core.conformance.tokens import TokenBumped, TokenFlipped, TokenProbe
from core.flow.categorical import TokenMap
from core.flow.condition import Condition
from core.flow.flow_map import Abilities, FlowMap
from core.flow.interpolant import Interpolant
from core.flow.network import Network
from core.flow.path import gaussian
from core.flow.policy import PolicyMap


class Probe(FlowMap):
    """A map with smooth perturbations added: `V + sum_k psi_k phi_k(x, s, t)`."""

    exact: FlowMap
    psi: Float[Array, " count"]
    path: Interpolant

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return self.exact.average_velocity(x, s, t, cond) + self._bump(x, s, t)

    def with_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        head = self.exact.velocity(x, s, cond) + self._bump(x, s, s)
        return self.average_velocity(x, s, t, cond), head

    @property
    def abilities(self) -> Abilities:
        return Abilities(two_times=self.exact.two_times, has_head=True)

    def _bump(self, x: Array, s: Array, t: Array) -> Array:
        shapes = (jnp.ones_like(x), x, jnp.sin(2 * x), s * x, t * x, jnp.cos(x) * (s - t))
        total = sum((c * b for c, b in zip(self.psi, shapes, strict=True)), jnp.zeros_like(x))
        return self.path.space.tangent(x, total)


NUM_BUMPS = 6


def shifted(exact: FlowMap, by: float = 0.3) -> Probe:
    """The exact map with a constant added to its average velocity."""
    return Probe(exact=exact, psi=jnp.zeros(NUM_BUMPS).at[0].set(by), path=exact.path)


def off_by(exact: FlowMap, size: float) -> Probe:
    """The exact map with a constant added to its velocity, and `cos(x) (s - t)` to its jumps."""
    psi = size * jnp.array([0.5, 0.0, 0.0, 0.0, 0.0, 1.0])
    return Probe(exact=exact, psi=psi, path=exact.path)


class Bumped(FlowMap):
    """A map that is not exact: smooth bumps of unlike shapes, also of label and guidance, are added
    to the average velocity, and others with the same `psi` to the head."""

    exact: FlowMap
    psi: Float[Array, " count"]
    path: Interpolant

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        V = self.exact.average_velocity(x, s, t, cond)
        return V + self._bump(self.psi, x, s, t, cond)

    def with_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        head = self.exact.average_velocity(x, s, s, cond)
        head += self._bump(self.psi[::-1], x / 2, s, s, cond)
        return self.average_velocity(x, s, t, cond), head

    @property
    def abilities(self) -> Abilities:
        return Abilities(has_head=True)

    def _bump(self, psi: Array, x: Array, s: Array, t: Array, cond: Condition | None) -> Array:
        s, t = self.path.unit_time(s), self.path.unit_time(t)
        shapes = (jnp.ones_like(x), x, jnp.sin(2 * x + t), s * x, t**2 * jnp.cos(x), s * t * x)
        size = jnp.ones(())
        if cond is not None and cond.label is not None:
            size += cond.label / 4
        if cond is not None and cond.guidance is not None:
            size += jnp.sum(cond.guidance) / 20
        total = size * sum((c * b for c, b in zip(psi, shapes, strict=True)), jnp.zeros_like(x))
        return self.path.space.tangent(x, total)


class Flipped(FlowMap):
    """Where `flip` is 1, the map with the sign of `t - s` flipped; the exact map where it is 0.

    Flipped: `2 v - V` off the diagonal, `-v` on it. To first order `V = v + (t - s)/2 Dv`, so this
    is the map that a sign error learns. `flip` is an array, so that one program serves both.
    """

    exact: FlowMap
    flip: Float[Array, ""]
    path: Interpolant

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        v, V = self.exact.velocity(x, s, cond), self.exact.average_velocity(x, s, t, cond)
        return V + self.flip * jnp.where(s == t, -2 * v, 2 * (v - V))


def probed(exact: FlowMap, psi: Float[Array, " count"]) -> FlowMap:
    """The map with smooth perturbations, of the logits where it is one of tokens, of the mixture
    where it is one by policies."""
    if isinstance(exact, TokenMap):
        return TokenProbe(exact=exact, psi=psi, path=exact.path)
    if isinstance(exact, PolicyMap):
        return PolicyBumped(exact=exact, psi=psi, path=gaussian(exact.path))
    return Probe(exact=exact, psi=psi, path=exact.path)


def bumped(exact: FlowMap, psi: Float[Array, " count"]) -> FlowMap:
    """A map that is not exact, of tokens or by policies where the given one is."""
    if isinstance(exact, TokenMap):
        return TokenBumped(psi=psi, path=exact.path)
    if isinstance(exact, PolicyMap):
        return PolicyBumped(exact=exact, psi=psi, path=gaussian(exact.path))
    return Bumped(exact=exact, psi=psi, path=exact.path)


def flipped(exact: FlowMap, flip: Float[Array, ""]) -> FlowMap:
    """The map that a sign error learns where `flip` is 1."""
    if isinstance(exact, TokenMap):
        return TokenFlipped(exact=exact, flip=flip, path=exact.path)
    if isinstance(exact, PolicyMap):
        return PolicyFlipped(exact=exact, flip=flip, path=gaussian(exact.path))
    return Flipped(exact=exact, flip=flip, path=exact.path)


class MapNetwork(Network):
    """A network whose output is the average velocity of a map."""

    flow_map: FlowMap

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return self.flow_map.average_velocity(x, s, t, cond)


class NoNetwork(Network):
    """Stands where a plugin wants a network; the oracle takes the place of the map built on it."""

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        del s, t, cond
        return x

    @property
    def has_head(self) -> bool:
        return True

    @property
    def takes_guidance(self) -> bool:
        return True
