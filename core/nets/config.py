"""The interface of a network's flags: how the network is built from them."""

import abc
from typing import Self

from jaxtyping import Array, Key

from core.errors import UserError
from core.flow.network import Network
from core.overriding import overridable


class NetworkConfig(abc.ABC):
    """Flags of a network, a frozen dataclass: its fields become `--net.*`."""

    def check_sizes(self, **bounds: float) -> None:
        """Raises `UserError` where a field is below the bound given by its name, or holds such a
        number."""
        for name, least in bounds.items():
            value = getattr(self, name)
            if min(value if isinstance(value, tuple) else (value,), default=least) < least:
                flag = f"--net.{name.replace('_', '-')}"
                raise UserError(f"{flag} must be at least {least}, got {value}")

    def check_dropout(self, rate: float) -> None:
        """Raises `UserError` for a share outside of [0, 1)."""
        if not 0 <= rate < 1:
            raise UserError(f"--net.dropout must be in [0, 1), got {rate:g}")

    @abc.abstractmethod
    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> Network:
        """The network for examples of `shape`; 0 classes are none. Raises `UserError` for a shape
        that it is not for."""

    @property
    @overridable
    def takes_guidance(self) -> bool:
        """Whether the network takes guidance `(w, a, b)` as an input."""
        return False

    @overridable
    def as_student(self, predicts: str) -> Self:
        """The flags of a flow map's network that begins as a trained one of these flags, whose
        output is what `predicts` says (`core.nets.later_inputs`): with a second time, where it has
        one. Raises `UserError` where that cannot be."""
        del predicts
        return self
