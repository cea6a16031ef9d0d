"""Solves of the probability-flow ODE `dx/dt = v(x, t)` with Diffrax, in either direction.

Every solve runs over the fraction `tau` in `[0, 1]` of the way from `s` to `t`. So direction is
no special case, `s = t` returns the start, and derivatives with respect to `s` and `t` are those
of the numerical solution itself.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from core.flow.interpolant import Time
from core.flow.space import Euclidean, Space

if TYPE_CHECKING:
    import diffrax

Velocity = Callable[[Float[Array, "*shape"], Float[Array, ""]], Float[Array, "*shape"]]

SOLVERS = {
    "euler": "Euler",
    "heun": "Heun",
    "midpoint": "Midpoint",
    "dopri5": "Dopri5",
    "tsit5": "Tsit5",
    "dopri8": "Dopri8",
}
"""Names of solvers, and of their classes in Diffrax, which is imported by the first solve only."""


def _check_solver(name: str) -> None:
    if name not in SOLVERS:
        raise ValueError(f"Unknown solver {name!r}; choose among {', '.join(SOLVERS)}.")


class FixedSteps(eqx.Module):
    """Equal steps in time.

    **Fields:** `solver`, a name in `SOLVERS`: `"euler"` (order 1), `"heun"` and `"midpoint"` (2),
    `"dopri5"`, `"tsit5"` (5), `"dopri8"` (8); `steps`, their number, at least 1.
    """

    solver: str = eqx.field(static=True, default="heun")
    steps: int = eqx.field(static=True, default=40)

    def __check_init__(self):
        _check_solver(self.solver)
        if self.steps < 1:
            raise ValueError(f"FixedSteps needs steps >= 1, got {self.steps}.")


class AdaptiveSteps(eqx.Module):
    """Steps chosen so that the local error of each stays below `atol + rtol |x|`.

    The first step tried is a hundredth of the way from `s` to `t`. In float32 tolerances below
    about 1e-6 cannot be met. A solve that needs more than `max_steps`
    raises. **Fields:** `solver`, a name in `SOLVERS` except `"euler"`, which has no error estimate.
    """

    solver: str = eqx.field(static=True, default="dopri5")
    rtol: float = eqx.field(static=True, default=1e-5)
    atol: float = eqx.field(static=True, default=1e-5)
    max_steps: int = eqx.field(static=True, default=4096)

    def __check_init__(self):
        _check_solver(self.solver)
        if self.solver == "euler":
            raise ValueError(
                "AdaptiveSteps needs an error estimate, which euler lacks; try dopri5."
            )


class Solution(eqx.Module):
    """The end of a solve.

    **Fields:** `x`, the state at the target time; `nfe`, how many times the velocity was
    evaluated, everything included (all stages, rejected steps).
    Guidance that evaluates a network twice inside the velocity counts once here.
    """

    x: Float[Array, "*shape"]
    nfe: Int[Array, ""]


def solve(
    velocity: Velocity,
    x: Float[Array, "*shape"],
    s: Time,
    t: Time,
    *,
    stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
    adjoint: "diffrax.AbstractAdjoint | None" = None,
    space: Space = Euclidean(),
) -> Solution:
    """Moves `x` from time `s` to time `t` along `dx/dt = velocity(x, t)`; `t < s` and `t = s` too.

    One example. Under `jax.vmap` an adaptive solve gives every example its own step sizes and
    its own `nfe`, and takes as long as its slowest example.

    **Arguments:** `velocity(x, t)` of one example; `stepping`, how to step; `adjoint`, how to
    differentiate: the default, `diffrax.ForwardMode()`, allows `jax.jvp` and refuses reverse
    mode, for which pass `diffrax.RecursiveCheckpointAdjoint()`, which refuses `jax.jvp`;
    `space` of the states: the solver steps in its coordinates, and every point at which the
    velocity is evaluated, and the last, is projected onto it.
    """
    s, t = jnp.asarray(s, x.dtype), jnp.asarray(t, x.dtype)

    def rate(tau: Array, y: Array, args: None) -> Array:
        del args
        return (t - s) * velocity(space.project(y), _between(s, t, tau))

    return _projected(space, _integrate(rate, x, stepping, adjoint))


def solve_average_velocity(
    velocity: Velocity,
    x: Float[Array, "*shape"],
    s: Time,
    t: Time,
    *,
    stepping: FixedSteps | AdaptiveSteps = AdaptiveSteps(),
    adjoint: "diffrax.AbstractAdjoint | None" = None,
    space: Space = Euclidean(),
) -> Solution:
    """`V(x_s, s, t)`, the mean velocity along the trajectory from `s` to `t`, in the field `x`.

    It integrates `dV/dtau = v(x_s + (t - s) V, s + tau (t - s))` from `V = 0`, which is the ODE
    divided by `t - s`: no quotient of small differences, and at `s = t` it is `v(x_s, s)` with
    the right derivatives. Tolerances apply to `V`. In a space that is not flat `u = (t - s) V` is
    the jump at `x_s` that ends at the state, and `v` is pulled back to `x_s` by `target_pull`; a
    jump must not reach the cut locus on its way.
    """
    s, t = jnp.asarray(s, x.dtype), jnp.asarray(t, x.dtype)

    def rate(tau: Array, V: Array, args: None) -> Array:
        del args
        u = (t - s) * V
        return space.target_pull(x, u, velocity(space.exp(x, u), _between(s, t, tau)))

    return _integrate(rate, jnp.zeros_like(x), stepping, adjoint)


def solve_grid(
    velocity: Velocity,
    x: Float[Array, "*shape"],
    times: Float[Array, " nodes"],
    *,
    solver: str = "heun",
    adjoint: "diffrax.AbstractAdjoint | None" = None,
    space: Space = Euclidean(),
) -> Solution:
    """Moves `x` from `times[0]` to `times[-1]` with one step between each two neighbours.

    **Arguments:** `times`, strictly decreasing (towards data) or strictly increasing, at least
    two; `solver`, a name in `SOLVERS`; `space` as in `solve`. A sampler's grid may differ from
    these steps: EDM's Heun takes its last step to `sigma = 0` with Euler, this function does not.
    """
    import diffrax

    _check_solver(solver)

    def rate(u: Array, y: Array, args: None) -> Array:
        del args
        return velocity(space.project(y), u)

    controller = diffrax.StepTo(ts=times)
    ends = times[0], times[-1]
    solution = _run(rate, x, _solver(solver), controller, ends, None, times.shape[0], adjoint)
    return _projected(space, solution)


def _projected(space: Space, solution: Solution) -> Solution:
    return Solution(space.project(solution.x), solution.nfe)


def _integrate(
    rate: Callable,
    y: Array,
    stepping: FixedSteps | AdaptiveSteps,
    adjoint: "diffrax.AbstractAdjoint | None",
) -> Solution:
    """Integrates `rate` over the fraction of the way, from 0 to 1."""
    import diffrax

    ends = jnp.zeros((), y.dtype), jnp.ones((), y.dtype)
    solver = _solver(stepping.solver)
    if isinstance(stepping, AdaptiveSteps):
        controller = diffrax.PIDController(rtol=stepping.rtol, atol=stepping.atol)
        first, max_steps = 0.01, stepping.max_steps
    else:
        controller = diffrax.ConstantStepSize()
        first, max_steps = 1.0 / stepping.steps, stepping.steps
    dt0 = jnp.asarray(first, y.dtype)
    return _run(rate, y, solver, controller, ends, dt0, max_steps, adjoint)


def _run(
    rate: Callable,
    y: Array,
    solver: "diffrax.AbstractSolver",
    controller: "diffrax.AbstractStepSizeController",
    ends: tuple[Array, Array],
    dt0: Array | None,
    max_steps: int,
    adjoint: "diffrax.AbstractAdjoint | None",
) -> Solution:
    import diffrax

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(rate),
        solver,
        t0=ends[0],
        t1=ends[1],
        dt0=dt0,
        y0=y,
        stepsize_controller=controller,
        saveat=diffrax.SaveAt(t1=True),
        max_steps=max_steps,
        adjoint=adjoint or diffrax.ForwardMode(),
    )
    assert solution.ys is not None
    per_step, once = _evaluations(solver)
    return Solution(solution.ys[0], per_step * solution.stats["num_steps"] + once)


def _solver(name: str) -> "diffrax.AbstractSolver":
    import diffrax

    return getattr(diffrax, SOLVERS[name])()


def _evaluations(solver: "diffrax.AbstractSolver") -> tuple[int, int]:
    """Evaluations of the velocity for each tried step, and once a solve.

    A first-same-as-last solver hands its last stage on to the next step (also after a rejected
    one), so it pays its first stage once.
    """
    tableau = getattr(solver, "tableau", None)
    if tableau is None:  # Euler
        return 1, 0
    return tableau.num_stages - int(tableau.fsal), int(tableau.fsal)


def _between(s: Array, t: Array, tau: Array) -> Array:
    """`s` at `tau = 0`, `t` at `tau = 1`, both exactly."""
    return (1.0 - tau) * s + tau * t
