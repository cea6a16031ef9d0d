"""A published network in any flow map: what it predicts, as what the map asks for.

A prediction at a state determines the rotation `w` of the normalised state `y`, and `w` determines
what any map takes. With a path's ray `r = (alpha, sigma)`, the unit ray `(cos, sin) = r / |r|`, the
slope `S` of the ray from `s` to `t` and `(a, b) ^ (c, d) = a d - b c`,

    y = x / |r|,        w = cos z - sin x_0.

| predicted | w |
|---|---|
| v | itself: it is the v of Salimans and Ho (arXiv 2202.00512), TrigFlow's velocity |
| noise, x_0 | by `core.flow.conversions` on the trigonometric path |
| linear-velocity `v` at `x_l = |l| y`, `l = (1 - u, u)` | `|l| (v - (2u - 1) / |l|^2 x_l)` |
| cosine-velocity | over `pi / 2` |
| edm: `N` at `y / R`, `R^2 = d^2 cos^2 + sin^2` | `(1 - d^2) cos sin / R^2 y - d / R N` |

| asked for | |
|---|---|
| average (velocity) | `(r . S) / |r|^2 x + (r ^ S) / |r| w`: the jump is DDIM's |
| rotation | `w / d` |
| endpoint | `cos y - sin w` |
| denoised (inside of EDM's preconditioning) | `((1 - d^2) cos sin / R^2 y - w) R / d` |

All divide by a length alone, but for noise and x_0, whose conversions keep away from their ends.
So any published network is a velocity on any path, right up to both ends, and a student that begins
with its weights has its velocity on the diagonal, whatever the method's map.
"""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.change import MovedMap
from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.flow_map import AverageVelocityMap, DataEndMap, EndpointMap, FlowMap, Interval
from core.flow.network import Asked, Callee, DenoisedNetwork, Network, as_network
from core.flow.path import CosinePath, LinearPath, Path, TrigPath, gaussian
from core.flow.policy_head import MixtureMap
from core.nets.native import Predicted

TRIG = TrigPath()
EDM_STD = 0.5
"""Standard deviation of the data in EDM's preconditioning."""
EDM_LEVELS: Interval = (0.002 / 1.002, 80 / 81)
"""The noise levels of EDM and EDM2 in unit time."""
AWAY = 1e-3
"""How far in unit time conversions of noise and x_0 keep from the ends, where they divide by 0."""
AT_HOME = {"linear-velocity": LinearPath, "cosine-velocity": CosinePath}


def suited(net: Network, predicts: str, interval: Interval, asked: Asked) -> Network:
    """The network whose output is what is asked for, where its own is what it `predicts`.

    **Arguments:** `predicts` one of `core.nets.later_inputs.Predicts`; `interval` the unit times
    that it was trained for: at others it is asked for the nearest. **Raises:** `ValueError` for a
    path whose noise is not of standard deviation 1.
    """
    if predicts == "plain":
        return net
    return Suited(net, gaussian(asked.path), predicts, interval, asked.form, asked.data_std)


