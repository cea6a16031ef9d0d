"""Whether a teacher of the user's own answers as one must, asked at the start of a run."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from core import trust
from core.errors import UserError, require
from core.flow.condition import Condition
from core.train.own_teacher import Held, OwnTeacher

Variable = Literal["x", "t"]
UNITS = (0.0, 0.3, 0.5, 0.7, 0.02, 0.98, 1.0)
"""Unit times at which a teacher must be finite."""
MIDDLE = slice(1, 4)
"""Those at which it is differentiated."""
SPANS = {"x": 1.0, "t": 0.02}
"""Lengths of the lines along which values are compared with derivatives: in `x` so long that
rounding to whole numbers shows, in unit time so short that 1,000 radians a unit are resolved."""
NODES = 16
"""Places of a line at which the derivative is taken."""


def check_own(
    teacher: OwnTeacher,
    name: str,
    shape: tuple[int, ...],
    derivatives: Sequence[Variable] = (),
    method: str = "",
) -> None:
    """Raises `UserError`, one line, for another shape or kind of numbers than those of a state, for
    values that are not finite, and where `method` takes `derivatives` of its teacher and they are
    not those of its values."""
    what, classes = f"{name}: {teacher.kind}", teacher.null_label
    state, scalar, label = (
        jax.ShapeDtypeStruct(size, dtype)
        for size, dtype in ((shape, jnp.float32), ((), jnp.float32), ((), jnp.int32))
    )
    with _one_line(teacher, what):
        out = eqx.filter_eval_shape(teacher.answer, state, scalar, label)
    require(
        out.shape == shape,
        f"{what} returns shape {out.shape}, where a state has {shape}: return one number for each "
        "of the state's, of one example",
    )
    require(
        jnp.issubdtype(out.dtype, jnp.floating),
        f"{what} returns {out.dtype}: return floating-point numbers",
    )
    x, labels = map(jnp.asarray, _states(shape, classes))
    with _one_line(teacher, what):
        times, values = map(np.asarray, _values(teacher, x, labels))
    for u, t, value in zip(UNITS, times, values):
        require(
            bool(np.isfinite(value).all()),
            f"{what} is not finite at t = {t:g} (unit time {u:g}): return finite numbers at every "
            "time of the path, from data to noise",
        )
    for variable in derivatives:
        with _one_line(teacher, what):
            found = [np.asarray(part) for part in _line(teacher, variable, x, labels)]
        _compare(found, what, variable, method)


@contextlib.contextmanager
def _one_line(teacher: OwnTeacher, what: str) -> Iterator[None]:
    """Turns what the user's code raises into one line."""
    function = teacher.given.call if isinstance(teacher.given, Held) else None
    if function is None:
        function = getattr(teacher.given, teacher.kind, teacher.given)
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # the code is the user's
        raise UserError(f"{what}: {trust.words(error, function)}") from None


def _states(shape: tuple[int, ...], classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy states of the linear path at `UNITS`, and a label for each: classes, and none."""
    rng, units = np.random.default_rng(0), np.asarray(UNITS).reshape(-1, *[1] * len(shape))
    clean, z = rng.normal(size=(2, len(UNITS), *shape))
    labels = np.resize([0, classes, max(classes - 1, 0)], len(UNITS))
    return ((1 - units) * clean / 2 + units * z).astype(np.float32), labels.astype(np.int32)


def _velocity(teacher: OwnTeacher, x: Array, u: Array, label: Array) -> tuple[Array, Array]:
    """The time of unit time `u`, and the velocity there; `x` is a state of the linear path."""
    path = teacher.path
    t = path.time_of_unit(u)
    scale = path.alpha(t) + path.sigma(t)
    return t, teacher.velocity(scale * x, t, Condition(label=label))


@eqx.filter_jit
def _values(teacher: OwnTeacher, x: Array, labels: Array) -> tuple[Array, Array]:
    units = jnp.asarray(UNITS, x.dtype)
    return jax.vmap(lambda *row: _velocity(teacher, *row))(jnp.asarray(x), units, labels)


@eqx.filter_jit
def _line(
    teacher: OwnTeacher, variable: Variable, x: Array, labels: Array
) -> tuple[Array, Array, Array, Array, Array]:
    """For each example: the change of the velocity from end to end of a line, the integral of its
    derivative by Gauss and Legendre, one derivative by reverse and by forward mode, and the
    velocity at the start."""
    places, weights = np.polynomial.legendre.leggauss(NODES)
    along = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def one(x: Array, along: Array, u: Array, label: Array):
        def f(r: Array) -> Array:
            if variable == "x":
                return _velocity(teacher, x + r * SPANS["x"] * along, u, label)[1]
            return _velocity(teacher, x, u + r * SPANS["t"], label)[1]

        def slope(r: Array) -> Array:
            return jax.jvp(f, (r,), (jnp.ones_like(r),))[1]

        slopes = jax.lax.map(slope, jnp.asarray((places + 1) / 2, x.dtype))
        integral = jnp.tensordot(jnp.asarray(weights / 2, x.dtype), slopes, 1)
        start, half = f(jnp.zeros((), x.dtype)), jnp.asarray(0.5, x.dtype)
        back = jax.vjp(f, half)[1](along)[0]
        end = f(jnp.ones((), x.dtype))
        return end - start, integral, back, jnp.vdot(along, slope(half)), start

    rows = (jnp.asarray(each)[MIDDLE] for each in (x, along, np.asarray(UNITS, x.dtype), labels))
    return jax.vmap(one)(*rows)


def _compare(found: Sequence[np.ndarray], what: str, variable: Variable, method: str) -> None:
    """Raises `UserError` where values and derivatives of a line (`_line`) do not go together."""
    change, integral, reverse, forward, start = found

    def length(values: np.ndarray) -> np.ndarray:
        return np.linalg.norm(values.reshape(len(values), -1), axis=1)

    bound = 0.05 * np.maximum(length(change), length(integral)) + 1e-3 * length(start)
    wrong = ~(length(change - integral) <= bound)
    wrong |= ~(np.abs(reverse - forward) <= 0.01 * np.abs(forward) + 1e-3 * length(start))
    if not wrong.any():
        return
    i = int(np.argmax(wrong))
    raise UserError(
        f"{what} changes by {length(change)[i]:.2g} along a line in {variable}, and by its "
        f"derivative it would by {length(integral)[i]:.2g}: {method} differentiates its teacher in "
        f"{variable}, so take out stop_gradient and rounding there, or train a method that does "
        "not, such as ayf-lmd"
    )
