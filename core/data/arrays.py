"""Examples that a user saved with NumPy: whole files, and folders of shards."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Shaped

from core.data.checks import at_least, existing_file, one_of
from core.data.classes import classes_of
from core.data.dataset import Dataset, Source
from core.data.npy import (
    EXAMPLE_KEYS,
    LABEL_KEYS,
    NAME_KEYS,
    header_of,
    pick,
    read_arrays,
)
from core.data.parts import PARTS, Part, part_of
from core.data.reading import Kinds, Reading, Understood, Values, shape_of, understood
from core.data.scale import Scale
from core.data.shards import open_shards, sharded
from core.data.spaces import Angles, on_space, shape_in
from core.errors import UserError, require

_WHAT = "an .npz or .npy file of examples, or a folder of .npy shards"
_FLAG = "--data.num-classes"

Labelled = tuple[Shaped[np.ndarray, " n"] | None, tuple[str, ...]]


def from_arrays(
    x: Shaped[np.ndarray, " n *shape"],
    labels: Shaped[np.ndarray, " m"] | None = None,
    num_classes: int = 0,
    space: str = "",
) -> Dataset:
    """A data set of arrays in memory, of the types and shapes that `ArraysData` reads.

    With `space`, the points of "sphere", "torus" or "so3" that `core.data.spaces.on_space` reads.
    Raises `UserError` for values, types or shapes that do not fit.
    """
    if space:
        found = placed(np.asarray(x), space, "auto", Path("data"))
        given = None if labels is None else np.asarray(labels)
        numbers = labelled(given, len(found.x), num_classes, Path("labels"))
        return replace(data_of("arrays", found, numbers), space=space)
    found = understood(np.asarray(x), Reading(named=False), Path("data"))
    given = None if labels is None else np.asarray(labels)
    return data_of("arrays", found, labelled(given, len(found.x), num_classes, Path("labels")))


def placed(
    x: Shaped[np.ndarray, "n ..."], space: str, angles: str, where: Path | str
) -> Understood:
    """Rows of a file as points of a space that is not flat. Raises `UserError`."""
    points, notes = on_space(x, space, angles, where)
    return Understood(points, "points", None, Scale(), notes)


def labelled(
    labels: Shaped[np.ndarray, "..."] | None,
    n: int,
    num_classes: int,
    where: Path | str,
    flag: str = "",
    names: Shaped[np.ndarray, "..."] | None = None,
) -> Labelled:
    """Labels as numbers and the names of their classes; None and no names without labels."""
    if labels is None:
        return None, ()
    return classes_of(labels, n, num_classes, where, flag, names)


def data_of(
    name: str,
    found: Understood,
    labels: Labelled,
    flip: bool = False,
    source: Source | None = None,
) -> Dataset:
    """The data set of examples that are understood; those of a `source` stay where they are."""
    numbers, names = labels
    return Dataset(
        name=name,
        kind=found.kind,
        shape=found.x.shape[1:],
        examples=found.x,
        labels=numbers,
        num_classes=len(names),
        class_names=names,
        levels=found.levels,
        scale=found.scale,
        flip=flip,
        source=source,
        notes=found.notes + without_example(numbers, len(names)),
    )


def without_example(labels: Shaped[np.ndarray, " n"] | None, num_classes: int) -> tuple[str, ...]:
    """A line on the classes that have no example, of which the network learns nothing."""
    if labels is None:
        return ()
    counts = np.bincount(labels, minlength=num_classes)
    empty = np.flatnonzero(counts == 0)
    if not len(empty):
        return ()
    shown = ", ".join(map(str, empty[:4])) + (", ..." if len(empty) > 4 else "")
    what = "class has" if len(empty) == 1 else "classes have"
    return (f"{len(empty):,} {what} no example ({shown}), so nothing is learned of it",)


@dataclass(frozen=True)
class ArraysData:
    """Pictures, series or points from NumPy files: an `.npz`, an `.npy`, or a folder of shards.

    An `.npz` holds the examples as `images` or `x` and, if there are labels, `labels` or `y`, with
    `class_names` where these are numbers that have names. Examples are pictures, `(n, height,
    width)` or `(n, height, width, channels)`, series `(n, length, channels)` or points `(n, dim)`.
    """

    SHAPED_BY: ClassVar = ("path", "kind", "array", "space")
    """The flags that say the shape of an example."""

    path: str = ""
    """File of the examples, .npz or .npy; or a folder of .npy shards, which together may be larger
    than the memory, with the labels in labels.npy."""
    labels: str = ""
    """An .npy file of labels, one whole number or name an example; none if empty."""
    num_classes: int = 0
    """Number of classes; 0 means the highest label plus one, or as many as there are names."""
    kind: Kinds = "auto"
    """What the axes mean: points (n, dim), series (n, length, channels), image (n, height, width)
    with or without channels; auto takes 2, 3 and 4 axes for points, gray and other images."""
    values: Values = "auto"
    """Which values become which: signed as they are (images in [-1, 1]), unit from [0, 1], range
    from --data.range, standard to mean 0 and standard deviation 1 in each channel. auto is standard
    for series, and signed for other floats, where it refuses images without a negative value."""
    range: tuple[float, float] | None = None
    """LO HI: these values become -1 and 1; of --data.values range alone the lowest and highest."""
    flip: bool = False
    """Mirror pictures left to right, each time with probability 1/2, in training."""
    resident_mb: int = 2048
    """Megabytes of shards to keep in memory; if they need more, rows are read when they are due."""
    array: str = ""
    """Name of the examples within an .npz; images or x if empty."""
    space: str = ""
    """The space that points lie in, where it is not flat: sphere (unit vectors, or latitude and
    longitude in degrees), torus (angles), so3 (unit quaternions w x y z, or rotation matrices)."""
    angles: Angles = "auto"
    """What angles of a torus are in: degrees or radians; auto takes degrees where one is beyond a
    full turn in radians."""
    part: Part = "all"
    """The part of the examples, after a shuffle that never changes: train (the first 80 %),
    validation or test (10 % each), or all."""

    def peek(self) -> tuple[int, ...]:
        """The shape of one example, by the first file's header. Raises `UserError`."""
        file = Path(self.path).expanduser()
        try:
            if file.is_dir():
                file = open_shards(file)[0].files[0]
            header = header_of(file, self._names)
        except Exception as error:  # NumPy and zipfile raise nearly anything; `load` says which
            raise UserError(f"{file} has no header of an array ({type(error).__name__})") from None
        if self.space:
            return shape_in(self.space, header.shape[1:], file)
        return shape_of(header, Reading(self.kind, self.values, self.range), file)

    def held_out(self) -> "ArraysData | None":
        """The part to measure by, where these are the part to train on."""
        return replace(self, part="test") if self.part == "train" else None

    @property
    def _names(self) -> tuple[str, ...]:
        return (self.array,) if self.array else EXAMPLE_KEYS

    def load(self) -> Dataset:
        """Reads the files. Raises `UserError` for values, types or shapes that do not fit."""
        at_least(self.num_classes, 0, _FLAG)
        at_least(self.resident_mb, 0, "--data.resident-mb")
        reading = Reading(self.kind, self.values, self.range, self.flip)
        self._check_space()
        if self.path and Path(self.path).expanduser().is_dir():
            return self._load_shards(Path(self.path).expanduser(), reading)
        file = existing_file(self.path, _WHAT, "--data.path")
        arrays = read_arrays(file, (*self._names, *LABEL_KEYS, *NAME_KEYS))
        stored = pick(arrays, self._names, file)
        if stored is None:
            asked = f"{self.array} (--data.array)" if self.array else "images or x"
            raise UserError(f"{file}: no array named {asked}; save the examples under one")
        found = self._understood(stored, reading, file)
        inside = {key: value for key, value in arrays.items() if key not in ("", self.array)}
        numbers, names = self._labels(inside, len(found.x), file)
        rows = part_of(len(found.x), self.part)
        if self.part != "all":
            found = replace(found, x=found.x[rows])
            numbers = None if numbers is None else numbers[rows]
        return replace(data_of("arrays", found, (numbers, names), self.flip), space=self.space)

    def _understood(
        self, stored: Shaped[np.ndarray, "..."], reading: Reading, file: Path
    ) -> Understood:
        if self.space:
            return placed(stored, self.space, self.angles, file)
        return understood(stored, reading, file)

    def _check_space(self) -> None:
        one_of(self.part, PARTS, "--data.part")
        plain = Reading(flip=self.flip) == Reading(self.kind, self.values, self.range, self.flip)
        require(
            not self.space or (plain and not self.flip),
            f"--data.space {self.space} says what the numbers are: leave out --data.kind, "
            "--data.values, --data.range and --data.flip",
        )
        require(
            bool(self.space) or self.angles == "auto",
            f"--data.angles {self.angles} goes with --data.space torus",
        )

    def _load_shards(self, folder: Path, reading: Reading) -> Dataset:
        require(
            not self.space and not self.array and self.part == "all",
            f"{folder}: --data.space, --data.array and --data.part are for one file; give an .npz",
        )
        shards, beside = open_shards(folder)
        inside = {} if beside is None else read_arrays(beside)
        labels = self._labels(inside, len(shards), folder if beside is None else beside)
        if shards.size <= self.resident_mb * 2**20:
            found = understood(shards.read_all(), reading, folder)
            return data_of("arrays", found, labels, self.flip)
        found, source = sharded(shards, reading, folder)
        return data_of("arrays", found, labels, self.flip, source)

    def _labels(self, inside: Mapping[str, Shaped[np.ndarray, "..."]], n: int, file: Path):
        if self.labels:
            file = existing_file(self.labels, "an .npy file of labels", "--data.labels")
            inside = read_arrays(file)
        found = pick(inside, LABEL_KEYS, file)
        if found is None and self.labels:
            raise UserError(f"{file}: no array named labels or y; save the labels under one")
        return labelled(found, n, self.num_classes, file, _FLAG, inside.get(NAME_KEYS[0]))
