"""The times that pretrained networks receive, and what they predict, in our convention.

A network's clock is a short text, so that it can be a flag and a line of a file:

| clock | the network receives, of unit time u | |
|---|---|---|
| `unit` | u | MeanFlow, iMF, our own |
| `reversed` | 1 - u; its velocity is that of its own time, so ours has the other sign | SiT |
| `reversed_cosine` | 1 - t, t the time of the cosine path at u; the other sign too | SiT, GVP |
| `thousand` | 1000 u | flow matching of diffusers |
| `linear A B N`, `scaled_linear A B N` | the step k(u) of N, betas from A to B | DiT, diffusers |
| `squaredcos_cap_v2 N` | the same for the cosine schedule | |

**Discrete diffusion** (DiT: `linear 0.0001 0.02 1000`). With `abar_k = prod_{i <= k} (1 - beta_i)`
step `k` has the noise-to-signal ratio `sigma_k = sqrt((1 - abar_k) / abar_k)` and unit time
`sigma_k / (1 + sigma_k)`. Between steps `log sigma` is linear in `k`, and `k(u)` is the inverse;
times before the first step and behind the last are clipped, and `unit_interval` says where that
begins. Sources: DDPM (arXiv 2006.11239), DiT (arXiv 2212.09748); the cosine schedule: arXiv
2102.09672, eq. 17.
"""

import dataclasses
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from core.errors import UserError
from core.flow.condition import Condition
from core.flow.conversions import convert
from core.flow.flow_map import AverageVelocityMap, EndpointMap, FlowMap
from core.flow.network import Callee, Network, as_network
from core.flow.path import Path, TrigPath

TRIG = TrigPath()
CONTINUOUS = {
    "unit": lambda u: u,
    "reversed": lambda u: 1 - u,
    "reversed_cosine": lambda u: 1 - 2 / jnp.pi * jnp.arctan2(u, 1 - u),
    "thousand": lambda u: 1000 * u,
}
STEPS = {"linear": 3, "scaled_linear": 3, "squaredcos_cap_v2": 1}
"""Schedules of discrete diffusion, by diffusers' names, and how many numbers each has."""
MOST_STEPS = 100_000


def check_clock(clock: str) -> None:
    """Raises `UserError` for a text that is no clock."""
    kind, *numbers = clock.split() or [""]
    if kind not in CONTINUOUS and kind not in STEPS:
        known = ", ".join([*CONTINUOUS, *STEPS])
        raise UserError(f"no clock is called {kind!r}: choose one of {known}")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        values = [-1.0]
    few = len(values) != STEPS.get(kind, 0) or any(not 0 < value < 1 for value in values[:-1])
    if few or (values and (not 2 <= values[-1] <= MOST_STEPS or values[-1] % 1)):
        wanted = {0: "", 1: " N", 3: " A B N"}[STEPS.get(kind, 0)]
        raise UserError(
            f"the clock {clock!r} is none: write '{kind}{wanted}'"
            + (", such as 'linear 0.0001 0.02 1000'" if wanted else "")
        )


def native_time(clock: str, u: Float[Array, ""]) -> Float[Array, ""]:
    """The time that a network of that clock receives at unit time `u`."""
    kind = clock.split()[0]
    if kind in CONTINUOUS:
        return CONTINUOUS[kind](u)
    table = log_sigmas(clock)
    dtype = jnp.promote_types(u.dtype, jnp.float32)
    small = float(jnp.finfo(dtype).eps)  # a slope must not be infinite times zero
    inside = jnp.clip(u.astype(dtype), small, 1 - small)
    log_sigma = jnp.clip(jnp.log(inside) - jnp.log1p(-inside), table[0], table[-1])
    return jnp.interp(log_sigma, jnp.asarray(table, dtype), jnp.arange(len(table), dtype=dtype))


def velocity_sign(clock: str) -> int:
    """-1 where the network's time runs against ours, so that its velocity has the other sign."""
    return -1 if clock.startswith("reversed") else 1


