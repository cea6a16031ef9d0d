"""The record of one cell of a comparison: a method trained with one seed, and its figures."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from core.errors import UserError

FILE = "cell.json"


@dataclass(frozen=True)
class Cell:
    """One finished run of a comparison, as its `cell.json` has it.

    **Fields:**

    - `plugin` (the method, or the name of a variant), `family`, `sampler`, `seed`: the
      training and the sampling.
    - `config`: the settings of the run, as nested plain values; `shared`: those that all cells
      of a comparison have in common.
    - `kind`, `n`, `features`: kind of the data, samples a row, features of the distances.
    - `steps`, `batch`, `parameters`; `seconds` of training, compilation left out; `flops` of one
      step as the compiler counts them, None where it does not; `loop` whether that count takes
      the body of a loop once.
    - `teacher`: None, or the teacher's `run`, and its training `samples` and total `flops` (None
      where unknown).
    - `nfe`: the numbers of evaluations asked for; `rows` the metrics at those that the sampler can
      use; `reference` the same metrics between two sets of real data.
    - `versions`: of the software that trained it, the device, and the date.
    """

    plugin: str
    family: str
    sampler: str
    seed: int
    config: dict[str, Any]
    shared: dict[str, Any]
    kind: str
    n: int
    features: str
    steps: int
    batch: int
    parameters: int
    seconds: float
    flops: float | None
    loop: bool
    teacher: dict[str, Any] | None
    nfe: list[int]
    rows: list[dict[str, Any]]
    reference: dict[str, Any]
    versions: dict[str, str]

    @property
    def samples(self) -> int:
        """Training examples used."""
        return self.steps * self.batch

    @property
    def total_flops(self) -> float | None:
        """Operations of the whole training, the teacher's left out."""
        return None if self.flops is None else self.flops * self.steps

    def to_json(self) -> dict[str, Any]:
        """All fields, and the two that follow from them."""
        return {**asdict(self), "samples": self.samples, "total_flops": self.total_flops}


def read_cell(folder: Path) -> Cell | None:
    """The cell of a folder, or None where it has not finished. Raises `UserError` if damaged."""
    path = folder / FILE
    try:
        found = json.loads(path.read_text("utf-8"))
        return Cell(**{item.name: found[item.name] for item in fields(Cell)})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged ({type(error).__name__}); move it away to have it trained again"
        ) from None


def cells_in(folder: Path) -> list[Cell]:
    """All finished cells under a comparison's folder, by method and seed; the teacher is none."""
    folders = (path.parent for path in folder.glob(f"*/{FILE}") if path.parent.name != "teacher")
    cells = [cell for each in folders if (cell := read_cell(each)) is not None]
    return sorted(cells, key=lambda cell: (cell.plugin, cell.seed))
