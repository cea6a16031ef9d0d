"""What a run keeps of its data, and whether the data are still those."""

import dataclasses
import hashlib

import numpy as np

from core.data.dataset import Dataset
from core.data.spaces import words
from core.data.spec import DataSpec

MOST_BYTES = 2**26
"""The fingerprint is taken of evenly spaced examples that together have at most so many bytes."""
FEWEST = 16
"""Examples that the fingerprint is taken of at least, where there are so many."""


def recorded(dataset: Dataset) -> DataSpec:
    """The description of a data set with its fingerprint."""
    return dataclasses.replace(dataset.spec, fingerprint=fingerprint(dataset))


def fingerprint(dataset: Dataset) -> str:
    """16 hexadecimal digits that depend on the number, the values and the labels of the examples.

    Of more than 64 MiB of examples some are left out, at even distances, so that it takes a tenth
    of a second; of examples on disk 16 at least are read.
    """
    count = len(dataset)
    each = max(int(np.prod(dataset.shape)) * (1 if dataset.levels else 4), 1)
    taken = min(count, max(MOST_BYTES // each, FEWEST)) if dataset.resident else min(count, FEWEST)
    values = dataset.take(np.linspace(0, count - 1, taken).astype(int))
    found = hashlib.blake2b(digest_size=8)
    found.update(f"{count} {values.dtype} {dataset.shape} {dataset.levels}".encode())
    found.update(np.ascontiguousarray(values).data)
    if dataset.labels is not None:
        found.update(np.ascontiguousarray(dataset.labels).data)
    return found.hexdigest()


def conflict(then: DataSpec, now: DataSpec) -> str | None:
    """Why a network of the data `then` cannot serve the data `now`, or None where it can.

    It cannot where an example has another shape, where there are other classes, or where a class
    has the number of another one.
    """
    if (then.kind, then.shape) != (now.kind, now.shape):
        return f"{_examples(now)} now, {_examples(then)} then"
    if then.space != now.space:
        return f"points of {words(now.space)} now, of {words(then.space)} then"
    if then.vocabulary != now.vocabulary:
        return f"symbols {_symbols(now)} now, {_symbols(then)} then"
    if then.codec.sha256 != now.codec.sha256:
        return f"latents of {_codec(now)} now, of {_codec(then)} then"
    if then.num_classes != now.num_classes:
        return f"{_classes(now)} now, {then.num_classes} then{_both(then, now)}"
    pairs = enumerate(zip(then.class_names, now.class_names))
    other = [(k, old, new) for k, (old, new) in pairs if old != new]
    if other:
        k, old, new = other[0]
        return f"class {k} is {new!r} now and was {old!r} then, so that labels would be swapped"
    return None


def change(then: DataSpec, now: DataSpec) -> str | None:
    """What is another in the data `now` than in the data `then`, where both serve one network; None
    where nothing is, or where `then` was not kept."""
    if then.count and then.count != now.count:
        return f"{now.count:,} examples now, {then.count:,} then"
    if then.class_counts and then.class_counts != now.class_counts:
        k = int(np.argmax(np.not_equal(then.class_counts, now.class_counts)))
        old, new = then.class_counts[k], now.class_counts[k]
        return f"{new:,} examples of class {_name(now, k)} now, {old:,} then"
    if then.fingerprint and now.fingerprint and then.fingerprint != now.fingerprint:
        return f"{now.count:,} examples as then, but their values or labels are others"
    if then.scale != now.scale:
        return "other values become -1 and 1, or mean 0 and standard deviation 1"
    return None


def _codec(spec: DataSpec) -> str:
    codec = spec.codec
    return f"the codec {codec.path} ({codec.sha256[:8]})" if codec else "no codec"


def _examples(spec: DataSpec) -> str:
    return f"{'images' if spec.kind == 'image' else spec.kind} of shape {spec.shape}"


def _symbols(spec: DataSpec) -> str:
    return repr("".join(spec.vocabulary)[:40])


def _classes(spec: DataSpec) -> str:
    return f"{spec.num_classes or 'no'} {'class' if spec.num_classes == 1 else 'classes'}"


def _both(then: DataSpec, now: DataSpec) -> str:
    """The names that are only on one side, a few of them."""
    parts = []
    for word, one, other in (("new", now, then), ("missing", then, now)):
        names = [name for name in one.class_names if name not in other.class_names]
        if names:
            parts.append(f"{word}: {', '.join(names[:3])}{', ...' if names[3:] else ''}")
    return f" ({'; '.join(parts)})" if parts else ""


def _name(spec: DataSpec, k: int) -> str:
    return spec.class_names[k] if k < len(spec.class_names) else str(k)
