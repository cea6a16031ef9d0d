"""The jump of this family: the Eulerian identity with the map's own velocity in the tangent.

    W = V(x_s, s, t) - (t - s) sg[dV/ds + grad V . sg V(x_s, s, s)],      R = W - v

`W` is a function of `x_s` and of the condition, and the pair's velocity `v` enters linearly. So the
minimiser is right for any distribution of `x_0 | x_s`: one that is weighted by a reward, or
conditioned on a state. Source of the form: improved MeanFlow (arXiv 2512.02012), eqs. 11-13.
"""

import jax
from jaxtyping import Array, Float

from core.flow import rules
from core.flow.flow_map import FlowMap
from core.objectives.objective import Term
from core.objectives.row import Row

stop = jax.lax.stop_gradient


class OwnTangentJump(Term):
    """`V - (t - s) sg[dV_ds] - v`, the derivative along the map's own velocity."""

    def __call__(self, model: FlowMap, target: FlowMap, row: Row) -> Float[Array, "*shape"]:
        del target
        tangent = stop(model.velocity(row.x_s, row.s, row.cond))
        V, dV_ds = rules.eulerian(model, row.x_s, row.s, row.t, tangent, row.cond)
        return V - (row.t - row.s) * stop(dV_ds) - row.v
