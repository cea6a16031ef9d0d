"""Change of path: one process in the time and scale of another path.

Any two Gaussian paths are the same process up to a change of time and a scaling: match the
direction of `(alpha, noise_std sigma)`, then rescale the state (Karras et al., arXiv 2206.00364,
section 3; Kingma et al., arXiv 2107.00630). With `s, t` the times on the old path (`base`) that
match `s', t'` on the new one (`path`), and `kappa = alpha'(t') / alpha(t)`,

    x' = kappa x,        F'(x', s', t') = kappa_t F(x' / kappa_s, s, t).

In terms of average velocities there is no quotient of small differences. Let `r = (alpha,
noise_std sigma)` be a path's ray and `R = (r(t) - r(s)) / (t - s)` its slope. The slope of the
new ray is a combination of the old ray and its slope, `R' = K r(s) + c R`, and

    V'(x', s', t') = K x + c V(x, s, t),        x = x' / kappa_s,

which at `s' = t'` is the velocity of the new path.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.flow_map import Abilities, FlowMap
from core.flow.path import Path, Time, gaussian

AnyPath = TypeVar("AnyPath", bound=Path)
AverageVelocity = Callable[
    [Float[Array, "*shape"], Float[Array, ""], Float[Array, ""]], Float[Array, "*shape"]
]


def matched_time(path: Path, base: Path, t: Time) -> Float[Array, ""]:
    """The time on `base` with the noise-to-signal ratio `noise_std eta` of `path` at time `t`.

    Infinite (EDM) or beyond `t_max` (VP) where `path` is pure noise and `base` never is.
    """
    return base.time_of_ray(path.alpha(t), path.noise_std / base.noise_std * path.sigma(t))


def state_scale(path: Path, base: Path, t: Time) -> Float[Array, ""]:
    """`kappa`, by which a state on `base` is multiplied to be one on `path` at its time `t`."""
    return _length(path, t) / _length(base, matched_time(path, base, t))


def move_state(
    path: Path, base: Path, x: Float[Array, "*shape"], t: Time
) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
    """A state `x` of `base` at time `t`, as a state and time of `path`."""
    t_path = matched_time(base, path, t)
    return state_scale(path, base, t_path) * x, t_path


def move_velocity(
    path: Path, base: Path, velocity: Callable[[Array, Array], Array]
) -> Callable[[Array, Array], Array]:
    """The velocity field on `path` of the process whose velocity on `base` is `velocity(x, t)`."""

    def moved(x: Float[Array, "*shape"], t: Float[Array, ""]) -> Float[Array, "*shape"]:
        move = _Move.between(path, base, t, t)
        return move.apply(x, velocity(x / move.kappa, move.s))

    return moved


def move_average_velocity(
    path: Path, base: Path, average_velocity: AverageVelocity
) -> AverageVelocity:
    """The average velocity on `path` of the process that has `average_velocity` on `base`."""

    def moved(
        x: Float[Array, "*shape"], s: Float[Array, ""], t: Float[Array, ""]
    ) -> Float[Array, "*shape"]:
        move = _Move.between(path, base, s, t)
        return move.apply(x, average_velocity(x / move.kappa, move.s, move.t))

    return moved


def restrict(path: AnyPath, base: Path) -> AnyPath:
    """`path` with `t_min` and `t_max` narrowed to the times that `base` covers.

    For example, the linear path restricted to EDM's noise levels ends at `80 / 81`.
    """
    with jax.ensure_compile_time_eval():
        t_min = max(path.t_min, float(matched_time(base, path, base.t_min)))
        t_max = min(path.t_max, float(matched_time(base, path, base.t_max)))
    return dataclasses.replace(path, t_min=t_min, t_max=t_max)


class MovedMap(FlowMap):
    """A flow map on another path: the same network, the same process, other times and scales.

    A condition is handed on as it is, so a guidance interval keeps the times of `flow_map.path`.

    **Fields:** `flow_map`, the map to move; `path`, where to. **Raises:** `ValueError` where
    `path` has times that `flow_map.path` does not cover; `restrict(path, flow_map.path)` fixes it.
    """

    flow_map: FlowMap
    path: Path

    def __check_init__(self):
        covered = restrict(self.path, gaussian(self.flow_map.path))
        slack = 1e-5 * (self.path.t_max - self.path.t_min)
        if covered.t_min > self.path.t_min + slack or covered.t_max < self.path.t_max - slack:
            raise ValueError(
                f"The flow map covers the times [{covered.t_min:.6g}, {covered.t_max:.6g}] of "
                f"{type(self.path).__name__}, which has [{self.path.t_min:.6g}, "
                f"{self.path.t_max:.6g}]; use restrict(path, flow_map.path)."
            )

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        move = _Move.between(self.path, gaussian(self.flow_map.path), s, t)
        V = self.flow_map.average_velocity(x / move.kappa, move.s, move.t, cond)
        return move.apply(x, V)

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        move = _Move.between(self.path, gaussian(self.flow_map.path), t, t)
        return move.apply(x, self.flow_map.velocity(x / move.kappa, move.s, cond))

    def with_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
        move = _Move.between(self.path, gaussian(self.flow_map.path), s, t)
        diagonal = _Move.between(self.path, gaussian(self.flow_map.path), s, s)
        V, v = self.flow_map.with_velocity(x / move.kappa, move.s, move.t, cond)
        return move.apply(x, V), diagonal.apply(x, v)

    def encode(
        self, x: Float[Array, "*shape"], s: Float[Array, ""], cond: Condition | None = None
    ) -> Any:
        move = _Move.between(self.path, gaussian(self.flow_map.path), s, s)
        return x, s, self.flow_map.encode(x / move.kappa, move.s, cond)

    def decode(self, encoding: Any, t: Float[Array, ""]) -> Float[Array, "*shape"]:
        x, s, inner = encoding
        move = _Move.between(self.path, gaussian(self.flow_map.path), s, t)
        return move.apply(x, self.flow_map.decode(inner, move.t))

    @property
    def abilities(self) -> Abilities:
        return self.flow_map.abilities


class _Move(eqx.Module):
    """`V' = K x' / kappa + c V(x' / kappa, s, t)`, with `s, t` the matched times."""

    s: Float[Array, ""]
    t: Float[Array, ""]
    kappa: Float[Array, ""]
    K: Float[Array, ""]
    c: Float[Array, ""]

    @classmethod
    def between(cls, path: Path, base: Path, s: Time, t: Time) -> "_Move":
        s_base, t_base = matched_time(path, base, s), matched_time(path, base, t)
        n, n_base = path.noise_std, base.noise_std
        a, b = base.alpha(s_base), n_base * base.sigma(s_base)
        A, B = base.alpha_slope(s_base, t_base), n_base * base.sigma_slope(s_base, t_base)
        A_new, B_new = path.alpha_slope(s, t), n * path.sigma_slope(s, t)
        wedge = a * B - b * A  # positive, as noise-to-signal rises; the determinant at s = t
        K = (A_new * B - B_new * A) / wedge
        c = (a * B_new - b * A_new) / wedge
        return cls(s_base, t_base, _length(path, s) / jnp.hypot(a, b), K, c)

    def apply(self, x: Float[Array, "*shape"], V: Float[Array, "*shape"]) -> Array:
        return self.K * x / self.kappa + self.c * V


def _length(path: Path, t: Time) -> Float[Array, ""]:
    """The length of the ray `(alpha, noise_std sigma)`, which is never zero."""
    return jnp.hypot(path.alpha(t), path.noise_std * path.sigma(t))
