"""Which class is meant, and labels of samples in the shares of the data."""

import difflib

import numpy as np
from jaxtyping import Int

from core.data.spec import DataSpec
from core.errors import UserError


def class_number(spec: DataSpec, asked: str | int, owner: str = "this run") -> int:
    """The number of a class that is asked for by its name or its number; a name comes first.

    Raises `UserError`, which names `owner`, for a class that there is not.
    """
    text, classes = str(asked), spec.num_classes
    if isinstance(asked, str) and text in spec.class_names:
        return spec.class_names.index(text)
    if text.lstrip("-").isdigit() and 0 <= int(text) < classes:
        return int(text)
    if not classes:
        raise UserError(f"--label {text}: {owner} has no classes")
    known = f"{owner} has classes 0 to {classes - 1}"
    if any(name != str(k) for k, name in enumerate(spec.class_names)):
        shown = ", ".join(spec.class_names[:6]) + (", ..." if classes > 6 else "")
        known += f" by the names {shown}"
    near = difflib.get_close_matches(text, spec.class_names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"--label {text}: {known}{hint}")


def labels_in_shares(spec: DataSpec, n: int) -> Int[np.ndarray, " n"]:
    """`n` labels, every class in its share of the data as nearly as `n` allows.

    In the order in which seats are given to parties by their votes: example `j` of class `k` comes
    at `(j + 1/2) / share_k` (A. Sainte-Lague, 1910), so that the first labels are those of any `n`,
    and equal shares take turns. Where the shares are not known, the classes have equal ones.
    """
    counts = np.array(spec.class_counts or (1,) * spec.num_classes, float)
    seats = np.minimum(np.ceil(n * counts / counts.sum()).astype(int) + 1, n) * (counts > 0)
    label = np.repeat(np.arange(len(counts)), seats)
    rank = np.arange(len(label)) - np.repeat(np.cumsum(seats) - seats, seats)
    place = (2 * rank + 1) / counts[label]
    return label[np.lexsort((label, place))][:n].astype(np.int32)
