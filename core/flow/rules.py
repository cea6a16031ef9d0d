"""The three consistency rules, each a small function of a flow map and a velocity.

Every method of the field is one of these, with a velocity source, a derivative and a choice of
where gradients stop. In terms of the average velocity `V`:

    Lagrangian      V(x_s, s, t) = v(F(x_s, s, t), t) - (t - s) dV_dt
    Eulerian        V(x_s, s, t) = v(x_s, s) + (t - s) DV_ds,   DV_ds = d/ds V + grad V . v(x_s, s)
    compositional   V(x_s, s, t) = (1 - g) V(x_s, s, u) + g V(F(x_s, s, u), u, t),
                    u = g s + (1 - g) t

In a space that is not flat each has the form of `core.flow.space`, which here is its flat one.
Derivatives are tangent at `x_s`.

As `t -> s` all three say `V(x, s, s) = v(x, s)`: flow matching. The compositional rule alone also
holds for `F = x`, so it never stands without a diagonal or teacher term. Functions here return
values and derivatives and stop no gradients: a method does, on the results.

Source: Boffi et al., arXiv 2406.07507 and 2505.18825; MeanFlow, arXiv 2505.13447.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap


class Derivative(eqx.Module):
    """How a total derivative along a tangent is taken."""

    @abc.abstractmethod
    def __call__(
        self, f: Callable[..., Any], primals: tuple[Array, ...], tangents: tuple[Array, ...]
    ) -> tuple[Any, Any]:
        """`(f(*primals), d/dh f(*(primals + h tangents)) at h = 0)`, pytrees alike."""


class ExactJVP(Derivative):
    """`jax.jvp`: value and derivative in one pass, exact."""

    def __call__(
        self, f: Callable[..., Any], primals: tuple[Array, ...], tangents: tuple[Array, ...]
    ) -> tuple[Any, Any]:
        return jax.jvp(f, primals, tangents)


def full_products() -> Any:
    """The context of two evaluations whose difference counts: products of float32 in float32.

    GPUs round the operands of float32 products to TF32 by default, a relative error of 5e-4, which
    a quotient over 1e-3 turns into 0.5. Transposed products keep it, so the backward pass of such
    an evaluation is exact, and slow, too.
    """
    return jax.default_matmul_precision("highest")


class FiniteDifference(Derivative):
    """The forward quotient `(f(p + step d) - f(p)) / step`, with full-precision products.

    Error O(step) plus rounding: in float32 the best step is near 1e-3, and in bfloat16 no step is
    good. The value keeps its gradient; the quotient's second evaluation is a plain one. `step` is
    negative to look towards the data, so that no time leaves the path's interval.
    """

    step: float | Float[Array, ""] = -1e-3

    def __call__(
        self, f: Callable[..., Any], primals: tuple[Array, ...], tangents: tuple[Array, ...]
    ) -> tuple[Any, Any]:
        with full_products():
            here = f(*primals)
            there = f(*(p + self.step * d for p, d in zip(primals, tangents)))
        return here, jax.tree.map(lambda a, b: (b - a) / self.step, here, there)


class CentralDifference(Derivative):
    """`(f(p + step d) - f(p - step d)) / (2 step)`, with full-precision products; `f(p)` is a third
    evaluation.

    Error O(step^2) plus rounding. The value keeps its gradient. For networks whose kernels have no
    forward-mode rule. Source: FastGen's code, in float64 with step 1e-4.
    """

    step: float | Float[Array, ""] = 5e-3

    def __call__(
        self, f: Callable[..., Any], primals: tuple[Array, ...], tangents: tuple[Array, ...]
    ) -> tuple[Any, Any]:
        def at(sign: float) -> Any:
            return f(*(p + sign * self.step * d for p, d in zip(primals, tangents)))

        with full_products():
            above, below = at(1.0), at(-1.0)
        slope = jax.tree.map(lambda a, b: (a - b) / (2 * self.step), above, below)
        return f(*primals), slope


def derivative(step: float | Float[Array, ""] | None, room: Float[Array, ""]) -> Derivative:
    """A central difference of this step, or of `room` where that is less, so that no time is below
    the data end; the exact derivative without a step."""
    if step is None:
        return ExactJVP()
    return CentralDifference(jnp.clip(room, 1e-5, step))


def eulerian(
    flow_map: FlowMap,
    x_s: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    tangent: Float[Array, "*shape"],
    cond: Condition | None = None,
    derivative: Derivative = ExactJVP(),
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`(V, DV_ds)` at `(x_s, s, t)`, the derivative along `(tangent, 1, 0)`.

    `tangent` is the velocity at `(x_s, s)`: the marginal one for a teacher or the model's own,
    or the conditional one of a sampled pair.
    """
    V, dV_ds = derivative(
        lambda x, time: flow_map.average_velocity(x, time, t, cond),
        (x_s, s),
        (tangent, jnp.ones_like(s)),
    )
    return V, flow_map.path.space.tangent(x_s, dV_ds)


