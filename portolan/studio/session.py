"""The runs that are open. A page names them by number, never by their folders."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from core.data.dataset import Dataset
from core.errors import UserError, require
from core.models import is_model
from core.train.source import check_run
from portolan.runs import open as open_run
from portolan.stored import Stored

BESIDE = 2000
"""Examples of the data that are shown beside samples, at most."""


class Unknown(UserError):
    """There is no run of this number."""


@dataclass(eq=False)
class Opened:
    """One run. Its model is opened when it is first asked for; a run in progress has none before
    its first checkpoint.

    **Fields:** `number` and `name` on the page; `kept`, what jobs keep for the next request, as
    long as the model is the same.
    """

    number: int
    name: str
    folder: Path
    kept: dict[Any, Any] = field(default_factory=dict)

    @cached_property
    def model(self) -> Stored:
        """The model. Raises `UserError` where it does not open (yet)."""
        return open_run(self.folder)

    def reload(self) -> None:
        """Forgets the model, so that the newest checkpoint is opened next."""
        self.__dict__.pop("model", None)
        self.kept.clear()

    def dataset(self) -> Dataset:
        """The data of the model. Raises `UserError` where they are not at hand."""
        if "data" not in self.kept:
            self.kept["data"] = self.model.dataset()
        return self.kept["data"]

    def examples(
        self, n: int, seed: int = 0, label: int | None = None
    ) -> Float[np.ndarray, " m *shape"]:
        """Some examples of the data as network values, the same for a seed; of one class where
        there is a `label`. Raises `UserError`, also where the data have none of that class."""
        key = ("examples", n, seed, label)
        if key not in self.kept:
            dataset = self.dataset()
            order = np.random.default_rng(seed).permutation(len(dataset))
            if label is not None:
                labels = np.full(len(dataset), -1) if dataset.labels is None else dataset.labels
                order = order[np.asarray(labels)[order] == label]
                require(len(order) > 0, f"the data of {self.name} have no examples of this class")
            self.kept[key] = np.asarray(dataset.decode(dataset.take(order[:n])))
        return self.kept[key]


@dataclass(frozen=True, eq=False)
class Session:
    """All runs of a server."""

    runs: tuple[Opened, ...]

    def run(self, number: int) -> Opened:
        """The run of that number. Raises `Unknown`."""
        if not 0 <= number < len(self.runs):
            raise Unknown(f"there is no run {number}; there are {len(self.runs)}")
        return self.runs[number]


def session_of(folders: Sequence[str | Path]) -> Session:
    """The session of these run or model folders. Raises `UserError` where one is no such."""
    places = [Path(folder) for folder in folders]
    require(len(places) > 0, "name a run: --run DIR")
    for place in places:
        if not is_model(place):
            check_run(place)
    names = [place.resolve().name for place in places]
    long = ["/".join(place.resolve().parts[-2:]) for place in places]
    return Session(
        tuple(
            Opened(k, name if names.count(name) == 1 else long[k], places[k])
            for k, name in enumerate(names)
        )
    )
