"""Data with known distributions, on which plugins are checked."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Key

from core.conformance import policies, tokens
from core.flow.flow_map import FlowMap
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.space import Space
from core.methods.plugin import Plugin, Task
from core.objectives.objective import Batch
from core.oracle import (
    ClassMixture,
    Fisher,
    GaussianProblem,
    GuidedOracle,
    OracleMap,
    Problem,
    ProductMixture,
    RotationGaussian,
    SpaceMap,
    SpaceMixture,
    SpaceProblem,
    WrappedNormal,
)
from core.oracle.markov import MarkovText
from core.registry import Registry

Case = Problem | ClassMixture | SpaceProblem
"""A distribution on which a method is checked."""


def problems() -> dict[str, Problem]:
    """The distributions of the data in the checks: one curved and skewed, one in two dimensions."""
    mixture = ProductMixture(
        weights=jnp.array([[0.3, 0.7]]),
        means=jnp.array([[-1.2, 0.8]]),
        stds=jnp.array([[0.35, 0.6]]),
    )
    gaussian = GaussianProblem(
        mean=jnp.array([0.5, -0.3]), covariance=jnp.array([[0.8, 0.3], [0.3, 0.5]])
    )
    return {"mixture": mixture, "gaussian": gaussian}


def classes() -> ClassMixture:
    """Two classes on the line that overlap: the distribution on which guidance is checked."""
    mixture = ProductMixture(
        weights=jnp.array([[0.3, 0.3, 0.4]]),
        means=jnp.array([[-1.2, 0.2, 0.9]]),
        stds=jnp.array([[0.4, 0.7, 0.5]]),
    )
    return ClassMixture(mixture, jnp.array([0, 1, 1]), 2)


@eqx.filter_jit
def pairs_of(exact: FlowMap, batch: Batch, key: Key[Array, ""]) -> Batch:
    """As many pairs of noise and its end under the ODE as the batch has examples."""
    path = gaussian(exact.path)
    ends, shape = (jnp.asarray(path.t_max), jnp.asarray(path.t_min)), batch.x_0.shape[1:]
    z = jax.vmap(lambda k: path.noise(k, shape))(jr.split(key, len(batch.x_0)))
    return Batch(jax.vmap(lambda z: exact(path.start(z, ends[0]), *ends))(z), z=z)


def sphere_problem() -> SpaceProblem:
    """Two modes of unlike width and weight on `S^2`, not opposite each other."""
    centres = jnp.array([[0.6, 0.0, 0.8], [0.0, -0.96, 0.28]])
    return SpaceMixture(jnp.array([0.3, 0.7]), Fisher(centres, [4.0, 2.0]))


def torus_problem() -> SpaceProblem:
    """Two modes of unlike width and weight on two angles."""
    means, stds = jnp.array([[0.5, -1.0], [2.5, 1.2]]), jnp.array([[0.8, 1.0], [1.2, 0.9]])
    return SpaceMixture(jnp.array([0.3, 0.7]), WrappedNormal(means, stds))


def rotation_problem() -> SpaceProblem:
    """Two modes of unlike width and weight on the rotations."""
    centres = jnp.array([[0.8, 0.6, 0.0, 0.0], [0.0, 0.6, 0.0, -0.8]])
    return SpaceMixture(jnp.array([0.3, 0.7]), RotationGaussian(centres, [0.7, 1.0]))


SPACE_PROBLEMS: Registry[Callable[[], SpaceProblem]] = Registry(
    "space with an exact problem",
    {"sphere": sphere_problem, "torus": torus_problem, "so3": rotation_problem},
)
"""A distribution with a known velocity for spaces by name, mostly of `core.spaces.SPACES`."""


def space_problem(space: Space) -> tuple[str, SpaceProblem]:
    """The name and the problem of a space. Raises `ValueError` where none is registered."""
    for name, make in SPACE_PROBLEMS.items():
        problem = make()
        if type(problem.space) is type(space):
            return name, problem
    raise ValueError(f"no problem is registered for {space.name}: SPACE_PROBLEMS.add(name, make)")


def exact_map(problem: Case, path: Interpolant, plugin: Plugin) -> tuple[FlowMap, Task]:
    """The exact map of a problem, guided as the plugin learns it, and the task."""
    if isinstance(problem, ClassMixture):
        exact = GuidedOracle(distribution=problem, path=gaussian(path), scale=plugin.guided or 1.0)
        return exact, Task((1,), "points", problem.num_classes)
    if isinstance(problem, SpaceProblem):
        # Its derivatives are less exact than itself: eight steps leave rcm's residual at 2e-9.
        exact = SpaceMap(problem=problem, path=path, steps=10)
        return exact, Task(problem.shape, "points", 0)
    if isinstance(problem, MarkovText):
        return tokens.exact_map(problem, path), Task(problem.shape, "tokens", 0)
    task = Task(problem.shape, "points", 0)
    if plugin.policies:
        return policies.exact_map(problem, gaussian(path)), task
    return OracleMap(problem=problem, path=gaussian(path)), task
