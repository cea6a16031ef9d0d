"""A teacher of the user's own: `--teacher python:MODULE:NAME`."""

import hashlib
import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from core import trust
from core.errors import UserError, require
from core.flow.condition import Condition
from core.flow.path import Path
from core.flow.teacher import Teacher, frozen

MARK = "python:"
KINDS = {"velocity": "t", "denoise": "sigma"}
"""What a teacher may give, and what its second argument is called."""
LEVELS = (0.002, 80.0)
"""The noise levels that `denoise` is asked for, where it does not say its own: EDM's."""
_WANTED = (
    "give velocity(x, t, label) or denoise(x, sigma, label), an object that has one of them as a "
    "method, or a function without arguments that returns it"
)


class OwnTeacher(Teacher):
    """The velocity that a function or an object of the user's gives, of one example, in JAX.

    `velocity(x, t, label)` is that of the run's path at its own time `t`, from data to noise.
    `denoise(x, sigma, label)` is `D = E[x_0 | x]` of `x = x_0 + sigma z`, whatever the path:

        v = d_alpha D + d_sigma (x - alpha D) / (m level),      D = denoise(x / m, level),
        m = max(alpha, sigma / sigma_max),                      level = max(sigma / m, sigma_min)

    so that it is asked for none but the noise levels in `levels`, also where `alpha = 0`. The label
    is an int32 scalar, the number of classes for none. No gradient reaches the arrays of an object
    that is a pytree; those of others are constants of the compiled program.
    """

    given: Any
    path: Path
    kind: str = eqx.field(static=True)
    null_label: int = eqx.field(static=True, default=0)
    levels: tuple[float, float] = eqx.field(static=True, default=LEVELS)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        label = None if cond is None else cond.label
        label = jnp.asarray(self.null_label if label is None else label, jnp.int32)
        if self.kind == "velocity":
            return self.answer(x, t, label).astype(x.dtype)
        path, (least, most) = self.path, self.levels
        alpha, sigma = path.alpha(t), path.sigma(t)
        m = jnp.maximum(alpha, sigma / most)
        level = jnp.maximum(sigma / m, least)
        clean = self.answer(x / m, level, label).astype(x.dtype)
        return path.conditional_velocity(clean, (x - alpha * clean) / (m * level), t)

    def answer(
        self, x: Float[Array, "..."], second: Float[Array, ""], label: Int[Array, ""]
    ) -> Any:
        """What the user's code returns, as an array."""
        given = frozen(self.given)
        return jnp.asarray(getattr(given, self.kind, given)(x, second, label))


class Held:
    """A function as a leaf, equal to itself alone, whatever it is of."""

    def __init__(self, call: Callable[..., Any]):
        self.call = call

    def __call__(self, *args: Any) -> Any:
        return self.call(*args)


def open_own(name: str, path: Path, num_classes: int) -> OwnTeacher:
    """The teacher `python:module:name`, for data of so many classes.

    An object may say its `num_classes` and, beside `denoise`, the least and greatest noise level,
    `sigma_min` and `sigma_max`. Raises `UserError` where there is no teacher of that name, where it
    is for another number of classes, and where only a file that was opened names it.
    """
    where = name.removeprefix(MARK)
    require(where.count(":") == 1, f"teacher {name}: say --teacher python:MODULE:NAME")
    given, kind = _understood(trust.load(where), name)
    classes = getattr(given, "num_classes", num_classes)
    if classes != num_classes:
        raise UserError(f"teacher has {classes:,} classes, data {num_classes:,}")
    least, most = (
        float(getattr(given, end, own)) for end, own in zip(("sigma_min", "sigma_max"), LEVELS)
    )
    require(0 < least < most, f"{name}: sigma_min {least:g} is not below sigma_max {most:g}")
    return OwnTeacher(_leaf(given, kind), path, kind, num_classes, (least, most))


def _leaf(given: Any, kind: str) -> Any:
    """An object that is a pytree, with its arrays as JAX's; of others what they are asked."""
    leaves = jax.tree.leaves(given)
    if len(leaves) == 1 and leaves[0] is given:
        return Held(getattr(given, kind, given))
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, np.ndarray) else x, given)


def _understood(found: Any, name: str) -> tuple[Any, str]:
    """The object or function, and what it gives."""
    kind = None if isinstance(found, type) else _kind(found)
    if kind is not None:
        return found, kind
    require(callable(found), f"{name} is of the type {type(found).__name__}: {_WANTED}")
    names = _arguments(found)
    if len(names) == 3 and not isinstance(found, type):
        for kind, second in KINDS.items():
            if second == names[1] or kind == getattr(found, "__name__", ""):
                return found, kind
        raise UserError(
            f"{name} takes {', '.join(names)}: call the second one t, of a velocity, or sigma, of "
            "a denoiser"
        )
    require(not names, f"{name} takes {', '.join(names)}: {_WANTED}")
    try:
        made = found()
    except Exception as error:  # the code is the user's
        raise UserError(f"{name}: {trust.words(error, found)}") from None
    kind = _kind(made)
    if kind is None:
        raise UserError(f"{name} returns {type(made).__name__}: {_WANTED}")
    return made, kind


def _kind(found: Any) -> str | None:
    return next((kind for kind in KINDS if callable(getattr(found, kind, None))), None)


def _arguments(function: Callable[..., Any]) -> list[str]:
    """The names of the arguments that must be given."""
    try:
        known = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # of C, which does not say
        return []
    must = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one.name for one in known if one.kind in must and one.default is one.empty]


def source_print(name: str) -> str:
    """16 hexadecimal digits that depend on the source of the teacher's module."""
    found = trust.source(name.removeprefix(MARK))
    return hashlib.blake2b(found, digest_size=8).hexdigest()
