"""What a residual declares: the quantity of the map that carries its gradient, and whose parameters
the numbers beside it use.

Stops are invisible where the residual is zero, so a method says where they are meant to be, and the
check G0 (`core.conformance`) holds its gradient against that at maps that are not exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.flow_map import FlowMap
from core.objectives.row import Row

Read = Callable[[FlowMap, Row], Float[Array, "*shape"]]


@dataclass(frozen=True)
class Carrier:
    """A quantity of the map through which a gradient flows: its symbol, and how it is read.

    Without `read` the whole residual is meant: nothing is stopped.
    """

    symbol: str
    read: Read | None = None

    def of(self, model: FlowMap, row: Row) -> Float[Array, "*shape"]:
        """The quantity itself."""
        assert self.read is not None
        return self.read(model, row)


@dataclass(frozen=True)
class Declares:
    """Where the gradient of a residual flows: it is that of `carrier - number`.

    **Fields:** `carriers`, one for each residual of the term; `numbers`, the parameters on which
    the rest depends, which is a number: "current" of the model itself, "target" of the map that
    targets use, "teacher", and names of further players.
    """

    carriers: tuple[Carrier, ...]
    numbers: tuple[str, ...] = ("current",)

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols of the carriers."""
        return tuple(carrier.symbol for carrier in self.carriers)


def _value(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    return model.average_velocity(row.x_s, row.s, row.t, row.cond)


def _jump(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    return model(row.x_s, row.s, row.t, row.cond)


def _velocity(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    return model.average_velocity(row.x_s, row.s, row.s, row.cond)


def _head(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    return model.with_velocity(row.x_s, row.s, row.t, row.cond)[1]


def _end_rate(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    def F(t: Array) -> Array:
        return row.x_s + (t - row.s) * model.average_velocity(row.x_s, row.s, t, row.cond)

    return jax.jvp(F, (row.t,), (jnp.ones_like(row.t),))[1]


def _start_rate(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
    def F(s: Array) -> Array:
        return row.x_s + (row.t - s) * model.average_velocity(row.x_s, s, row.t, row.cond)

    return jax.jvp(F, (row.s,), (jnp.ones_like(row.s),))[1]


VALUE = Carrier("V", _value)
"""`V(x_s, s, t)`."""
JUMP = Carrier("F", _jump)
"""`F(x_s, s, t)`."""
VELOCITY = Carrier("v", _velocity)
"""`V(x_s, s, s)`."""
HEAD = Carrier("v_head", _head)
"""The velocity head at `(x_s, s, t)`."""
END_RATE = Carrier("dF/dt", _end_rate)
"""`dF/dt` at `(x_s, s, t)`; in a space that is not flat `d/dt (t - s) V`, tangent at `x_s`."""
START_RATE = Carrier("dF/ds", _start_rate)
"""`dF/ds` at `(x_s, s, t)`, with `x_s` fixed."""
EVERYTHING = Carrier("everything")
"""The whole residual, its derivatives and the points of evaluation included."""
