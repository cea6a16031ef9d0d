"""What is to be measured of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.flow.field import VelocityField
from core.sampling import Drawing


@dataclass(frozen=True)
class Asked:
    """What is to be measured, and by what.

    **Fields:** `drawings` of `field` by the name of their sampler; `n` samples a row, 0 for as many
    as the data; `features`, none for those that suit the data; `stats`, files of reference
    statistics in the place of the data; `classifier`, a run folder that judges classes;
    `allow_few`, whether to take Frechet distances in a network's features of fewer samples than
    features; `store`, a folder for samples on disk, or None; `keep`, whether they lie there however
    few they are; `start`, a file of examples that samples start from, or None.
    """

    field: VelocityField
    drawings: Mapping[str, Sequence[Drawing]]
    n: int = 0
    features: tuple[str, ...] = ()
    stats: tuple[str, ...] = ()
    classifier: str | None = None
    allow_few: bool = False
    seed: int = 0
    store: Path | None = None
    keep: bool = False
    start: str | None = None
