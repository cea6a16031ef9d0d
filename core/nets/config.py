"""The interface of a network's flags: how the network is built from them."""

import abc

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

    @abc.abstractmethod
    def build(self, shape: tuple[int, ...], num_classes: int, *, key: Key[Array, ""]) -> Network:
        """The network for examples of `shape`; 0 classes are none. Raises `UserError` for a shape
        that it is not for."""

    @property
    @overridable
    def takes_guidance(self) -> bool:
        """Whether the network takes guidance `(w, a, b)` as an input."""
        return False
