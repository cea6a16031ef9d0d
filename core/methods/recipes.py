"""Recipes: how a method is trained on a kind of data, and the figures that were measured so."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.methods.presets import KINDS, Kind

Setting = float | int | str


@dataclass(frozen=True)
class Recipe:
    """How a method is trained on data of a kind, kept with the method as a row of its `recipes`.

    **Fields:**

    - `kind`: that of the data: "points", "small-image" or "image".
    - `data`, `steps`: the data set and the length of training of the figures.
    - `one`, `four`: the figure at 1 and at 4 evaluations, the mean over seeds: W2 of points, the
      Fréchet distance of images. None where nobody measured it.
    - `source`: the file in `docs/results` that has them.
    - `flags`: settings of training that differ from those of all methods, `{"optim.rate": 1e-4}`;
      `core.train.recipe` takes them. The method's own flags have their defaults by `by_kind`.

    Raises `ValueError` for a flag of the method, or of the network or the data.
    """

    kind: Kind
    data: str
    steps: int
    one: float | None = None
    four: float | None = None
    source: str = ""
    flags: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self):
        for flag in self.flags:
            if not (flag.startswith("optim.") or flag in ("ema", "batch", "steps")):
                raise ValueError(f"a recipe sets optim.*, ema, batch and steps, not {flag}")
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind} is no kind of recipes: {', '.join(KINDS)}")
        if (self.one is None and self.four is None) != (not self.source):
            raise ValueError("a figure needs its source, and a source is of a figure")
