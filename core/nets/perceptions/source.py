"""The weights of a network of another program, each taken once, by name."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from core.errors import UserError
from core.tensors import LazyTensor


class Source:
    """Hands out the tensors of a file by name, in float64, and knows which were taken."""

    def __init__(self, tensors: Mapping[str, LazyTensor], name: str):
        self.tensors, self.name = tensors, name
        self.left = set(tensors)

    def has(self, key: str) -> bool:
        """Whether there is such a tensor."""
        return key in self.tensors

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of a tensor. Raises `UserError` where there is none."""
        if key not in self.tensors:
            some = ", ".join(list(self.tensors)[:5])
            raise UserError(f"{self.name} has no tensor {key}; it has {some} ...: another network")
        return tuple(self.tensors[key].shape)

    def take(self, key: str, shape: tuple[int, ...]) -> Float[np.ndarray, "..."]:
        """A tensor. Raises `UserError` unless it is there and has this shape."""
        found = self.shape(key)
        if found != tuple(shape):
            raise UserError(f"{self.name}: {key} is {found}, the network needs {tuple(shape)}")
        self.left.discard(key)
        return np.asarray(self.tensors[key]).astype(np.float64)

    def finish(self, *unused: str) -> None:
        """Raises `UserError` where tensors are left whose names end with none of `unused`."""
        left = sorted(key for key in self.left if not key.endswith(unused))
        if left:
            some = ", ".join(left[:5]) + (" ..." if len(left) > 5 else "")
            raise UserError(f"{self.name} has tensors that the network does not know: {some}")
