"""Guidance at sampling time, for maps that have not learned it."""

import equinox as eqx
from jaxtyping import Array, Float

from core.flow.condition import Condition
from core.flow.flow_map import FlowMap
from core.flow.path import Path
from core.flow.teacher import GuidedTeacher, MapTeacher


class ClassifierFree(FlowMap):
    """The velocity of a map with classifier-free guidance, two evaluations of the network.

    For samplers that follow the velocity. Jumps cannot be guided so: the mean of two average
    velocities over a long gap is not that of the guided flow. A condition's `(w, a, b)` says how
    much, and at which unit times. Source: arXiv 2207.12598, eq. 6.
    """

    flow_map: FlowMap
    path: Path
    null_label: int = eqx.field(static=True)

    def average_velocity(
        self,
        x: Float[Array, "*shape"],
        s: Float[Array, ""],
        t: Float[Array, ""],
        cond: Condition | None = None,
    ) -> Float[Array, "*shape"]:
        raise NotImplementedError("a guided velocity has no jumps: use a sampler that follows it")

    def velocity(
        self, x: Float[Array, "*shape"], t: Float[Array, ""], cond: Condition | None = None
    ) -> Float[Array, "*shape"]:
        teacher = GuidedTeacher(MapTeacher(self.flow_map), None, self.null_label)
        return teacher.velocity(x, t, cond)

    @property
    def evaluations(self) -> int:
        return 2
