"""Flow maps `F(x_s, s, t)`: the two-time solution operators of the probability-flow ODE.

t = 0 is data and t = 1 is noise (a path may own another interval, and then says so). `s` is the
source time and `t` the target time. Every map is written through its average velocity `V`,

    F(x_s, s, t) = x_s + (t - s) V(x_s, s, t),        V(x, t, t) = v(x, t),

or, in a space that is not flat, the geodesic `F = exp_x((t - s) V)` (`core.flow.space`);
so the boundary `F(x, s, s) = x` holds by construction and nothing divides by `t - s`: where a
parameterisation reads `F = A x + B N`, its average velocity is `(A - 1)/(t - s) x + B/(t - s) N`,
and both quotients are exact combinations of the path's divided differences
`alpha_slope(s, t) = (alpha(t) - alpha(s)) / (t - s)` and `sigma_slope(s, t)`.

Everything here acts on one example; `jax.vmap` stands outside.
"""

import abc
import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.field import VelocityField
from core.flow.interpolant import Interpolant
from core.flow.network import Asked, Callee, as_network, suited
from core.flow.network import Network as Network
from core.flow.path import Path
from core.overriding import overridable


@dataclass(frozen=True)
class Abilities:
    """Abilities of a map beside `V(x, s, t)`; a map around a map hands on that map's."""

    two_times: bool = True
    """Whether it may stop at any target time, not only at the data end."""
    has_head: bool = False
    """Whether `with_velocity` reads an auxiliary velocity head of the network."""
    evaluations: int = 1
    """Evaluations of a network in one of the map."""


