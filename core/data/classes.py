"""The classes of labelled examples: numbers from 0, or names."""

from pathlib import Path

import numpy as np
from jaxtyping import Int32, Shaped

from core.data.checks import class_labels
from core.errors import UserError


def classes_of(
    labels: Shaped[np.ndarray, "..."],
    n: int,
    num_classes: int,
    where: Path | str,
    flag: str = "",
    names: Shaped[np.ndarray, "..."] | None = None,
) -> tuple[Int32[np.ndarray, " n"], tuple[str, ...]]:
    """Labels as numbers, and one name a class.

    Labels that are texts are the names themselves: the classes are numbered in the order of the
    alphabet. Numbers have the `names` that are given, or are their own names; `num_classes = 0`
    counts as many classes as there are names or as the highest label says. Raises `UserError` as
    `core.data.checks.class_labels`, and for names that do not fit.
    """
    if labels.dtype.kind in "US":
        if labels.ndim == 1 and len(labels) != n:
            raise UserError(f"{where}: {len(labels)} labels for {n} examples; give one label each")
        if labels.ndim != 1:
            raise UserError(f"{where}: labels of shape {labels.shape}; give one name an example")
        found, numbers = np.unique(_texts(labels, where), return_inverse=True)
        if num_classes not in (0, len(found)):
            raise UserError(
                f"{where}: {len(found)} different names and {num_classes} classes; leave out the "
                "number of classes where labels are names"
            )
        return numbers.astype(np.int32), tuple(str(name) for name in found)
    given = () if names is None else _names(names, where)
    if given and num_classes not in (0, len(given)):
        raise UserError(f"{where}: {len(given)} class_names for {num_classes} classes; name each")
    numbers = class_labels(labels, n, num_classes or len(given), where, flag)
    count = num_classes or len(given) or int(numbers.max()) + 1
    return numbers, given or tuple(str(k) for k in range(count))


def _names(names: Shaped[np.ndarray, "..."], where: Path | str) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "US":
        raise UserError(
            f"{where}: class_names of shape {names.shape} and type {names.dtype}; give one text a "
            "class"
        )
    found = tuple(str(name) for name in _texts(names, where))
    if len(set(found)) < len(found):
        twice = next(name for name in found if found.count(name) > 1)
        raise UserError(f"{where}: class_names has {twice!r} twice; give each class its own")
    return found


def _texts(labels: Shaped[np.ndarray, " n"], where: Path | str) -> Shaped[np.ndarray, " n"]:
    """Texts of Unicode or of bytes as texts without surrounding space."""
    try:
        texts = np.char.decode(labels, "utf-8") if labels.dtype.kind == "S" else labels
    except UnicodeDecodeError:
        raise UserError(f"{where}: labels of bytes that are no UTF-8; write them as text") from None
    texts = np.char.strip(texts)
    if (texts == "").any():
        raise UserError(
            f"{where}: the label of example {int((texts == '').argmax())} is empty; name its class"
        )
    return texts
