"""Flow-map trajectory tilting: a guided stochastic process with weights in continuous time.

With `t` from 1 (noise) to 0, `phi_t(x) = (1 - t) lambda r(L(x, t))`, the score `sigma` of `p_t` and
`eps = churn t`, a step of length `h` is

    x     <- x - h v + h [eps sigma + (eps + chi) grad phi] + sqrt(2 eps h) xi
    log w += h [-(d_t + v . grad) phi + chi (lap phi + grad phi . sigma + |grad phi|^2)]

For the flow map, `L(x, t) = F(x, t, 0)`, the Eulerian rule leaves `h lambda r(F(x, t, 0))` of the
weight for `chi = 0`: the look-ahead's reward, summed up over time. Source: arXiv 2511.22688.

The bias of log Z is of the order of `h`, and grows with the gradient of `r(F)`, which peaks between
modes. The map's weight also trusts that a learned map keeps the Eulerian rule. `smc` has neither
error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, Key

from core.errors import pick, require
from core.steering.cap import shortened
from core.steering.linear import on_linear
from core.steering.look import LOOKS, slope_cost
from core.steering.reward import Reward
from core.steering.steering import (
    Evaluations,
    Island,
    Need,
    Steering,
    Tilt,
    only_best,
    register_steering,
)
from core.steering.weights import Resampler, effective, log_mean

LOOK_AHEADS = {name: LOOKS[name] for name in ("map", "tweedie", "naive")}


class AtState(NamedTuple):
    """The values that a step needs: the velocity, `lambda r(L)`, and the slopes of `phi`."""

    v: Float[Array, "*shape"]
    log_tilt: Float[Array, ""]
    slope: Float[Array, "*shape"]
    d_t: Float[Array, ""]


def potential(
    tilt: Tilt, look: str, x: Float[Array, "*shape"], t: Float[Array, ""]
) -> tuple[Float[Array, ""], tuple[Float[Array, "*shape"], Float[Array, ""]]]:
    """`phi_t(x)`; the look-ahead and its `lambda r`."""
    ahead = LOOK_AHEADS[look](tilt.flow_map, x, t, tilt.cond)
    value = tilt.log_tilt(ahead)
    path = tilt.flow_map.path
    return (path.t_max - t) / (path.t_max - path.t_min) * value, (ahead, value)


def at_state(tilt: Tilt, look: str, x: Float[Array, "*shape"], t: Float[Array, ""]) -> AtState:
    """All of it from one backward pass; the denoiser gives the velocity, too."""
    both = jax.value_and_grad(
        lambda x, t: potential(tilt, look, x, t), argnums=(0, 1), has_aux=True
    )
    (_, (ahead, log_tilt)), (slope, d_t) = both(x, t)
    v = (x - ahead) / t if look == "tweedie" else tilt.flow_map.velocity(x, t, tilt.cond)
    return AtState(v, log_tilt, slope, d_t)


@register_steering
@dataclass(frozen=True)
class FMTT(Steering):
    """Trajectory tilting with continuous weights: exact as particles and steps grow."""

    name: ClassVar[str] = "fmtt"
    exact: ClassVar[bool] = True
    normalises: ClassVar[bool] = True
    source: ClassVar[str] = "arXiv 2511.22688"

    steps: int = 50
    """Steps from noise to data; the bias is of the order of one step's length."""
    look: str = "map"
    """Look-ahead: map, tweedie or naive."""
    churn: float = 1.0
    """Noise: eps = churn t."""
    chi: float = 0.0
    """Guidance beyond the noise's own, in units of t / (1 - t); not with the map look-ahead."""
    most: float = 20.0
    """Cap of t / (1 - t)."""
    threshold: float = 0.5
    """Resample below this share of effective particles."""

    def __post_init__(self):
        require(self.steps >= 1, f"--steps must be at least 1, got {self.steps}")
        require(self.churn >= 0 and self.chi >= 0, "churn and chi must not be negative")
        pick(LOOK_AHEADS, self.look, "look-ahead")
        require(
            self.chi == 0 or self.look != "map",
            "fmtt: the Laplacian of r(F) explodes between modes: leave chi at 0 with the map "
            "look-ahead, or search (fmtt-search)",
        )

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        found: set[Need] = {"velocity", "between"}
        if self.churn > 0 or self.look != "map":
            found.add("gradient")
        return frozenset(found)

    def cost(self, reward: Reward) -> Evaluations:
        """With `chi`, the Laplacian takes one more forward and backward pass, tangents included."""
        del reward
        laplacian = LOOK_AHEADS[self.look].cost().with_gradient() * (2 * (self.chi > 0))
        return (slope_cost(self.look) + laplacian) * self.steps

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        tilt = on_linear(tilt, self.name)
        times = time_grid(tilt, self.steps)
        key_start, key_steps = jr.split(key)
        resampler = Resampler(self.threshold)
        x = tilt.noise(key_start, n)
        log_w = jnp.zeros(n, jnp.promote_types(x.dtype, jnp.float32))

        def step(state, now):
            x, log_w, log_z, ancestors = state
            t, u, key = now
            key_move, key_choice = jr.split(key)
            move = jax.vmap(lambda x, k: self.move(tilt, x, t, t - u, k))
            x, gain = move(x, jr.split(key_move, n))
            log_w = log_w + gain
            ess = effective(log_w)
            index, log_w, more, _ = resampler(key_choice, log_w)
            return (x[index], log_w, log_z + more, ancestors[index]), ess

        state = x, log_w, jnp.zeros((), log_w.dtype), jnp.arange(n)
        keys = jr.split(key_steps, self.steps)
        state, ess = jax.lax.scan(step, state, (times[:-1], times[1:], keys))
        x, log_w, log_z, ancestors = state
        return Island(x, log_w, log_z + log_mean(log_w), ess, ancestors)

    def move(
        self,
        tilt: Tilt,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        h: Float[Array, ""],
        key: Key[Array, ""],
    ) -> tuple[Float[Array, "*shape"], Float[Array, ""]]:
        """One step, and the increment of the log weight."""
        key_noise, key_probe = jr.split(key)
        here = at_state(tilt, self.look, x, t)
        if self.look == "map":
            rate = here.log_tilt / (tilt.flow_map.path.t_max - tilt.flow_map.path.t_min)
        else:
            rate = -(here.d_t + jnp.sum(here.v * here.slope))
        chi = jnp.zeros_like(t)
        if self.chi > 0:
            chi = self.chi * odds(t, self.most)
            lap = _laplacian(lambda y: potential(tilt, self.look, y, t)[0], x, key_probe)
            score = -(x + (1 - t) * here.v) / t
            rate = rate + chi * (lap + jnp.sum(here.slope * (score + here.slope)))
        eps = self.churn * t
        guided = (eps + chi) * here.slope
        return diffused(x, t, h, here.v, guided, self.churn, key_noise), h * rate


