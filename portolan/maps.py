"""A flow map of the user's own as a model."""

import copy

import numpy as np
from jaxtyping import Shaped

from core.data.arrays import from_arrays
from core.data.dataset import Dataset
from core.data.spec import KINDS, DataSpec
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.steering.adapter import Proposal
from portolan.model import Abilities, Model


class Map(Model):
    """A flow map that was not trained here, to be sampled, measured and steered.

    **Arguments:**

    - `shape` of one sample: `(dim,)` for points, `(length, channels)` for series, `(height, width,
      channels)` for images in [-1, 1].
    - `num_classes`, for maps that take labels; `all_classes`, whether the label `num_classes`
      stands for all together.
    - `sampler`, the name of the one that it was made for: "euler" for a map of which only the
      velocity means something.
    - `most_nfe`, the evaluations beyond which sampling means nothing: 1 for a map that starts at
      noise only.
    - `data` and `labels`, arrays to measure against.
    """

    def __init__(
        self,
        flow_map: FlowMap,
        shape: tuple[int, ...],
        *,
        num_classes: int = 0,
        all_classes: bool = False,
        sampler: str = "pushforward",
        most_nfe: int | None = None,
        data: Shaped[np.ndarray, " n *shape"] | None = None,
        labels: Shaped[np.ndarray, " m"] | None = None,
        name: str = "this map",
    ):
        kind = KINDS.get(len(shape))
        if kind is None:
            raise UserError(f"shape {shape} is none of points, series or images: 1 to 3 axes")
        classes = tuple(str(k) for k in range(num_classes))
        self._flow_map, self._sampler, self._name = flow_map, sampler, name
        self._spec = DataSpec(name, kind, tuple(shape), num_classes, classes)
        self._abilities = Abilities(most_nfe, all_classes)
        self._data = None if data is None else from_arrays(data, labels, num_classes)

    @property
    def flow_map(self) -> FlowMap:
        return self._flow_map

    @property
    def spec(self) -> DataSpec:
        return self._spec

    @property
    def sampler(self) -> str:
        return self._sampler

    @property
    def abilities(self) -> Abilities:
        return self._abilities

    @property
    def name(self) -> str:
        return self._name

    @property
    def title(self) -> str:
        return self._name

    def dataset(self) -> Dataset:
        if self._data is None:
            raise UserError("this map came without data: Map(flow_map, shape, data=array)")
        return self._data

    def proposal(self) -> Proposal | None:
        return None

    def with_map(self, flow_map: FlowMap) -> "Map":
        found = copy.copy(self)
        found._flow_map = flow_map
        return found