def eulerian_with_head(
    flow_map: FlowMap,
    x_s: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    tangent: Float[Array, "*shape"],
    cond: Condition | None = None,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`(V, DV_ds, v_head)`: as `eulerian`, with the auxiliary velocity head of the same pass."""
    V, dV_ds, v_head = jax.jvp(
        lambda x, time: flow_map.with_velocity(x, time, t, cond),
        (x_s, s),
        (tangent, jnp.ones_like(s)),
        has_aux=True,
    )
    return V, flow_map.path.space.tangent(x_s, dV_ds), v_head


def eulerian_parts(
    flow_map: FlowMap,
    x_s: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    velocity: Float[Array, "*shape"],
    cond: Condition | None = None,
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`(V, dV_ds, grad V . velocity)` at `(x_s, s, t)`: the two parts of `DV_ds` apart.

    One linearisation serves both tangents, for a rule that stops one part only.
    """
    V, push = jax.linearize(lambda x, time: flow_map.average_velocity(x, time, t, cond), x_s, s)
    along_s = push(jnp.zeros_like(x_s), jnp.ones_like(s))
    along_x = flow_map.path.space.tangent(x_s, push(velocity, jnp.zeros_like(s)))
    return V, along_s, along_x


def lagrangian(
    flow_map: FlowMap,
    x_s: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    cond: Condition | None = None,
    derivative: Derivative = ExactJVP(),
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"]]:
    """`(V, dV_dt)` at `(x_s, s, t)`; then `dF_dt = V + (t - s) dV_dt`.

    `x_s` and `s` are closed over, so no zero tangent is carried through the network, and of a
    decoupled one only the decoder is differentiated.
    """
    encoding = flow_map.encode(x_s, s, cond)
    return derivative(lambda time: flow_map.decode(encoding, time), (t,), (jnp.ones_like(t),))


def compositional(
    flow_map: FlowMap,
    x_s: Float[Array, "*shape"],
    s: Float[Array, ""],
    t: Float[Array, ""],
    fraction: Float[Array, ""],
    cond: Condition | None = None,
    *,
    euler: Bool[Array, ""] | None = None,
    encoding: Any = None,
) -> Float[Array, "*shape"]:
    """`V(x_s, s, t)` as two jumps give it, by way of `u = fraction s + (1 - fraction) t`.

    The first leg, from `s` to `u`, has weight `1 - fraction`. Where `euler` is true both legs are
    Euler steps along the diagonal `V(x, s, s)`, which grounds a ladder of jumps. `encoding` is
    that of `(x_s, s, cond)`, where it is at hand.
    """
    u = fraction * s + (1 - fraction) * t
    ends = (u, t) if euler is None else (jnp.where(euler, s, u), jnp.where(euler, u, t))
    encoding = flow_map.encode(x_s, s, cond) if encoding is None else encoding
    first = flow_map.decode(encoding, ends[0])
    space = flow_map.path.space
    middle = space.exp(x_s, (u - s) * first)
    second = flow_map.average_velocity(middle, u, ends[1], cond)
    return space.mean(x_s, t - s, fraction, first, second)