@lru_cache(maxsize=64)
def log_sigmas(clock: str) -> np.ndarray:
    """`log sigma_k` of all steps of a clock of discrete diffusion, in float64."""
    kind, *numbers = clock.split()
    *ends, count = [float(number) for number in numbers]
    if kind == "squaredcos_cap_v2":
        places = np.arange(int(count) + 1) / count
        signal = np.cos((places + 0.008) / 1.008 * np.pi / 2) ** 2
        betas = np.minimum(1 - signal[1:] / signal[:-1], 0.999)
    else:
        power = 2 if kind == "scaled_linear" else 1
        first, last = (end ** (1 / power) for end in ends)
        betas = np.linspace(first, last, int(count)) ** power
    log_signal = np.cumsum(np.log1p(-betas))
    found = (np.log(-np.expm1(log_signal)) - log_signal) / 2
    found.setflags(write=False)
    return found


def unit_interval(clock: str) -> tuple[float, float]:
    """The unit times between which a network of that clock was trained."""
    if clock.split()[0] in CONTINUOUS:
        return 0.0, 1.0
    first, last = log_sigmas(clock)[[0, -1]]
    return float(1 / (1 + np.exp(-first))), float(1 / (1 + np.exp(-last)))


def in_native_times(net: Callee, clock: str) -> Callee:
    """`N(x, s, t, cond) = sign net(x, k(s), k(t), cond)`: a network by its clock, in our times."""
    if clock == "unit":
        return net
    sign = velocity_sign(clock)

    def call(
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return sign * net(x, native_time(clock, s), native_time(clock, t), cond)

    return call


class Predicted(Network):
    """A network of discrete diffusion as one that predicts the clean example or our velocity.

        y = x / sqrt(alpha^2 + sigma^2),    N(x, s, t) = converted(net(y, s, t))

    `net` was trained on variance-preserving states `y`. **Fields:** `path` of `x`, with noise of
    standard deviation 1; `source`, a prediction of `core.flow.conversions` on the trigonometric
    path: "noise", "x_0", or "velocity", which is the v of Salimans and Ho (arXiv 2202.00512),
    `v = alpha z - sigma x_0` on `y`; `target`, "x_0" for an `EndpointMap`, or "velocity" of `path`.
    From the noise it divides by alpha, to the velocity from the clean example by sigma: `path` must
    keep away from that end (`flow_map_of`).
    """

    net: Callee
    path: Path
    source: str = eqx.field(static=True)
    target: str = eqx.field(static=True, default="x_0")

    def __check_init__(self):
        if self.path.noise_std != 1:
            raise ValueError("pretrained networks have noise of standard deviation 1")

    def __call__(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        path, time = self.path, self.path.time_of_unit(s)
        alpha, sigma = path.alpha(time), path.sigma(time)
        y = x / jnp.sqrt(alpha**2 + sigma**2)
        angle = TRIG.time_of_ray(alpha, sigma)
        value = self.net(y, s, t, cond)
        x_0 = convert(TRIG, value, y, angle, source=self.source, target="x_0")
        if self.target == "x_0":
            return x_0
        z = convert(TRIG, value, y, angle, source=self.source, target="noise")
        return path.conditional_velocity(x_0, z, time)

    @property
    def takes_guidance(self) -> bool:
        return as_network(self.net).takes_guidance

    @property
    def last_weight(self) -> Any:
        return as_network(self.net).last_weight


def flow_map_of(net: Callee, path: Path, clock: str, prediction: str | None = None) -> FlowMap:
    """The flow map of a pretrained network, on `path` inside the times that it was trained for.

    Without a `prediction` the network's output is our velocity, and a jump is Euler's step; with
    one ("noise", "x_0", "velocity": see `Predicted`) it is the endpoint, and a jump is DDIM's step.
    """
    inside = path
    if clock.split()[0] in STEPS:
        ends = jax.jit(jax.vmap(path.time_of_unit))(np.asarray(unit_interval(clock)))
        t_min, t_max = (float(end) for end in ends)
        inside = dataclasses.replace(
            path, t_min=max(path.t_min, t_min), t_max=min(path.t_max, t_max)
        )
    if prediction is None:
        return AverageVelocityMap(net=net, path=inside)
    return EndpointMap(net=Predicted(net, inside, prediction), path=inside)
