"""A flow map of the user's own as a model."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped

from core.data.arrays import from_arrays
from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.steering.adapter import Proposal
from portolan.model import Abilities, Model


@dataclass(frozen=True, eq=False)
class Map(Model):
    """A flow map that was not trained here, to be sampled, measured and steered.

    **Fields:** `flow_map`; `shape` of one sample: `(dim,)` for points, `(height, width, channels)`
    for images in [-1, 1]. `num_classes`, for maps that take labels, and `all_classes`, whether the
    label `num_classes` stands for all together. `sampler`, the name of the one that it was made
    for: "euler" for a map of which only the velocity means something. `data` and `labels`, arrays
    to measure against.
    """

    flow_map: FlowMap
    shape: tuple[int, ...]
    num_classes: int = 0
    all_classes: bool = False
    sampler: str = "pushforward"
    data: Shaped[np.ndarray, " n *shape"] | None = None
    labels: Shaped[np.ndarray, " n"] | None = None
    name: str = "this map"

    @property
    def spec(self) -> DataSpec:
        kind = "image" if len(self.shape) == 3 else "points"
        names = tuple(str(k) for k in range(self.num_classes))
        return DataSpec(self.name, kind, tuple(self.shape), self.num_classes, names)

    @property
    def abilities(self) -> Abilities:
        return Abilities(all_classes=self.all_classes)

    @property
    def title(self) -> str:
        return self.name

    def dataset(self) -> Dataset:
        if self.data is None:
            raise UserError("this map came without data: Map(flow_map, shape, data=array)")
        return from_arrays(self.data, self.labels, self.num_classes)

    def proposal(self) -> Proposal | None:
        return None
