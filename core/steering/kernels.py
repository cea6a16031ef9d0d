"""Kernels: one noisy step `N(mu(x), tau^2 I)` of the untilted chain, from time `t` to `u < t`.

A kernel is built on one clean prediction of the state at `t`: the jump of the map, or the denoiser.
Where a look-ahead is that very prediction, a step needs no evaluation of its own.
"""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from core.errors import pick, require
from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import Path, gaussian
from core.overriding import overridable
from core.steering.look import Jump, Look, Tweedie
from core.steering.steering import Evaluations

Move = tuple[Float[Array, "*shape"], Float[Array, ""]]


class Kernel(eqx.Module):
    """`x_u ~ N(mu, tau^2 I)` given `x_t`; the last step to the data is without noise."""

    @abc.abstractmethod
    def prediction(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        """The prediction that the step is built on, by one evaluation."""

    @abc.abstractmethod
    def step(
        self,
        path: Path,
        x: Float[Array, "*shape"],
        predicted: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
    ) -> Move:
        """`(mu, tau)`."""

    @abc.abstractmethod
    def cost(self) -> Evaluations:
        """The cost of a prediction."""

    @abc.abstractmethod
    def known(self, look: Look, last: bool) -> bool:
        """Whether the look-ahead is the prediction, in the last step or in the others."""

    @overridable
    def finish(
        self,
        path: Path,
        x: Float[Array, "*shape"],
        predicted: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
    ) -> Float[Array, "*shape"]:
        """The last step."""
        return self.step(path, x, predicted, t, u)[0]


class Renoise(Kernel):
    """The jump to `w = rho u` (in unit time), renoised to `u`:

        a = alpha_u / alpha_w,   mu = a F(x, t, w),   tau^2 = n^2 (sigma_u^2 - (a sigma_w)^2)

    With an exact map it keeps the marginals at any number of steps. `rho = 0` jumps to the data.
    """

    rho: float = eqx.field(static=True, default=0.0)

    def __check_init__(self):
        require(0 <= self.rho < 1, f"rho must be in [0, 1), got {self.rho}")

    def prediction(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        return flow_map(x, t, self._stop(gaussian(flow_map.path), u), cond)

    def step(
        self,
        path: Path,
        x: Float[Array, "*shape"],
        predicted: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
    ) -> Move:
        del x, t
        w = self._stop(path, u)
        fade = path.alpha(u) / path.alpha(w)
        variance = path.sigma(u) ** 2 - (fade * path.sigma(w)) ** 2
        return fade * predicted, path.noise_std * jnp.sqrt(jnp.maximum(variance, 0.0))

    def cost(self) -> Evaluations:
        return Evaluations(1, reward=0)

    def known(self, look: Look, last: bool) -> bool:
        return isinstance(look, Jump) and (last or self.rho == 0)

    def _stop(self, path: Path, u: Float[Array, ""]) -> Float[Array, ""]:
        return path.time_of_unit(self.rho * path.unit_time(u)).astype(u.dtype)


class DenoisingKernel(Kernel):
    """Kernels built on the denoiser `D = E[x_0 | x_t = x]`."""

    def prediction(
        self,
        flow_map: FlowMap,
        x: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        del u
        return Tweedie()(flow_map, x, t, cond)

    def cost(self) -> Evaluations:
        return Evaluations(0, reward=0, velocity=1)

    def known(self, look: Look, last: bool) -> bool:
        del last
        return isinstance(look, Tweedie)


class Ancestral(DenoisingKernel):
    """The bridge `p(x_u | x_t, x_0 = D)`, as DDPM takes it: right in the limit of small steps.

    a = alpha_t / alpha_u,   b = sigma_t^2 - a^2 sigma_u^2
    mu = a sigma_u^2 / sigma_t^2 x + alpha_u b / sigma_t^2 D,    tau = n sigma_u sqrt(b) / sigma_t
    """

    def step(
        self,
        path: Path,
        x: Float[Array, "*shape"],
        predicted: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
    ) -> Move:
        a, ratio = path.alpha(t) / path.alpha(u), path.sigma(u) / path.sigma(t)
        share = jnp.maximum(1 - (a * ratio) ** 2, 0.0)  # b / sigma_t^2
        mu = a * ratio**2 * x + path.alpha(u) * share * predicted
        return mu, path.noise_std * path.sigma(u) * jnp.sqrt(share)


class EulerMaruyamaKernel(DenoisingKernel):
    """An Euler step of the reverse SDE with `eps_t = churn t`, on any path
    `churn noise_std^2 sigma determinant`:

        mu = x - h v + h eps score,      tau^2 = 2 eps h,      h = t - u

    The last step is the ODE's. It wants many steps; the chain has its own distribution.
    """

    churn: float = eqx.field(static=True, default=1.0)

    def __check_init__(self):
        require(self.churn >= 0, f"churn must not be negative, got {self.churn}")

    def step(
        self,
        path: Path,
        x: Float[Array, "*shape"],
        predicted: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
    ) -> Move:
        pull = self.churn * path.determinant(t)
        z = (x - path.alpha(t) * predicted) / path.sigma(t)
        v = path.conditional_velocity(predicted, z, t)
        tau = path.noise_std * jnp.sqrt(2 * pull * path.sigma(t) * (t - u))
        return x - (t - u) * (v + pull * z), tau

    def finish(
        self,
        path: Path,
        x: Float[Array, "*shape"],
        predicted: Float[Array, "*shape"],
        t: Float[Array, ""],
        u: Float[Array, ""],
    ) -> Float[Array, "*shape"]:
        z = (x - path.alpha(t) * predicted) / path.sigma(t)
        return x - (t - u) * path.conditional_velocity(predicted, z, t)


def make_kernel(name: str, *, rho: float = 0.0, churn: float = 1.0) -> Kernel:
    """The kernel "renoise", "ancestral" or "em" with its settings. Raises `UserError` for another
    name or setting."""
    kernels = {"renoise": Renoise(rho), "ancestral": Ancestral(), "em": EulerMaruyamaKernel(churn)}
    return pick(kernels, name, "kernel")
