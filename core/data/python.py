"""Examples that a function of the user's makes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from core.data.arrays import data_of, labelled
from core.data.checks import at_least
from core.data.dataset import Dataset
from core.data.reading import Kinds, Reading, Values, understood
from core.data.spec import RANKS
from core.errors import UserError, require
from core.trust import load_function, words

MARK = "python:"
_FLAG = "--data.num-classes"


@dataclass(frozen=True)
class PythonData:
    """The result of a function of yours, without arguments: `--data python:MODULE:FUNCTION`.

    It returns an array of examples, `(examples, labels)`, or a `core.data.dataset.Dataset`. Arrays
    are understood as those of `--data arrays`. A run that was trained on it opens and samples
    without the module; what needs the data again, such as `apps.eval`, runs the function only where
    the command line names it too or says `--trust`.
    """

    SHAPED_BY: ClassVar = ("function", "kind")
    """The flags that say the shape of an example."""

    function: str = ""
    """python:MODULE:FUNCTION, of a module on the PYTHONPATH."""
    num_classes: int = 0
    """Number of classes; 0 means the highest label plus one, or as many as there are names."""
    kind: Kinds = "auto"
    """What the axes mean: points, series or image, as of --data arrays."""
    values: Values = "auto"
    """Which values become which: signed, unit, range or standard, as of --data arrays."""
    range: tuple[float, float] | None = None
    """LO HI: these values become -1 and 1."""
    flip: bool = False
    """Mirror pictures left to right, each time with probability 1/2, in training."""

    def peek(self) -> tuple[int, ...]:
        """The shape of one example. Calls the function, once in a process. Raises `UserError`."""
        return self.load().shape

    def load(self) -> Dataset:
        """Calls the function, once in a process. Raises `UserError` for one that does not run, and
        for a result that is none."""
        at_least(self.num_classes, 0, _FLAG)
        reading = Reading(self.kind, self.values, self.range, self.flip)
        named = self.function.startswith(MARK) and self.function.count(":") == 2
        require(
            named,
            f"--data.function {self.function or '(none)'}: say --data python:MODULE:FUNCTION",
        )
        name = self.function.removeprefix(MARK)
        found = _called(load_function(name), name)
        if isinstance(found, Dataset):
            return self._checked(found, reading)
        x, labels = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        read = understood(_array(x, name), reading, name)
        given = None if labels is None else _array(labels, name)
        numbers = labelled(given, len(read.x), self.num_classes, name, _FLAG)
        return data_of("python", read, numbers, self.flip)

    def _checked(self, data: Dataset, reading: Reading) -> Dataset:
        name = self.function
        require(
            (reading, self.num_classes) == (Reading(flip=self.flip), 0),
            f"{name} returns a Dataset, which says its kind, values and classes itself; leave out "
            "--data.kind, --data.values, --data.range and --data.num-classes",
        )
        shape = data.shape[:1] if data.kind == "tokens" else data.shape
        fits = data.examples.shape[1:] == shape and len(data.shape) == RANKS.get(data.kind)
        require(
            fits and len(data) > 0,
            f"{name} returns {len(data)} examples of shape {data.examples.shape[1:]} as "
            f"{data.kind} of shape {data.shape}; make them agree",
        )
        labels = data.labels
        if labels is not None and (len(labels) != len(data) or labels.max() >= data.num_classes):
            raise UserError(
                f"{name}: {len(labels)} labels up to {labels.max()} for {len(data)} examples of "
                f"{data.num_classes} classes; make them agree"
            )
        return replace(data, name="python", flip=self.flip or data.flip)


@functools.lru_cache(maxsize=1)
def _called(function: Callable[[], Any], name: str) -> Any:
    try:
        return function()
    except UserError:
        raise
    except Exception as error:  # what the function raises is the user's
        raise UserError(f"{name} raised {words(error, function)}") from error


def _array(values: Any, name: str) -> np.ndarray:
    try:
        found = np.asarray(values)
    except Exception as error:  # ragged lists, arrays of other libraries
        raise UserError(f"{name} returns what is no array: {words(error, None)}") from None
    if found.ndim == 0 or found.dtype == object:
        raise UserError(
            f"{name} returns {type(values).__name__}; return an array of examples, (examples, "
            "labels), or a Dataset"
        )
    return found
