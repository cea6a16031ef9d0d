"""Some classes of a labelled data set."""

import dataclasses

import numpy as np

from core.data.dataset import Dataset
from core.errors import UserError, pick


def of_classes(dataset: Dataset, names: tuple[str, ...], flag: str = "--data.classes") -> Dataset:
    """The examples of these classes in their old order, the classes numbered as they are named.

    Of one class alone the examples have no labels. Without names it is the data set as it is. For
    resident data. Raises `UserError` for a class that there is not, or that is named twice.
    """
    if not names:
        return dataset
    assert dataset.labels is not None and dataset.resident
    known = {name: k for k, name in enumerate(dataset.class_names)}
    chosen = [pick(known, name, f"class of {dataset.name}") for name in names]
    if len(set(chosen)) < len(chosen):
        raise UserError(f"{flag} {' '.join(names)}: names a class twice; name each once")
    kept = np.isin(dataset.labels, chosen)
    place = np.zeros(dataset.num_classes, np.int32)
    place[chosen] = np.arange(len(chosen))
    one = len(chosen) == 1
    return dataclasses.replace(
        dataset,
        examples=dataset.examples[kept],
        labels=None if one else place[dataset.labels[kept]],
        num_classes=0 if one else len(chosen),
        class_names=() if one else tuple(names),
    )
