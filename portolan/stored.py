"""Models that lie in a folder."""

import abc
from pathlib import Path
from typing import Any, Self

from core.data.dataset import Dataset
from core.errors import UserError
from portolan.model import Model


class Stored(Model):
    """A model in a folder: a trained run, or a published network that was converted."""

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """The folder."""

    @property
    @abc.abstractmethod
    def step(self) -> int | None:
        """Training steps behind the weights; None where nobody says."""

    @property
    @abc.abstractmethod
    def net_flags(self) -> Any:
        """The flags of its network."""

    @abc.abstractmethod
    def with_attention(self, implementation: str) -> Self:
        """The same model, whose network computes attention so. Raises `UserError`."""

    @abc.abstractmethod
    def about(self) -> dict[str, Any]:
        """What it is, as plain values, for files beside its samples."""

    def play(self) -> Any:
        """A widget for notebooks that shows samples, with sliders for steps, guidance and the way
        from one noise to another; needs `pip install "portolan[notebook]"`."""
        from portolan.player.widget import play

        return play(self)

    @property
    def place(self) -> str:
        """The folder, with the step where there is one, for titles."""
        return str(self.folder) + ("" if self.step is None else f", step {self.step}")

    @property
    def attention(self) -> str | None:
        """How the network computes attention, where there is a choice."""
        chosen = getattr(self.net_flags, "attention", None)
        return chosen if isinstance(chosen, str) else None


def check_data(model: Model, data: Dataset) -> Dataset:
    """These data, to compare the model with. Raises `UserError` for data of another kind."""
    spec = model.spec
    if data.shape not in (spec.shape, spec.picture_shape):
        raise UserError(
            f"the data have examples of shape {data.shape}, and {model.name} makes such of "
            f"{spec.picture_shape}; name others with --data"
        )
    if data.num_classes and spec.num_classes and data.num_classes != spec.num_classes:
        raise UserError(
            f"the model has {spec.num_classes:,} classes, data {data.num_classes:,}; name others "
            "with --data"
        )
    return data