class Suited(Network):
    """The conversion of this module's docstring, around a network."""

    net: Callee
    path: Path
    predicts: str = eqx.field(static=True)
    interval: Interval = eqx.field(static=True)
    form: str = eqx.field(static=True)
    data_std: float = eqx.field(static=True)

    def __check_init__(self):
        if self.path.noise_std != 1:
            raise ValueError("published networks have noise of standard deviation 1")

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        path, d = self.path, self.data_std
        if self.form == "average" and type(path) is AT_HOME.get(self.predicts):
            return self.net(x, s, t, cond)
        at = path.time_of_unit(s)
        alpha, sigma = path.alpha(at), path.sigma(at)
        length = jnp.hypot(alpha, sigma)
        cos, sin = alpha / length, sigma / length
        spread = jnp.hypot(d * cos, sin)
        y = x * {"rotation": d, "denoised": spread}.get(self.form, 1 / length)
        w = self._rotation(y, s, t, cond)
        if self.form == "rotation":
            return w / d
        if self.form == "endpoint":
            return cos * y - sin * w
        if self.form == "denoised":
            return ((1 - d**2) * cos * sin / spread**2 * y - w) * spread / d
        to = path.time_of_unit(t)
        d_alpha, d_sigma = path.alpha_slope(at, to), path.sigma_slope(at, to)
        return (cos * d_alpha + sin * d_sigma) * y + (cos * d_sigma - sin * d_alpha) * w

    def _rotation(
        self,
        y: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None,
    ) -> Float[Array, "*shape"]:
        """`w` at the normalised state `y` of unit time `s`."""
        u, to = jnp.clip(s, *self.interval), jnp.clip(t, *self.interval)
        length = jnp.hypot(1 - u, u)
        cos, sin = (1 - u) / length, u / length
        if self.predicts == "edm":
            d = EDM_STD
            spread = jnp.hypot(d * cos, sin)
            value = self.net(y / spread, u, to, cond)
            return (1 - d**2) * cos * sin / spread**2 * y - d / spread * value
        if self.predicts == "linear-velocity":
            return length * self.net(length * y, u, to, cond) - (2 * u - 1) * y
        value = self.net(y, u, to, cond)
        if self.predicts == "cosine-velocity":
            return 2 / jnp.pi * value
        away = jnp.clip(u, AWAY, 1 - AWAY)
        source = "velocity" if self.predicts == "v" else self.predicts
        angle = TRIG.time_of_ray(1 - away, away)
        return convert(TRIG, value, y, angle, source=source, target="velocity")

    @property
    def takes_guidance(self) -> bool:
        return as_network(self.net).takes_guidance

    @property
    def last_weight(self) -> Any:
        return as_network(self.net).last_weight


def predicts_of(prediction: str, clock: str) -> str:
    """The word for what a converted network predicts: `prediction` as layouts have it
    (`core.layouts.found.Found`; "" for a velocity), with the network's clock."""
    if prediction:
        return "v" if prediction == "velocity" else prediction
    return "cosine-velocity" if clock == "reversed_cosine" else "linear-velocity"


def core_of(flow_map: FlowMap) -> Callee:
    """The network inside a map, without conversions and preconditioning; also inside
    `equinox.tree_at`. A map without a network is its own."""
    while isinstance(flow_map, MovedMap | DataEndMap):
        flow_map = flow_map.flow_map
    net = getattr(flow_map, "net", flow_map)
    while isinstance(net, Suited | Predicted | DenoisedNetwork):
        net = net.net
    return net


def prediction_of(flow_map: FlowMap) -> str | None:
    """What the network inside a map predicts, by the words of `core.nets.later_inputs.Predicts`;
    None for a map for which they have no word."""
    while isinstance(flow_map, MovedMap | DataEndMap):
        flow_map = flow_map.flow_map
    net = getattr(flow_map, "net", None)
    if isinstance(net, Suited):
        return net.predicts
    if isinstance(flow_map, AverageVelocityMap | MixtureMap):
        homes = (name for name, path in AT_HOME.items() if type(flow_map.path) is path)
        return next(homes, None)
    if isinstance(flow_map, EndpointMap) and isinstance(net, Predicted):
        return "v" if net.source == "velocity" else net.source
    if isinstance(flow_map, EndpointMap) and isinstance(net, DenoisedNetwork):
        if isinstance(net.net, Suited):
            return net.net.predicts
        return "edm" if net.data_std == EDM_STD else None
    return None


def on_path(flow_map: FlowMap, path: Path, interval: Interval) -> FlowMap | None:
    """A published network's map on another path, finite up to both ends of it.

    At times outside the `interval` that it was trained for it is asked for the nearest inside.
    `core.flow.change.MovedMap` moves any map, to a path that ends where the first does. None for a
    map that `prediction_of` has no word for.
    """
    predicts, net = prediction_of(flow_map), core_of(flow_map)
    if predicts is None or not isinstance(net, Network):
        return None
    wanted = Asked("average", path)
    return AverageVelocityMap(net=suited(net, predicts, interval, wanted), path=path)