class FlowMap(VelocityField):
    """`F(x_s, s, t)` of one example: `F(x, s, s) = x` and `F(F(x, s, u), u, t) = F(x, s, t)`.

    A subclass gives the field `path` and the method `average_velocity`; the rest follows. One that
    can do more, or less, says so by its `abilities`.
    """

    @abc.abstractmethod
    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        """`V(x_s, s, t)`, the mean of the velocity along the trajectory from `s` to `t`.

        **Arguments:** `x` the state at time `s`; `s`, `t` scalar times of the path, in either
        order; `cond` label and guidance. **Returns:** an array of the shape of `x`, finite also
        at `s = t`, where it is the instantaneous velocity.
        """

    @overridable
    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        """The instantaneous velocity `v(x, t) = V(x, t, t)`: the diagonal of the map."""
        return self.average_velocity(x, t, t, cond)

    @overridable
    def with_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        """`(V(x_s, s, t), v(x_s, s))`, from one pass where the network has a velocity head."""
        return self.average_velocity(x, s, t, cond), self.velocity(x, s, cond)

    @overridable
    def encode(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Any:
        """The encoding of the source for `decode`: one serves every target time.

        Only a decoupled network (`--net.encoder-depth`) computes anything here.
        """
        return x, s, cond

    @overridable
    def decode(self, encoding: Any, t: Float[Array, ""]) -> Float[Array, "*shape"]:
        """`V(x_s, s, t)` from the encoding of `(x_s, s, cond)`."""
        x, s, cond = encoding
        return self.average_velocity(x, s, t, cond)

    @property
    @overridable
    def abilities(self) -> Abilities:
        """The abilities of the map; static."""
        return Abilities()

    @property
    def two_times(self) -> bool:
        """Whether the map may stop at any target time, not only at the data end."""
        return self.abilities.two_times

    @property
    def has_head(self) -> bool:
        """Whether `with_velocity` reads an auxiliary velocity head of the network."""
        return self.abilities.has_head

    @property
    def evaluations(self) -> int:
        """Evaluations of a network in one of the map."""
        return self.abilities.evaluations

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        """`F(x_s, s, t)`: moves `x` from time `s` to time `t` in one evaluation."""
        return self.path.space.exp(x, (t - s) * self.average_velocity(x, s, t, cond))


Interval = tuple[float, float]
"""Unit times between which a network was trained."""


class AverageVelocityMap(FlowMap):
    """The network is the average velocity: `V(x, s, t) = N(x, s, t)`.

    In a space that is not flat the network sees features of the point, and its output is read as a
    tangent vector there (`features`, `from_network`).

    A network that was trained for times of an `interval` is asked for no others: outside the
    average velocity is that of the nearest time inside. Source: MeanFlow (arXiv 2505.13447), eq. 4.
    The value of `V` depends on the path; to move a trained map to another path use
    `core.flow.change.MovedMap`.
    """

    net: Callee
    path: Interpolant
    interval: Interval | None = eqx.field(static=True, default=None)

    def __post_init__(self):
        self.net = suited(self.net, Asked("average", self.path))

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        space = self.path.space
        out = self.net(space.features(x), self._unit(s), self._unit(t), cond)
        return space.from_network(x, out)

    def encode(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Any:
        net = as_network(self.net)
        if not net.decoupled:
            return super().encode(x, s, cond)
        return x, net.encode(self.path.space.features(x), self._unit(s), cond)

    def decode(self, encoding: Any, t: Float[Array, ""]) -> Float[Array, "*shape"]:
        net = as_network(self.net)
        if not net.decoupled:
            return super().decode(encoding, t)
        x, inner = encoding
        return self.path.space.from_network(x, net.decode(inner, self._unit(t)))

    def with_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        space = self.path.space
        seen, times = space.features(x), (self._unit(s), self._unit(t))
        outs = as_network(self.net).with_head(seen, *times, cond)
        V, v = (space.from_network(x, out) for out in outs)
        return V, v

    @property
    def abilities(self) -> Abilities:
        return Abilities(has_head=as_network(self.net).has_head)

    def _unit(self, time: Float[Array, ""]) -> Float[Array, ""]:
        return _inside(self.path.unit_time(time), self.interval)


class EndpointMap(FlowMap):
    """The network is the endpoint `g`: the DDIM form, CTM's parameterisation on any path.

        F(x, s, t) = sigma_t / sigma_s x + (alpha_t - alpha_s sigma_t / sigma_s) g(x, s, t)

    so that `V = alpha_slope g + sigma_slope z_hat` with `z_hat = (x - alpha_s g) / sigma_s`. On the
    diagonal `g(x, s, s) = E[x_0 | x_s]`. Needs `sigma_s > 0`: `sigma_s` is floored at
    `min_sigma` in the quotient, so below it the map is not to be used. Source: CTM (arXiv
    2310.02279), eq. 9, written for a general path as in IMM (arXiv 2503.07565), section 3.
    """

    net: Callee
    path: Path
    min_sigma: float = eqx.field(static=True, default=1e-3)

    def __post_init__(self):
        self.net = suited(self.net, Asked("endpoint", self.path))

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        path = self.path
        g = self.net(x, path.unit_time(s), path.unit_time(t), cond)
        z_hat = (x - path.alpha(s) * g) / jnp.maximum(path.sigma(s), self.min_sigma)
        return path.alpha_slope(s, t) * g + path.sigma_slope(s, t) * z_hat


class RotationMap(FlowMap):
    """Simple-EDM, which on the trigonometric path is the TrigFlow map.

        F = (alpha_s alpha_t + sigma_s sigma_t) / r x
            - (alpha_t sigma_s - alpha_s sigma_t) / sqrt(r) data_std N(x / (data_std sqrt(r)), s, t)

    with `r = alpha_s^2 + sigma_s^2`.

    Finite everywhere, also at `s = 0`, and unchanged by a change of path. `data_std` is the data's
    standard deviation and the noise has the same one in the sources (`noise_std = data_std`).
    `interval` as in `AverageVelocityMap`, for the times that the network receives. Source: IMM
    (arXiv 2503.07565), "Simple-EDM"; sCM (arXiv 2410.11081), eq. 5.
    """

    net: Callee
    path: Path
    data_std: float = eqx.field(static=True, default=1.0)
    interval: Interval | None = eqx.field(static=True, default=None)

    def __post_init__(self):
        self.net = suited(self.net, Asked("rotation", self.path, self.data_std))

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        path = self.path
        alpha, sigma = path.alpha(s), path.sigma(s)
        alpha_slope, sigma_slope = path.alpha_slope(s, t), path.sigma_slope(s, t)
        r = alpha**2 + sigma**2
        times = (_inside(path.unit_time(time), self.interval) for time in (s, t))
        N = self.net(x / (self.data_std * jnp.sqrt(r)), *times, cond)
        turn = (sigma * alpha_slope - alpha * sigma_slope) / jnp.sqrt(r)
        return (alpha * alpha_slope + sigma * sigma_slope) / r * x - turn * self.data_std * N


class ConsistencyMap(FlowMap):
    """A consistency model on the EDM path: right only for jumps to `t = sigma_min`.

    The target time is not looked at, so `velocity` is no instantaneous velocity here.

        f(x, sigma) = c_skip x + c_out N(c_in x, sigma),   c_skip = d^2 / ((sigma - e)^2 + d^2),
        c_out = d (sigma - e) / sqrt(sigma^2 + d^2),       c_in = 1 / sqrt(sigma^2 + d^2),

    with `e = sigma_min` and `d = data_std`. The square root in `c_out` takes the unshifted sigma.
    `average_velocity` is the closed form of `(f(x, s) - x) / (t_min - s)`. Source: Consistency
    Models (arXiv 2303.01469), appendix C.
    """

    net: Callee
    path: Path
    data_std: float = eqx.field(static=True, default=0.5)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        del t
        path, d = self.path, self.data_std
        gap = s - path.t_min
        scale = jnp.sqrt(s**2 + d**2)
        N = self.net(x / scale, path.unit_time(s), path.unit_time(jnp.asarray(path.t_min)), cond)
        return gap / (gap**2 + d**2) * x - d / scale * N

    @property
    def abilities(self) -> Abilities:
        return Abilities(two_times=False)


class DataEndMap(FlowMap):
    """A map that was trained for jumps to the data end alone, whatever its form.

    Samplers that ask for other jumps, or for its velocity, refuse it.
    """

    flow_map: FlowMap
    path: Interpolant

    @classmethod
    def of(cls, flow_map: FlowMap) -> "DataEndMap":
        """That map, for jumps to the data end alone."""
        return cls(flow_map=flow_map, path=flow_map.path)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return self.flow_map.average_velocity(x, s, t, cond)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        return self.flow_map.velocity(x, t, cond)

    def with_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        return self.flow_map.with_velocity(x, s, t, cond)

    def encode(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Any:
        return self.flow_map.encode(x, s, cond)

    def decode(self, encoding: Any, t: Float[Array, ""]) -> Float[Array, "*shape"]:
        return self.flow_map.decode(encoding, t)

    @property
    def abilities(self) -> Abilities:
        return dataclasses.replace(self.flow_map.abilities, two_times=False)


def _inside(time: Float[Array, ""], interval: Interval | None) -> Float[Array, ""]:
    return time if interval is None else jnp.clip(time, *interval)


Form = Literal["average", "rotation"]
FORMS: dict[str, type[AverageVelocityMap] | type[RotationMap]] = {
    "average": AverageVelocityMap,
    "rotation": RotationMap,
}
"""Parameterisations of a flow map by a network, by name."""
