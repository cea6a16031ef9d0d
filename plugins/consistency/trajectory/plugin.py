"""Flags and assembly, shared by distilled and self-taught consistency trajectory models.

    L = E |F_ema(F(x_s, s, t), t, 0) - sg[F_ema(F(x_u, u, t), t, 0)]|^2
        + lambda_DM E |V(x_s, s, s) - v|^2 - lambda_GAN E D(F_ema(F(x_s, s, t), t, 0))

`x_u` lies a segment below `x_s`, `t <= u <= s`. Without adversarial term, adaptive weights and the
like it is a plain `RowObjective`.
"""

import abc
import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from jaxtyping import Array, Key

from core.errors import UserError, require
from core.flow.flow_map import EndpointMap, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.network import DenoisedNetwork
from core.flow.path import gaussian
from core.flow.teacher import Teacher
from core.methods.plugin import Method, Task
from core.methods.presets import by_kind
from core.methods.row_plugin import RowPlugin
from core.nets.discriminator import discriminator
from core.objectives.objective import FlowMatching, RowKind, Term
from core.objectives.perceptual import perceived
from core.objectives.rows import RowObjective
from core.times.distributions import MixedDistribution, TimeDistribution, Uniform
from core.train.features import open_perception
from plugins.consistency.trajectory.denoising import Denoising
from plugins.consistency.trajectory.jump import TrajectoryJump
from plugins.consistency.trajectory.loss import Combined
from plugins.consistency.trajectory.segment import Segment

FLOOR = 2e-3
"""Least time of the endpoint's diagonal rows: its velocity divides by sigma."""


@dataclass(frozen=True)
class TrajectoryPlugin(RowPlugin):
    """Jumps to any time, compared with a segment and a jump; denoising on the diagonal."""

    guidable = False
    least: ClassVar[float] = 0.0
    """Least adaptive weight of the denoising loss."""

    form: Literal["average", "rotation", "endpoint"] = "average"  # pyright: ignore
    """The network's output: the average velocity V, the rotation of Simple-EDM and TrigFlow, or the
    endpoint g behind EDM's preconditioning, which is CTM's own."""
    data_std: float = by_kind(0.5, points=1.0, small_image=0.75)
    """Standard deviation of the data, for the endpoint and for --plugin.edm-weight."""
    substeps: int = 1
    """Solver steps of a segment."""
    reach: float = 0.25
    """Longest segment in unit time."""
    target_decay: float = 0.999
    """Decay of the EMA through which both ends are compared; 0 for the current parameters."""
    edm_weight: bool = False
    """Weight the denoising loss as EDM and CTM do, instead of evenly in the velocity."""
    denoising: float = 1.0
    """Factor of the denoising loss; with --plugin.adaptive of its adaptive weight."""
    gan: float = 0.0
    """Factor of the adversarial loss; 0: no discriminator is trained."""
    gan_start: float = 0.3
    """Fraction of the training after which the adversarial part begins."""
    gan_penalty: float = 0.0
    """Weight of the squared gradient of the discriminator at real examples (R1)."""
    adaptive: bool = False
    """Multiply both factors by ratios of gradient norms at the network's last layer."""
    gan_features: bool = False
    """Compare the ends in the discriminator's features too."""
    features: str = "identity"
    """Features in which both ends are compared, as LPIPS does: efficientnet-lite0, inception=FILE,
    dinov2=FILE, or a run folder of apps.features; identity compares the values."""
    values: float = 0.0
    """Factor of the distance of the values themselves, where there are features."""

    @abc.abstractmethod
    def segment(self, teacher: Any) -> Segment:
        """How the state at the intermediate time is found."""

    def jump(self, teacher: Any) -> Term:
        return TrajectoryJump(self.segment(teacher), self.reach)

    def diagonal_term(self, teacher: Any) -> Term:
        del teacher  # denoising needs the data alone, also where segments are the teacher's
        return Denoising(self.data_std) if self.edm_weight else FlowMatching()

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        combined = bool(self.gan or self.adaptive or self.denoising != 1)
        require(
            self.features == "identity" or not combined,
            "--plugin.features is of the plain loss: leave out --plugin.gan, --plugin.adaptive and "
            "--plugin.denoising",
        )
        made = super().method(net, path, teacher, task, key=key)
        if self.gan_features and not self.gan:
            raise UserError("--plugin.gan-features needs a discriminator: --plugin.gan 1")
        if not combined:
            return made
        if self.learned_weight:
            raise UserError("a learned weight and factors of the parts exclude each other")
        if self.adaptive and net.last_weight is None:
            raise UserError("--plugin.adaptive needs a network with a last_weight: use --net dit")
        if not 0 < self.diagonal < 1:
            raise UserError("a weighted loss needs rows of both kinds: 0 < --plugin.diagonal < 1")
        assert isinstance(made.objective, RowObjective)
        objective = Combined(
            made.objective, self.denoising, self.gan, self.adaptive, self.gan_start,
            self.gan_penalty, self.gan_features, self.least,
        )  # fmt: skip
        network = discriminator(task.shape, task.num_classes, key=key)
        players = {"discriminator": network} if self.gan else {}
        return dataclasses.replace(made, objective=objective, players=players)

    def kinds(self, teacher: Any, task: Task) -> tuple[RowKind, ...]:
        perception = open_perception(self.features, task.shape)
        return perceived(super().kinds(teacher, task), perception, self.values)

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        if self.form != "endpoint":
            return super().flow_map(net, path)
        return EndpointMap(
            net=DenoisedNetwork(net=net, path=gaussian(path), data_std=self.data_std),
            path=gaussian(path),
        )

    def diagonal_distribution(self) -> TimeDistribution:
        if self.form != "endpoint":
            return super().diagonal_distribution()
        return MixedDistribution(
            (Uniform(FLOOR), self.distribution()), (self.uniform, 1 - self.uniform)
        )

    @classmethod
    def whole(cls):
        return cls(diagonal=0.0)

    def target_parameters(self, task: Task) -> dict[str, Any]:
        del task
        return {"target_decay": self.target_decay or None}
