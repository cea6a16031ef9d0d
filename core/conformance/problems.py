"""Data with known distributions, on which plugins are checked."""

import jax.numpy as jnp

from core.oracle import ClassMixture, GaussianProblem, Problem, ProductMixture


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
