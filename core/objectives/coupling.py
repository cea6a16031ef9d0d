"""Couplings: which end at t = 1 goes with which example of a batch.

Flow matching needs pairs `(x_0, z)` of the right two distributions and no more: their joint
distribution is free, and each one gives a marginal velocity `E[v | x_t]` that carries the one end
into the other. Ends that are near each other cross less on their way, so that the velocity turns
less. Both couplings solve the optimal transport between the rows of a batch, at the cost
`|x_0 - z|^2`, by OTT-JAX. Sources: Pooladian et al. (arXiv 2304.14772), Tong et al.
(arXiv 2302.00482).

Where examples have labels, only ends that came with the same label change places. Noise is
independent of the labels, so that every class starts from all of it, as its samples will. Without
this a class would be trained from the part of the noise that is nearest to it, and sampled from the
whole: a bias that does not vanish with training (Cheng and Schwing, arXiv 2503.10636). With few
examples of a class in a batch little is left to couple.
"""

import abc
import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Bool, Float, Int, Key

from core.flow.interpolant import Interpolant
from core.objectives.objective import Batch

ITERATIONS = 2000
"""Iterations of Sinkhorn's algorithm, at most."""


class Coupling(eqx.Module):
    """How the ends of a batch are coupled."""

    @abc.abstractmethod
    def pairs(
        self, cost: Float[Array, "n n"], apart: Bool[Array, "n n"], *, key: Key[Array, ""]
    ) -> Int[Array, " n"]:
        """For each row of `cost` the column that goes with it; never one where `apart` is true.

        `apart` divides rows and columns alike into groups."""


class ExactCoupling(Coupling):
    """The permutation of least total cost, by the Hungarian algorithm: at most n^3 operations.

    One row after the other inside of the program: on a CPU 5 ms for 128 rows and 0.1 s for 512, on
    an accelerator a loop of small kernels, where `SinkhornCoupling` is far quicker. SciPy's on the
    host takes a third of the time on one CPU, but a callback out of the program may wait for ever
    where several devices share the step.
    """

    def pairs(
        self, cost: Float[Array, "n n"], apart: Bool[Array, "n n"], *, key: Key[Array, ""]
    ) -> Int[Array, " n"]:
        del key
        from ott.geometry import geometry
        from ott.tools import unreg

        # More than any permutation inside of the groups costs, so that none leads out of them.
        barred = jnp.where(apart, len(cost) * jnp.max(cost), cost)
        with jax.numpy_rank_promotion("allow"):
            row, column = unreg.hungarian(geometry.Geometry(barred))[1].paired_indices
        return jnp.zeros(len(cost), column.dtype).at[row].set(column)


class SinkhornCoupling(Coupling):
    """A draw from the plan `P` of least `sum P C - eps H(P)`: for each row `i` a column with the
    probability `P_ij / sum_j P_ij`.

    A column may be drawn twice and another not at all; over the draws each comes once. `eps` is
    `entropy` times the mean cost: towards 0 the plan is that of `ExactCoupling`, and towards
    infinity the ends are independent.
    """

    entropy: float = eqx.field(static=True, default=0.05)

    def pairs(
        self, cost: Float[Array, "n n"], apart: Bool[Array, "n n"], *, key: Key[Array, ""]
    ) -> Int[Array, " n"]:
        from ott.geometry import geometry
        from ott.solvers import linear

        scale = jnp.sum(jnp.where(apart, 0.0, cost)) / jnp.sum(~apart)
        epsilon: Any = self.entropy * jnp.maximum(scale, jnp.finfo(cost.dtype).tiny)
        barred = jnp.where(apart, jnp.max(cost) + 100 * epsilon, cost)
        problem = geometry.Geometry(barred, epsilon=epsilon)
        with jax.numpy_rank_promotion("allow"):  # OTT-JAX lets arrays of other ranks broadcast
            found: Any = linear.solve(problem, max_iterations=ITERATIONS)
        log_plan = (found.f[:, None] + found.g[None] - cost) / epsilon
        return jr.categorical(key, jnp.where(apart, -jnp.inf, log_plan))


def coupled(coupling: Coupling, path: Interpolant, batch: Batch, *, key: Key[Array, ""]) -> Batch:
    """The batch with its ends `z`, or fresh noise where it has none, coupled with its examples.

    Examples and labels stay where they are."""
    key_noise, key_pairs = jr.split(key)
    n, z = len(batch.x_0), batch.z
    if z is None:
        shape = batch.x_0.shape[1:]
        z = jax.vmap(lambda k: path.noise(k, shape))(jr.split(key_noise, n))
    apart = jnp.zeros((n, n), bool)
    if batch.label is not None:
        apart = batch.label[:, None] != batch.label[None]
    index = coupling.pairs(transport_cost(batch.x_0, z), apart, key=key_pairs)
    return dataclasses.replace(batch, z=z[index])


def transport_cost(
    x: Float[Array, " n *shape"], z: Float[Array, " m *shape"]
) -> Float[Array, "n m"]:
    """`C_ij = |x_i - z_j|^2`, summed over dimensions."""
    x, z = x.reshape(len(x), -1), z.reshape(len(z), -1)
    products = jnp.matmul(x, z.T, precision="highest")
    squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(z**2, axis=1)[None]
    return jnp.maximum(squares - 2 * products, 0.0)
