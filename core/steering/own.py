"""Rewards of one's own: functions of JAX or of NumPy, and what is checked of them first."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.steering.reward import Reward, Sum
from core.steering.spoken import OfText
from core.trust import load_function as load_function
from core.trust import words

_TRACED = (
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.ConcretizationTypeError,  # `if`, `float`
)
_INSTEAD = (
    "write it with jax.numpy (jnp.where in the place of if), or give it as "
    "--reward numpy:MODULE:FUNCTION, which takes NumPy arrays and has no gradient"
)


class Function(Reward):
    """A function of JAX arrays, `--reward python:module:function`.

    `gradient` is False for one that has no useful gradient; a function says so itself by
    `function.gradient = False`.
    """

    function: Callable[[Array], Any] = eqx.field(static=True)
    gradient: bool = eqx.field(static=True, default=True)

    @property
    def differentiable(self) -> bool:
        return self.gradient

    def __call__(self, x: Float[Array, "*shape"]) -> Array:
        found = jnp.asarray(self.function(x))
        return found if self.gradient else found.astype(jnp.float32)


class NumpyFunction(Reward):
    """A function of one NumPy array, without a gradient: `--reward numpy:module:function`.

    It is called on the host, example by example, so any library may be behind it.
    """

    function: Callable[[np.ndarray], Any] = eqx.field(static=True)

    @property
    def differentiable(self) -> bool:
        return False

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, ""]:
        result = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(self.value, result, x, vmap_method="sequential")

    def value(self, x: Array | np.ndarray) -> np.ndarray:
        """The reward of one example. Raises `UserError` where it is no single number."""
        try:
            found = np.asarray(self.function(np.asarray(x)), np.float32)
        except Exception as error:
            raise UserError(f"the reward raised {words(error, self.function)}") from error
        if found.size != 1:
            raise UserError(_of_shape(found.shape))
        return found.reshape(())


def function_reward(function: Callable[[Array], Any]) -> Function:
    """A function as a reward, with a gradient unless it says `function.gradient = False`."""
    return Function(function, bool(getattr(function, "gradient", True)))


def check_reward(reward: Reward, x: Float[Array, " n *shape"]) -> Float[Array, " n"]:
    """The rewards of these examples. Raises `UserError` unless each is one finite number."""
    values = _values(reward, x)
    if values.shape != (len(x),):
        raise UserError(_of_shape(values.shape[1:]))
    if reward.differentiable and not jnp.issubdtype(values.dtype, jnp.floating):
        raise UserError(
            f"the reward is of type {values.dtype}, which has no gradient: declare it by "
            "FUNCTION.gradient = False, or return a smooth number"
        )
    bad = int(jnp.sum(~jnp.isfinite(values)))
    if bad:
        raise UserError(f"the reward is not finite for {bad} of {len(x)} samples; fix it first")
    return values


def check_varies(
    values: Float[np.ndarray, " n"], of: str = "samples of the prior", flag: str = "--lam"
) -> None:
    """Raises `UserError` where the reward is the same for all samples, so that a strength in
    standard deviations of the reward has no meaning; `flag` gives lambda itself."""
    largest = float(np.abs(values).max())
    if np.ptp(values) <= 1e-6 * largest:  # rounding of float32
        raise UserError(
            f"the reward does not vary: it is {values[0]:.6g} for all {len(values)} {of}, "
            f"so there is nothing to tilt by; fix it, or where it is rare give {flag} itself"
        )


def check_gradient(reward: Reward, x: Float[Array, " n *shape"]) -> None:
    """Raises `UserError` where a reward of one's own has no gradient, or one that is not finite."""
    if not any(_is_own(part) for part in _parts(reward)):
        return
    instead = "fix it, or declare that there is none by FUNCTION.gradient = False"
    try:
        slope = jax.jit(jax.vmap(jax.grad(reward)))(x)
    except Exception as error:
        raise UserError(f"the reward has no gradient ({words(error, None)}); {instead}") from error
    bad = int(jnp.sum(~jnp.isfinite(slope).reshape(len(x), -1).all(axis=1)))
    if bad:
        raise UserError(
            f"the gradient of the reward is not finite for {bad} of {len(x)} samples; {instead}"
        )


def _values(reward: Reward, x: Float[Array, " n *shape"]) -> Array:
    for part in _parts(reward):
        if isinstance(part, NumpyFunction):
            part.value(x[0])  # an error in a callback would be a long one
        if isinstance(part, OfText):
            part.values(np.asarray(x[:1]).argmax(-1))
    try:
        return jax.vmap(reward)(x)
    except _TRACED as error:
        kind = type(error).__name__
        raise UserError(f"the reward is not written for JAX ({kind}): {_INSTEAD}") from error
    except Exception as error:
        functions = [part.function for part in _parts(reward) if isinstance(part, Function)]
        if not functions:
            raise
        raise UserError(f"the reward raised {words(error, functions[0])}") from error


def _parts(reward: Reward) -> tuple[Reward, ...]:
    return reward.rewards if isinstance(reward, Sum) else (reward,)


def _is_own(reward: Reward) -> bool:
    """Whether it does not come with the project."""
    return isinstance(reward, Function) or type(reward).__module__.split(".")[0] != "core"


def _of_shape(shape: tuple[int, ...]) -> str:
    return f"the reward of one example has shape {shape}; it must be a single number"
