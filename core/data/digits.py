"""The small handwritten digits that come with scikit-learn."""

from dataclasses import dataclass

import numpy as np

from core.data.dataset import Dataset


@dataclass(frozen=True)
class DigitsData:
    """1,797 handwritten digits, 8 x 8 x 1, 10 classes, inside scikit-learn: nothing to fetch.

    Source: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
    Learning Repository, 1998. Stored as bytes 0 to 16, which `decode` maps to [-1, 1] by `x/8 - 1`.
    """

    def load(self) -> Dataset:
        """Reads the digits from the installed scikit-learn."""
        from sklearn.datasets import load_digits

        values, target = load_digits(return_X_y=True)
        return Dataset(
            name="digits",
            kind="image",
            shape=(8, 8, 1),
            examples=np.asarray(values).astype(np.uint8).reshape(-1, 8, 8, 1),
            labels=np.asarray(target).astype(np.int32),
            num_classes=10,
            class_names=tuple(str(k) for k in range(10)),
            levels=16,
        )
