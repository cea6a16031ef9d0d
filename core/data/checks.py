"""Checks that every reader of a user's files makes; each failure is a one-line error."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int32, Shaped

from core.errors import UserError

MOST_CLASSES = 1_000_000
"""Labels from here on are taken for a mistake where the number of classes is not given."""


def existing_folder(path: str, what: str) -> Path:
    """The folder `path`; `what` describes the files that it should hold.

    Raises `UserError` if `path` is empty, missing, not a folder, or a folder without entries.
    """
    if not path:
        raise UserError(f"no folder given; name the folder of {what} with --data.path DIR")
    folder = Path(path).expanduser()
    if not folder.exists():
        raise UserError(f"{folder}: no such folder; name the folder of {what} with --data.path DIR")
    if not folder.is_dir():
        raise UserError(f"{folder}: not a folder; name the folder of {what} with --data.path DIR")
    if not any(folder.iterdir()):
        raise UserError(f"{folder}: the folder is empty; it should hold {what}")
    return folder


def existing_file(path: str, what: str, flag: str) -> Path:
    """The file `path`, which the flag `flag` names. Raises `UserError` if it is not a file."""
    if not path:
        raise UserError(f"no file given; name {what} with {flag} FILE")
    file = Path(path).expanduser()
    if not file.exists():
        raise UserError(f"{file}: no such file; name {what} with {flag} FILE")
    if not file.is_file():
        raise UserError(f"{file}: not a file; name {what} with {flag} FILE")
    return file


def one_of(value: str, options: Sequence[str], flag: str) -> str:
    """`value`, if it is among `options`; otherwise a `UserError` that lists them."""
    if value not in options:
        raise UserError(f"{flag} {value}: unknown; choose one of {', '.join(options)}")
    return value


def at_least(value: int, lowest: int, flag: str) -> int:
    """`value`, if it is not below `lowest`; otherwise a `UserError`."""
    if value < lowest:
        raise UserError(f"{flag} {value}: too small; give {lowest} or more")
    return value


def all_finite(
    values: Float[np.ndarray, " n *shape"], where: Path | str
) -> Float[np.ndarray, " n *shape"]:
    """`values`, if none is NaN or infinite; the `UserError` says which example is the first bad."""
    bad = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if bad.any():
        raise UserError(
            f"{where}: example {int(bad.argmax())} holds NaN or infinity "
            f"({int(bad.sum())} of {len(values)} examples do); remove or fix them"
        )
    return values


def class_labels(
    labels: Shaped[np.ndarray, "..."], n: int, num_classes: int, where: Path | str
) -> Int32[np.ndarray, " n"]:
    """`labels` as int32, if there are `n` whole numbers in `[0, num_classes)`.

    `num_classes = 0` allows any label below `MOST_CLASSES`. Raises `UserError` otherwise.
    """
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise UserError(
            f"{where}: labels of shape {labels.shape} and type {labels.dtype}; "
            f"give one whole number an example"
        )
    if len(labels) != n:
        raise UserError(f"{where}: {len(labels)} labels for {n} examples; give one label each")
    limit = num_classes or MOST_CLASSES
    bad = (labels < 0) | (labels >= limit)
    if bad.any():
        first = int(bad.argmax())
        raise UserError(
            f"{where}: label {labels[first]} of example {first} is outside 0..{limit - 1}; "
            f"correct the labels or the number of classes"
        )
    return labels.astype(np.int32)
