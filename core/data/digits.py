"""The small handwritten digits that come with scikit-learn."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

from core.data.dataset import Dataset
from core.data.subset import of_classes


@dataclass(frozen=True)
class DigitsData:
    """1,797 handwritten digits, 8 x 8 x 1, 10 classes, inside scikit-learn: nothing to fetch.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998. Stored as bytes 0 to 16, which `decode` maps to [-1, 1] by `x/8 - 1`.
    """

    classes: tuple[str, ...] = ()
    """Only these classes, by name, in this order; of one alone there are no labels."""

    def load(self) -> Dataset:
        """Reads the digits from the installed scikit-learn. Raises `UserError` for a class that
        there is not."""
        table = _table()
        digits = Dataset(
            name="digits",
            kind="image",
            shape=(8, 8, 1),
            examples=table[:, :-1].astype(np.uint8).reshape(-1, 8, 8, 1),
            labels=table[:, -1].astype(np.int32),
            num_classes=10,
            class_names=tuple(str(k) for k in range(10)),
            levels=16,
        )
        return of_classes(digits, self.classes)


def _table() -> Float[np.ndarray, "n 65"]:
    """The pixels of each digit and its class, from the file of scikit-learn's `load_digits`.

    Importing scikit-learn takes a second, reading the file a twentieth of one.
    """
    found = find_spec("sklearn")
    if found is not None and found.origin is not None:
        file = Path(found.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if file.exists():
            return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    values, target = load_digits(return_X_y=True)
    return np.column_stack([np.asarray(values), np.asarray(target)])