@register_steering
@dataclass(frozen=True)
class FMTTSearch(Steering):
    """The same process without weights: the best of particles that are selected on the way.

    At some early times the `keep` share with the highest look-ahead rewards is duplicated. It
    returns the best particle; its distribution is not the tilted one.
    """

    name: ClassVar[str] = "fmtt-search"
    exact: ClassVar[bool] = False
    source: ClassVar[str] = "arXiv 2511.22688"

    steps: int = 24
    """Steps from noise to data."""
    look: str = "map"
    """Look-ahead: map, tweedie or naive."""
    churn: float = 1.0
    """Noise: eps = churn t; it sets copies apart."""
    chi: float = 1.0
    """Guidance beyond the noise's own: chi 1.05 t / (1 - t + 0.05)."""
    selections: int = 4
    """How often the best are kept, in the first half of the steps."""
    keep: float = 0.25
    """The share that is kept."""

    def __post_init__(self):
        require(self.churn > 0 and self.chi >= 0, "churn must be positive, chi not negative")
        require(0 < self.keep <= 1, f"keep must be in (0, 1], got {self.keep}")
        require(
            0 <= self.selections <= max(self.steps // 2, 1) and self.steps >= 1,
            f"--steps must be at least 1 and twice the selections, got {self.steps}",
        )
        pick(LOOK_AHEADS, self.look, "look-ahead")

    def needs(self, reward: Reward) -> frozenset[Need]:
        del reward
        return frozenset({"velocity", "between", "gradient"})

    def cost(self, reward: Reward) -> Evaluations:
        del reward
        return slope_cost(self.look) * self.steps + Evaluations(0, reward=1)

    def island(self, tilt: Tilt, n: int, key: Key[Array, ""]) -> Island:
        tilt = on_linear(tilt, self.name)
        times = time_grid(tilt, self.steps)
        key_start, key_steps = jr.split(key)
        kept = max(round(self.keep * n), 1)
        when = jnp.linspace(1, max(self.steps // 2, 1), self.selections).astype(int)
        selecting = jnp.isin(jnp.arange(self.steps), when)

        def step(state, now):
            x, ancestors = state
            t, u, select, key = now
            here = jax.vmap(lambda x: at_state(tilt, self.look, x, t))(x)
            best = jnp.argsort(-here.log_tilt)[jnp.arange(n) % kept]
            index = jnp.where(select, best, jnp.arange(n))
            x, here = jax.tree.map(lambda leaf: leaf[index], (x, here))
            move = jax.vmap(lambda x, here, k: self.move(x, here, t, t - u, k))
            return (move(x, here, jr.split(key, n)), ancestors[index]), None

        state = tilt.noise(key_start, n), jnp.arange(n)
        now = times[:-1], times[1:], selecting, jr.split(key_steps, self.steps)
        (x, ancestors), _ = jax.lax.scan(step, state, now)
        return only_best(x, jax.vmap(tilt.log_tilt)(x), ancestors)

    def move(
        self,
        x: Float[Array, "*shape"],
        here: AtState,
        t: Float[Array, ""],
        h: Float[Array, ""],
        key: Key[Array, ""],
    ) -> Float[Array, "*shape"]:
        """One step, its guidance no longer than the velocity."""
        pull = self.churn * t + self.chi * 1.05 * t / (1 - t + 0.05)
        guided = shortened(pull * here.slope, jnp.linalg.norm(jnp.ravel(here.v)))
        return diffused(x, t, h, here.v, guided, self.churn, key)


def diffused(
    x: Float[Array, "*shape"],
    t: Float[Array, ""],
    h: Float[Array, ""],
    v: Float[Array, "*shape"],
    guided: Float[Array, "*shape"],
    churn: float,
    key: Key[Array, ""],
) -> Float[Array, "*shape"]:
    """A step of length `h` towards the data, with `eps sigma = -churn (x + (1 - t) v)`."""
    inward = -v - churn * (x + (1 - t) * v) + guided
    return x + h * inward + jnp.sqrt(2 * churn * t * h) * jr.normal(key, x.shape, x.dtype)


def odds(t: Float[Array, ""], most: float) -> Float[Array, ""]:
    """`t / (1 - t)`, at most `most`."""
    return jnp.minimum(t / jnp.maximum(1 - t, 1e-12), most)


def time_grid(tilt: Tilt, steps: int) -> Float[Array, " nodes"]:
    """Equal steps from noise to data."""
    path = tilt.flow_map.path
    return jnp.linspace(path.t_max, path.t_min, steps + 1)


def _laplacian(
    phi: Callable[[Array], Array], x: Float[Array, "*shape"], key: Key[Array, ""]
) -> Float[Array, ""]:
    """Hutchinson's estimate of the Laplacian with one random sign for each entry."""
    probe = jr.rademacher(key, x.shape, x.dtype)
    return jnp.sum(probe * jax.jvp(jax.grad(phi), (x,), (probe,))[1])
