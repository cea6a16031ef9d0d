"""Maps by policies that the oracle checks put in the place of a trained one, and their problems.

The data are mixtures of Gaussians with as many components as the policy, so that the exact policy
is known: the posterior of the data at `(x_s, s)`, from which that at any later state follows.
Perturbations move the components, their weights and widths. The map of a wrong sign has the means
`2 m(x_s, s) - m(x_u, u)`, and those of the diagonal with the other sign.
"""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.path import Path
from core.flow.policy import MixturePolicy, Policy, PolicyMap
from core.oracle.mixture import GaussianMixture
from core.oracle.problem import Problem


def line() -> GaussianMixture:
    """Two components of unlike weight and width on the line."""
    means = jnp.array([[-1.2], [0.8]])
    return GaussianMixture(jnp.array([0.3, 0.7]), means, jnp.array([0.35, 0.6]))


def plane() -> GaussianMixture:
    """Three components of unlike weight and width in the plane."""
    means = jnp.array([[-1.0, 0.4], [0.9, 0.7], [0.2, -1.1]])
    return GaussianMixture(jnp.array([0.5, 0.2, 0.3]), means, jnp.array([0.5, 0.3, 0.7]))


def problems() -> dict[str, GaussianMixture]:
    """The distributions of the data in the checks of methods with policies."""
    return {"line": line(), "plane": plane()}


class ExactPolicyMap(PolicyMap):
    """The policy of data that are a mixture of isotropic Gaussians."""

    problem: GaussianMixture
    path: Path
    substeps: int = eqx.field(static=True, default=8)

    def policy(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> MixturePolicy:
        del cond
        path, found = self.path, self.problem.posterior(self.path, x, s)
        columns = (-1, *(1,) * x.ndim)
        velocities = jax.vmap(lambda x_0, z: path.conditional_velocity(x_0, z, s))(
            found.x_0, found.z
        )
        log_weights, widths = found.log_weights.reshape(columns), found.widths.reshape(columns)
        return MixturePolicy.of(path, x, s, velocities, log_weights, jnp.log(widths))


class FlippedPolicy(Policy):
    """Where `flip` is 1, means with the sign of what changes along the way flipped."""

    policy: MixturePolicy
    flip: Float[Array, ""]
    path: Path

    def means(
        self, x: Float[Array, "*shape"], u: Float[Array, ""]
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        start, at_start = self.policy.means(self.policy.x_s, self.policy.s), u == self.policy.s

        def flipped(first: Array, now: Array) -> Array:
            return now + self.flip * jnp.where(at_start, -2 * now, 2 * (first - now))

        x_0, z = map(flipped, start, self.policy.means(x, u))
        return x_0, z


class PolicyFlipped(PolicyMap):
    """Where `flip` is 1, the map that a sign error learns; the exact map where it is 0."""

    exact: PolicyMap
    flip: Float[Array, ""]
    path: Path
    substeps: int = eqx.field(static=True, default=8)

    def policy(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> FlippedPolicy:
        inner = self.exact.policy(x, s, cond)
        assert isinstance(inner, MixturePolicy)
        return FlippedPolicy(policy=inner, flip=self.flip, path=self.path)


class PolicyBumped(PolicyMap):
    """A map whose mixtures have smooth bumps, of means, weights and widths of the components, also
    by label and guidance."""

    exact: PolicyMap
    psi: Float[Array, " count"]
    path: Path
    substeps: int = eqx.field(static=True, default=8)

    def policy(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Policy:
        inner = self.exact.policy(x, s, cond)
        if isinstance(inner, FlippedPolicy):
            moved = self._moved(inner.policy, cond)
            return dataclasses.replace(inner, policy=moved)
        assert isinstance(inner, MixturePolicy)
        return self._moved(inner, cond)

    def _moved(self, policy: MixturePolicy, cond: Condition | None) -> MixturePolicy:
        x, s, size = policy.x_s[None], policy.path.unit_time(policy.s), jnp.ones(())
        if cond is not None and cond.label is not None:
            size += cond.label / 4
        if cond is not None and cond.guidance is not None:
            size += jnp.sum(cond.guidance) / 20
        psi, mean = size * self.psi, jnp.mean(x, axis=-1, keepdims=True)
        ramp = jnp.linspace(-0.7, 1.3, len(policy.mu)).reshape(-1, *(1,) * (x.ndim - 1))
        return dataclasses.replace(
            policy,
            mu=policy.mu + psi[0] + psi[1] * ramp * jnp.sin(2 * x) + psi[2] * s * x,
            log_weights=policy.log_weights + psi[3] * ramp + psi[4] * ramp**2 * jnp.cos(mean),
            w=policy.w * jnp.exp(psi[5] * (ramp + s)),
        )


def exact_map(problem: Problem, path: Path) -> ExactPolicyMap:
    """The exact policies of a mixture. Raises `ValueError` for another problem."""
    if not isinstance(problem, GaussianMixture):
        raise ValueError("exact policies are known for mixtures of isotropic Gaussians")
    return ExactPolicyMap(problem=problem, path=path)
