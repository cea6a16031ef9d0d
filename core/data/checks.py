"""Checks that every reader of a user's files makes; each failure is a one-line error."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, Int32, Shaped

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


def fits_memory(size: int, file: Path) -> None:
    """Raises `UserError` for a file that asks for more bytes than the machine has."""
    try:
        most = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return
    if size > most:
        raise UserError(
            f"{file}: says that it holds {size / 2**30:,.0f} GiB, and this machine has "
            f"{most / 2**30:,.0f} GiB of memory; the file is damaged, or give a part of it"
        )


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
            f"({int(bad.sum())} of {len(values)} examples do); fix them, or leave them out"
        )
    return values


def class_labels(
    labels: Shaped[np.ndarray, "..."],
    n: int,
    num_classes: int,
    where: Path | str,
    flag: str = "",
) -> Int32[np.ndarray, " n"]:
    """`labels` as int32, if there are `n` whole numbers in `[0, num_classes)`.

    `num_classes = 0` takes the highest label for the last class, and refuses labels that are nearly
    always a mistake; `flag` is then the flag that overrides. Raises `UserError` otherwise.
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
    if not num_classes:
        _numbered_from_zero(labels, where, flag)
    return labels.astype(np.int32)


def _numbered_from_zero(labels: Int[np.ndarray, " n"], where: Path | str, flag: str) -> None:
    """Raises `UserError` where the labels are nearly always a mistake: none is 0, or most of the
    classes that they stand for have no example."""
    found = np.unique(labels)
    classes = int(found[-1]) + 1
    if found[0] == 0 and 2 * len(found) >= classes:
        return
    first = ", ".join(str(label) for label in found[:4]) + (", ..." if len(found) > 4 else "")
    raise UserError(
        f"{where}: {len(found)} different labels ({first}) would be {classes:,} classes, 0 to "
        f"{classes - 1}, of which {classes - len(found):,} have no example; number them from 0 by "
        "labels = numpy.unique(labels, return_inverse=True)[1]"
        f"{f', or say that there are so many with {flag} {classes}' if flag else ''}"
    )
