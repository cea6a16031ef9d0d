"""What an exported sampler starts from: normal numbers in flat space, else points of the noise."""

from typing import NamedTuple

from core.errors import UserError
from core.flow.interpolant import Interpolant
from core.flow.path import Path
from core.flow.rotations import SO3
from core.flow.sphere import Sphere
from core.flow.torus import Torus


class Noise(NamedTuple):
    """The input of a draw in words, and the NumPy that makes it, where `{shape}` stands for the
    shape of all inputs."""

    meaning: str
    code: str


_NORMAL = Noise("independent standard normal numbers", "rng.standard_normal(({shape}), np.float32)")
_UNIT = Noise(
    "independent vectors of unit length, uniformly distributed",
    "(lambda z: z / np.linalg.norm(z, axis=-1, keepdims=True))("
    "rng.standard_normal(({shape}), np.float32))",
)
_ANGLES = Noise(
    "independent angles, uniformly distributed between -pi and pi",
    "rng.uniform(-np.pi, np.pi, ({shape})).astype(np.float32)",
)


def noise_of(path: Interpolant) -> Noise:
    """The noise of a path. Raises `UserError` for a space that it is not known of."""
    if isinstance(path, Path):
        return _NORMAL
    for kind, noise in ((Sphere, _UNIT), (SO3, _UNIT), (Torus, _ANGLES)):
        if isinstance(path.space, kind):
            return noise
    raise UserError(
        f"a sampler in {path.space.name} cannot be exported, since a program outside does not know "
        "its noise; draw its samples with apps.sample"
    )
