"""The result of steering."""

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped

from core.data.dataset import Dataset
from core.data.spec import DataSpec
from core.report.gallery import draw_blocks
from core.steering.steering import Steered
from portolan.pictures import Picture, Strings, drawn
from portolan.results import Table


@dataclass(frozen=True, eq=False, repr=False)
class Tilted:
    """Weighted samples of a tilted distribution, beside the prior that was tilted.

    **Fields:** `steered`, all particles and the estimates of their islands; `prior`, samples
    without the tilt, in network values; `strength`, lambda; `table`, both in figures. A notebook
    shows the table.
    """

    steered: Steered
    prior: Float[np.ndarray, " m *shape"]
    strength: float
    table: Table
    spec: DataSpec
    beside: Dataset | None = None

    @property
    def x(self) -> Shaped[np.ndarray, " n *shape"]:
        """All particles, in the units of the data; they count by `weights`."""
        return self.spec.restore(self.steered.x)

    @property
    def weights(self) -> Float[np.ndarray, " n"]:
        """The weights of the particles; their sum is 1."""
        return self.steered.weights

    @property
    def log_z(self) -> float:
        """The estimate of log Z, for methods that estimate it (see `table`)."""
        return self.steered.log_z

    @property
    def log_z_error(self) -> float:
        """Its standard error; NaN where there are too few islands to say."""
        return self.steered.log_z_error

    def draw(self, n: int = 16, *, seed: int = 0) -> Shaped[np.ndarray, " n *shape"]:
        """Samples that count alike, by resampling: some may be equal."""
        return self.spec.restore(self.steered.draw(n, seed))

    def mean(self, values: Float[np.ndarray, " n ..."]) -> np.ndarray:
        """The weighted mean of a value of each particle."""
        return self.steered.mean(values)

    def show(self, n: int | None = None, *, seed: int = 0) -> Picture | Strings:
        """The prior's samples above those of the tilted distribution; points side by side.

        `n` of each, by default 20 images or 2,000 points.
        """
        n = n or (2000 if self.spec.kind == "points" else 20)
        blocks = [self.prior[:n], self.steered.draw(n, seed)]
        names = [str(row["method"]) for row in self.table]
        spec = dataclasses.replace(self.spec, num_classes=0)  # columns are no classes here
        return drawn(
            lambda path: draw_blocks(spec, blocks, path, self.table.title, names, self.beside)
        )

    def __repr__(self) -> str:
        return repr(self.table)

    def _repr_html_(self) -> str:
        return self.table._repr_html_()
