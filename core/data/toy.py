"""Points in the plane, drawn once: sets on which a sampler's faults are visible."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32

from core.data.checks import at_least
from core.data.dataset import Dataset

EIGHT_RADIUS = 2.0
"""Distance of the centres of the eight Gaussians from the origin."""

EIGHT_STD = 0.2
"""Standard deviation of each of the eight Gaussians, in each coordinate."""

CURVE_STD = 0.1
"""Standard deviation of the noise around the two moons and the spiral, in each coordinate."""


def eight_centres() -> Float[np.ndarray, "8 2"]:
    """Centres of the eight equally likely Gaussians: `EIGHT_RADIUS (cos(k pi/4), sin(k pi/4))`."""
    angle = np.arange(8) * np.pi / 4
    return EIGHT_RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _generator(n: int, seed: int) -> np.random.Generator:
    at_least(n, 1, "--data.n")
    return np.random.default_rng(at_least(seed, 0, "--data.seed"))


def _points(
    name: str,
    x: Float[np.ndarray, "n 2"],
    labels: Int32[np.ndarray, " n"] | None = None,
    num_classes: int = 0,
) -> Dataset:
    return Dataset(
        name=name,
        kind="points",
        shape=(2,),
        examples=x.astype(np.float32),
        labels=labels,
        num_classes=num_classes,
        class_names=tuple(str(k) for k in range(num_classes)),
    )


@dataclass(frozen=True)
class CheckerboardData:
    """The dark unit squares of a 4 x 4 board.

    Uniform where `floor(x) + floor(y)` is even, inside `[-2, 2]^2`; standard deviation
    `2 / sqrt(3) = 1.15` in each coordinate.
    """

    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        row = rng.integers(0, 4, self.n)
        column = 2 * rng.integers(0, 2, self.n) + row % 2
        corner = np.stack([column, row], axis=1) - 2
        inside = rng.random((self.n, 2), dtype=np.float32)
        inside = np.clip(inside, 2.0**-16, 1 - 2.0**-16)  # no rounding into the next square
        return _points("checkerboard", corner + inside)


@dataclass(frozen=True)
class EightGaussiansData:
    """Eight equally likely Gaussians on a circle.

    Centres `eight_centres()`, on the radius `EIGHT_RADIUS = 2` from angle 0 on, each of standard
    deviation `EIGHT_STD = 0.2`; the whole has standard deviation 1.43 in each coordinate.
    """

    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""
    labelled: bool = False
    """Give each point the number of its Gaussian (0 to 7) as its label."""

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        which = rng.integers(0, 8, self.n)
        x = eight_centres()[which] + EIGHT_STD * rng.standard_normal((self.n, 2))
        if self.labelled:
            return _points("eight-gaussians", x, which.astype(np.int32), 8)
        return _points("eight-gaussians", x)


@dataclass(frozen=True)
class TwoMoonsData:
    """Two half circles of radius `sqrt(2)` that reach into each other.

    The upper `sqrt(2) (cos a - 1/2, sin a - 1/4)`, with `a` uniform in `[0, pi]`, or its reflection
    in the origin, equally likely, blurred by `CURVE_STD = 0.1`; standard deviation 1.23 in x, 0.71
    in y.
    """

    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        angle = np.pi * rng.random(self.n)
        sign = np.where(rng.random(self.n) < 0.5, -1.0, 1.0)
        upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], axis=1)
        noise = CURVE_STD * rng.standard_normal((self.n, 2))
        return _points("two-moons", np.sqrt(2) * sign[:, None] * upper + noise)


@dataclass(frozen=True)
class SpiralData:
    """Two turns of a spiral whose radius grows by 1 a turn.

    `r (cos(2 pi r), sin(2 pi r))` with `r = 2 sqrt(u)`, `u` uniform in `[0, 1]`, blurred by
    `CURVE_STD = 0.1`; mean `(1 / (2 pi^2), -1 / pi)`, standard deviation 1.01 in x, 0.94 in y.
    """

    n: int = 65_536
    """Number of points, drawn once."""
    seed: int = 0
    """Seed of the points."""

    def load(self) -> Dataset:
        """Draws the points. Raises `UserError` for `n < 1` or a negative seed."""
        rng = _generator(self.n, self.seed)
        radius = 2 * np.sqrt(rng.random(self.n))
        angle = 2 * np.pi * radius
        curve = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return _points("spiral", curve + CURVE_STD * rng.standard_normal((self.n, 2)))
