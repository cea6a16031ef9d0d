"""Noise that depends on an observation: `q(z | y) = N(mu(y), diag sigma(y)^2)` of
`y = A x + noise`.

A one-step map that starts from such noise draws from the posterior of the example, as far as a
diagonal distribution of the noise can express it. Source: Variational Flow Maps (arXiv 2603.07276).
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.flow.condition import Condition
from core.flow.network import Callee
from core.nets import DiTConfig, MLPConfig
from core.objectives.objective import Objective
from core.steering.inverse import Operator, as_inverse
from core.steering.reward import Reward


class Observed(eqx.Module):
    """The observation of an example of `shape`: `y = A x + noise n`."""

    A: Operator
    noise: float
    shape: tuple[int, ...] = eqx.field(static=True)

    @classmethod
    def of(cls, reward: Reward, shape: tuple[int, ...]) -> "Observed | None":
        """The observation of a reward's inverse problem; None where it is no inverse problem."""
        problem = as_inverse(reward)
        return None if problem is None else cls(problem.A, problem.noise, shape)

    def draw(self, x: Float[Array, "*shape"], key: Key[Array, ""]) -> Float[Array, "*observed"]:
        """An observation of the example."""
        y = self.A(x)
        return y + self.noise * jr.normal(key, y.shape, y.dtype)

    def misfit(self, y: Float[Array, "*observed"], x: Float[Array, "*shape"]) -> Float[Array, ""]:
        """`|y - A x|^2 / (2 noise^2)`."""
        return jnp.sum((y - self.A(x)) ** 2) / (2 * self.noise**2)

    def conditioning(self, y: Float[Array, "*observed"]) -> Float[Array, "*wider"]:
        """The input of an adapter: `A' y` and `A' 1`, both scaled alike, side by side along
        the last axis. The scale makes the largest entry of `A' 1` one."""
        like = jnp.zeros(self.shape, y.dtype)
        back = jax.linear_transpose(self.A, like)
        (there,), (shown,) = back(y), back(jnp.ones_like(y))
        scale = jnp.maximum(jnp.max(jnp.abs(shown)), 1e-6)
        return jnp.concatenate([there, shown], axis=-1) / scale

    def same(self, other: "Observed | None") -> bool:
        """Whether the other one is the same problem, with the same noise."""
        return other is not None and bool(eqx.tree_equal(self, other, rtol=1e-5, atol=1e-6))


class NoiseAdapter(eqx.Module):
    """`mu(y)` and `log sigma(y)` of each coordinate of the noise, in units of the path's noise.

    `net` acts on arrays that are twice as wide in the last axis as an example, see
    `Observed.conditioning`.
    """

    net: Callee

    def __call__(
        self, conditioning: Float[Array, "*wider"], cond: Condition | None = None
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        zero = jnp.zeros((), conditioning.dtype)
        mean, log_std = jnp.split(self.net(conditioning, zero, zero, cond), 2, axis=-1)
        return mean, log_std


def noise_adapter(
    shape: tuple[int, ...], num_classes: int, width: int, depth: int, *, key: Key[Array, ""]
) -> NoiseAdapter:
    """A fresh adapter, whose noise is standard normal for every observation: a transformer for
    images, in patches of 4 pixels where the image has 16 or more, else of 2 or 1; a perceptron for
    points.
    """
    wider = (*shape[:-1], 2 * shape[-1])
    if len(shape) != 3:
        net = MLPConfig(width=width, depth=depth).build(wider, num_classes, key=key)
        return NoiseAdapter(net)
    sizes = [p for p in (4, 2) if shape[0] % p == shape[1] % p == 0 and 4 * p <= min(shape[:2])]
    config = DiTConfig(patch=max(sizes, default=1), width=width, depth=depth)
    return NoiseAdapter(config.build(wider, num_classes, key=key))


def divergence(mean: Float[Array, "*shape"], log_std: Float[Array, "*shape"]) -> Float[Array, ""]:
    """`KL(N(mean, diag std^2) || N(0, I))`."""
    return jnp.sum(jnp.expm1(2 * log_std) + mean**2 - 2 * log_std) / 2


class AdaptedObjective(Objective):
    """An objective with a player "adapter", a `NoiseAdapter`, for one inverse problem."""

    observed: eqx.AbstractVar[Observed]


class Proposal(eqx.Module):
    """A trained adapter and the inverse problem that it was trained for."""

    adapter: NoiseAdapter
    observed: Observed

    def serves(self, reward: Reward) -> bool:
        """Whether the reward is the likelihood of an observation of this very problem."""
        return self.observed.same(Observed.of(reward, self.observed.shape))

    def distribution(
        self, reward: Reward, cond: Condition | None
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """Mean and log standard deviation of the noise, for the observation of the reward."""
        problem = as_inverse(reward)
        assert problem is not None
        return self.adapter(self.observed.conditioning(problem.y), cond)
