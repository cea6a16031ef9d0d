"""Drifting: a one-step generator, trained until attraction and repulsion of its samples balance.

    x = F(z, 1, 0),   L = sum_keys E |f(x) / c - sg[f(x) / c + sum_tau V_tau / rms(V_tau)]|^2

There is no time and no trajectory: the map is used from noise to data only, and which noise becomes
which sample is up to it. `V` is the field of `field.py` between features `f`, by default the values
themselves.
"""

from dataclasses import replace
from typing import Any, Self

from jaxtyping import Array, Key

from core.errors import require
from core.flow.flow_map import AverageVelocityMap, FlowMap, Network
from core.flow.interpolant import Interpolant
from core.flow.teacher import Teacher
from core.methods.card import Card
from core.methods.plugin import Method, Plugin, Task
from core.methods.presets import by_kind
from core.methods.recipes import Recipe
from core.methods.registry import register
from core.train.features import open_perception
from plugins.drifting.field import FieldKernel
from plugins.drifting.objective import (
    MOST_UNCONDITIONAL,
    DriftObjective,
    Guidance,
    Sizes,
)


@register
class Drift(Plugin):
    """Drifting models (Deng et al., 2026): one step from noise, no teacher, no time."""

    card = Card(
        "drift",
        rule="none (a field between distributions)",
        supervision="data",
        source="Deng et al., 2026",
        cost=3,
        whole_cost=3,
        parameterisation="F(z, 1, 0)",
        gradient="F(z, 1, 0)",
    )
    recipes = (
        Recipe("points", "checkerboard", 3000, 0.154, None, "recipes-checkerboard"),
        Recipe("small-image", "digits", 2300, 0.93, None, "recipes-digits"),
    )  # fmt: skip
    most_nfe = 1

    temperatures: tuple[float, ...] = (0.02, 0.05, 0.2)
    """Ranges of the kernel, in units of the mean distance; a field for each."""
    rows: bool = True
    """Normalise the kernel over all points that act on a sample."""
    columns: bool = True
    """Normalise the kernel over the samples that a target acts on."""
    features: str = "identity"
    """Features in which samples are compared: identity (the values themselves), a run folder of
    apps.features, or a trained network: efficientnet-lite0, inception=FILE, dinov2=FILE."""
    group: int = by_kind(32, points=64)
    """Samples of one class that are compared with one another; without labels the whole batch."""
    positives: int = by_kind(64, points=512, small_image=128)
    """Examples that attract a group, drawn from the queue of its class."""
    queue: int = by_kind(128, points=2048)
    """Examples kept of each class."""
    guidance: float = 1.0
    """Guidance scale that the samples are trained for, by mixing data of all classes into the
    negatives; 1 is none. Needs labels."""
    kappa: float | None = None
    """Draw the scale for each group, with density scale^-kappa between 1 and --plugin.guidance, and
    make it an input of the network: then it is chosen at sampling."""
    unconditional: int = 32
    """Examples of all classes that repel a group, with guidance."""

    def __post_init__(self):
        positive = bool(self.temperatures) and min(self.temperatures) > 0
        require(positive, f"--plugin.temperatures must be positive, got {self.temperatures}")
        require(self.guidance >= 1, f"--plugin.guidance must be at least 1, got {self.guidance}")
        require(self.group >= 2, f"--plugin.group must be at least 2, got {self.group}")
        enough = 1 <= self.positives <= self.queue
        require(enough, "--plugin.positives must be at least 1, and at most --plugin.queue")
        few = 1 <= self.unconditional <= MOST_UNCONDITIONAL
        require(few, f"--plugin.unconditional goes from 1 to {MOST_UNCONDITIONAL}")
        idle = self.kappa is not None and self.guidance == 1
        require(not idle, "--plugin.kappa draws scales up to --plugin.guidance: set that above 1")

    def net_flags(self, flags: Any) -> Any:
        if self.kappa is None or flags.takes_guidance:
            return flags
        return replace(flags, guidance=True)

    @classmethod
    def variants(cls) -> dict[str, Self]:
        points = cls.preset("points")
        return {
            "": points,
            "no-columns": replace(points, columns=False),
            "plain-kernel": replace(points, rows=False, columns=False),
        }

    def method(
        self,
        net: Network,
        path: Interpolant,
        teacher: Teacher | None,
        task: Task,
        *,
        key: Key[Array, ""],
    ) -> Method:
        del teacher, key
        labelled = task.num_classes > 0
        require(self.guidance == 1 or labelled, "--plugin.guidance needs data with labels")
        takes = self.kappa is None or net.takes_guidance
        require(takes, "--plugin.kappa needs a scale as input: --net.guidance")
        objective = DriftObjective(
            path,
            task.shape,
            task.num_classes,
            FieldKernel(self.temperatures, self.rows, self.columns),
            Sizes(self.group, self.positives, self.unconditional, self.queue),
            Guidance(self.guidance, self.kappa),
            open_perception(self.features, task.shape),
        )
        return Method(self.flow_map(net, path), objective)

    def flow_map(self, net: Network, path: Interpolant) -> FlowMap:
        return AverageVelocityMap(net=net, path=path)
