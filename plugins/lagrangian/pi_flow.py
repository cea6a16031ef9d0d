"""pi-Flow: one evaluation gives a policy, and the policy imitates the teacher where it leads.

    x_u = the policy's own ODE from x_s at time s to u,      pi = policy(x_s, s)
    L   = E |pi(x_u, u) - v_teacher(sg[x_u], u)|^2,          u between s and t

The Lagrangian rule along a whole jump: the map moves with `pi`, in closed form, so no derivative
is taken. The way there is a number, of the current map: mistakes are corrected where they lead.
"""

import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float

from core.errors import require
from core.flow.flow_map import FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.path import gaussian
from core.flow.policy import Policy, of_policy, visited
from core.flow.policy_head import MixtureMap
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.methods.row_plugin import RowPlugin
from core.objectives.carriers import Carrier, Declares
from core.objectives.objective import Players, Residuals, Term
from core.objectives.row import Row

stop = jax.lax.stop_gradient


class Imitation(Term):
    """`pi(x_u, u) - v_teacher(x_u, u)` at `states` times between `s` and `t`, drawn evenly in unit
    time, a residual each.

    `substeps` steps of the policy's ODE lead to the last of them. Source: pi-Flow (arXiv
    2510.14974), algorithm 1, without the teacher's own steps in between.
    """

    teacher: Teacher
    states: int = 2
    substeps: int = 16

    @property
    def declares(self) -> Declares:
        at_states = (Carrier("pi(x_u, u)", self._at_source),) * self.states
        return Declares(at_states, ("teacher", "current"))

    @staticmethod
    def _at_source(model: FlowMap, row: Row) -> Float[Array, "*shape"]:
        return of_policy(model).policy(row.x_s, row.s, row.cond).velocity(row.x_s, row.s)

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Residuals:
        del target
        policy = of_policy(model).policy(row.x_s, row.s, row.cond)
        return self._apart(policy, stop(policy), row)

    def declared(self, live: Players, fixed: Players, target: Players, row: Row) -> Residuals:
        del target
        now, then = (
            of_policy(one["model"]).policy(row.x_s, row.s, row.cond) for one in (live, fixed)
        )
        return self._apart(now, then, row)

    def _apart(self, policy: Policy, leading: Policy, row: Row) -> Residuals:
        """How far a policy is from the teacher on the way of one that leads."""
        drawn = jnp.sort(jr.uniform(row.key, (self.states,), row.s.dtype))
        units = row.unit.s + drawn * (row.unit.t - row.unit.s)
        times = jax.vmap(leading.path.time_of_unit)(units)
        steps = -(-self.substeps // self.states)
        x = visited(leading, row.x_s, row.s, times, steps)
        v = jax.vmap(lambda x, u: self.teacher.velocity(x, u, row.cond))(x, times)
        return tuple(jax.vmap(policy.velocity)(x, times) - v)


@register
class PiFlow(RowPlugin):
    """pi-Flow (arXiv 2510.14974): few steps from a teacher, each the ODE of a mixture of Gaussians.

    Slow beside a small network: the mixture of each position is evaluated at every substep.
    """

    card = Card(
        "pi-flow",
        rule="Lagrangian, of a policy",
        supervision="teacher",
        source="arXiv 2510.14974",
        cost=5,
        whole_cost=5,
        parameterisation="Gaussian mixture of x_0",
        gradient="pi(x_u, u)",
        targets="teacher, current",
        family="Lagrangian",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.138, 0.139, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.3, 0.158, "recipes-digits"),
    )  # fmt: skip
    needs_teacher = True
    any_times = True
    policies = True

    full: float = 0.25
    uniform: float = by_kind(0.25, points=0.75)
    power: float = 0.5
    components: int = 8
    """Gaussians of a mixture; each position has one mixture, of all its channels."""
    std: float = 0.0
    """Standard deviation of every component over that of the noise in the state; 0: learned."""
    substeps: int = 16
    """Steps of the policy's ODE in a jump of any length, without the network."""
    states: int = 2
    """States on the way of a jump at which the policy is held against the teacher."""

    def __post_init__(self):
        super().__post_init__()
        for name in ("components", "substeps", "states"):
            value = getattr(self, name)
            require(value >= 1, f"--plugin.{name} must be at least 1, got {value}")
        require(0 <= self.std < float("inf"), f"--plugin.std must be 0 or more, got {self.std}")
        require(self.form == "average", "a policy's network is a velocity: leave out --plugin.form")

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        sizes = {"components": self.components, "substeps": self.substeps, "std": self.std}
        return MixtureMap.around(net, gaussian(path), **sizes)

    def jump(self, teacher: Teacher) -> Term:
        return Imitation(teacher, self.states, self.substeps)
