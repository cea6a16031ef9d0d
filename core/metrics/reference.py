"""Files of reference statistics: those of others are read, ours are read and written."""

import contextlib
import hashlib
import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from core.data.npy import read_arrays
from core.errors import UserError, require
from core.files import whole
from core.metrics.frechet import Statistics

_PAIRS = (("mu", "sigma"), ("ref_mu", "ref_sigma"))
_TEXTS = ("features", "features_sha256", "resize", "rounding", "source")
_KEYS = (*(key for pair in _PAIRS for key in pair), "n", "sample", "feats", *_TEXTS)
PICTURES = "arr_0"
"""The name under which ADM's files keep reference pictures."""
_SYMMETRY = 1e-6
_MAKE = "make one with python -m apps.stats"


@dataclass(frozen=True, eq=False)
class ReferenceFile:
    """Statistics of reference data, from a file.

    **Fields:** `name` and `sha256` of the file; `statistics`, whose `n` is None where the file does
    not say it; the name of the `features` and the hash of their weights, `resize`, `rounding` and
    `source`, empty where they are not said; `sample`, some rows of features; `pictures`, how many
    reference pictures the file has, which `pictures_of` reads.
    """

    name: str
    sha256: str
    statistics: Statistics
    features: str = ""
    features_sha256: str = ""
    resize: str = ""
    rounding: str = ""
    source: str = ""
    sample: Float[np.ndarray, "rows dim"] | None = None
    pictures: int = 0


def read_reference(path: str | Path, flag: str = "--stats") -> ReferenceFile:
    """Reads an `.npz` with `mu` and `sigma` (EDM, ADM, clean-fid, pytorch-fid, `apps.stats`),
    `ref_mu` and `ref_sigma` (MeanFlow, iMF), or `feats` (clean-fid's file for the kernel distance).

    Nothing pickled is loaded. **Raises:** `UserError`, one line, for a file that is missing,
    damaged or of another kind, and for statistics that are none: other shapes, a `sigma` that is
    not symmetric to 1e-6 of its largest entry, numbers that are not finite, a negative variance.
    """
    file = Path(path).expanduser()
    require(file.is_file(), f"{file}: no such file; {flag} names an .npz of statistics: {_MAKE}")
    if file.suffix in (".pkl", ".pickle", ".pt", ".pth"):
        raise UserError(f"{file}: pickles are not loaded; write mu and sigma by numpy.savez")
    arrays = read_arrays(file, _KEYS)
    statistics, sample = _statistics(arrays, file), _rows(arrays, file)
    if sample is not None and sample.shape[1] != statistics.mean.size:
        raise UserError(
            f"{file}: rows of {sample.shape[1]:,} features beside a mu of "
            f"{statistics.mean.size:,}; {_MAKE}"
        )
    texts = {key: str(arrays[key]) for key in _TEXTS if key in arrays}
    return ReferenceFile(
        file.name, _sha256(file), statistics, sample=sample, pictures=_pictures(file), **texts
    )


def check_reference(found: ReferenceFile, features: str, features_sha256: str, dim: int) -> None:
    """Raises `UserError` where a file is of other features than those of the samples."""
    if found.statistics.mean.size != dim:
        raise UserError(
            f"{found.name} has {found.statistics.mean.size:,} features a row, and {features} have "
            f"{dim:,}; name the --features that it was made with"
            + (f" ({found.features})" if found.features else "")
        )
    named = found.features and found.features != features
    other = found.features_sha256 and found.features_sha256 != features_sha256
    if named or other:
        raise UserError(
            f"{found.name} was made with {found.features or 'other'} features"
            f"{_short(found.features_sha256)}, and these are {features}{_short(features_sha256)}; "
            "name the same --features, or make it again with apps.stats"
        )


def write_reference(
    path: str | Path,
    statistics: Statistics,
    texts: dict[str, str],
    sample: Float[np.ndarray, "rows dim"] | None = None,
) -> None:
    """Writes an `.npz` that `read_reference` and other packages read: `mu`, `sigma` in float64,
    `n`, the `texts` of `ReferenceFile`, and `sample` in float16, or in float32 where numbers are
    too large for it. Raises `OSError`."""
    arrays: dict[str, Any] = {"mu": statistics.mean, "sigma": statistics.cov, "n": statistics.n}
    arrays |= {key: np.array(texts.get(key, "")) for key in _TEXTS}
    if sample is not None:
        small = bool(np.abs(sample).max() < np.finfo(np.float16).max)
        arrays["sample"] = sample.astype(np.float16 if small else np.float32)
    with whole(path) as stream:
        np.savez(stream, allow_pickle=False, **arrays)


def pictures_of(path: str | Path, each: int) -> Iterator[UInt8[np.ndarray, " some *shape"]]:
    """The reference pictures of a file, `each` at a time, of which no more is in memory.

    Raises `UserError` where they are no bytes or the file is cut short.
    """
    file = Path(path).expanduser()
    with _opened(file) as stream:
        if stream is None:
            return
        shape = _picture_shape(stream, file)
        size = math.prod(shape[1:])
        for start in range(0, shape[0], each):
            count = min(each, shape[0] - start)
            held = stream.read(count * size)
            require(len(held) == count * size, f"{file}: {PICTURES} is cut short; copy it again")
            yield np.frombuffer(held, np.uint8).reshape(count, *shape[1:])


def _pictures(file: Path) -> int:
    with _opened(file) as stream:
        return 0 if stream is None else _picture_shape(stream, file)[0]


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The pictures of an archive as a stream, or None."""
    member = f"{PICTURES}.npy"
    with contextlib.ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
        except zipfile.BadZipFile:  # an .npy file
            yield None
            return
        yield stack.enter_context(archive.open(member)) if member in archive.namelist() else None


def _picture_shape(stream: Any, file: Path) -> tuple[int, ...]:
    try:
        version = np.lib.format.read_magic(stream)
        head = np.lib.format.read_array_header_1_0
        read = head if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, in_columns, dtype = read(stream)
    except ValueError:
        raise UserError(f"{file}: {PICTURES} is damaged; copy it again") from None
    good = dtype == np.uint8 and len(shape) == 4 and not in_columns and min(shape) > 0
    require(good, f"{file}: {PICTURES} is {dtype} {shape}, where bytes (n, h, w, c) are expected")
    return shape


def _statistics(arrays: dict[str, np.ndarray], file: Path) -> Statistics:
    for mean, cov in _PAIRS:
        if mean in arrays and cov in arrays:
            found = Statistics(
                _float64(arrays[mean], file), _float64(arrays[cov], file), _n(arrays)
            )
            _check(found, file)
            return found
    if "feats" in arrays:
        from core.metrics.frechet import statistics

        rows = _rows(arrays, file)
        require(rows is not None and len(rows) > 1, f"{file}: feats has no rows; {_MAKE}")
        return statistics(_float64(arrays["feats"], file))
    raise UserError(f"{file}: holds neither mu and sigma, nor ref_mu and ref_sigma; {_MAKE}")


def _check(found: Statistics, file: Path) -> None:
    mean, cov = found.mean, found.cov
    if mean.ndim != 1 or cov.shape != (mean.size, mean.size) or mean.size == 0:
        raise UserError(f"{file}: mu is {mean.shape} and sigma {cov.shape}, no mean and covariance")
    largest = float(np.abs(cov).max())
    if float(np.abs(cov - cov.T).max()) > _SYMMETRY * largest:
        raise UserError(f"{file}: sigma is not symmetric to 1e-6, so no covariance; {_MAKE}")
    if float(np.diag(cov).min()) < -_SYMMETRY * largest:
        raise UserError(f"{file}: sigma has a negative variance, so it is no covariance; {_MAKE}")


def _rows(arrays: dict[str, np.ndarray], file: Path) -> np.ndarray | None:
    rows = arrays.get("sample", arrays.get("feats"))
    if rows is None:
        return None
    require(rows.ndim == 2, f"{file}: rows of features are {rows.shape}, not (n, dim); {_MAKE}")
    return _float64(rows, file)


def _float64(values: np.ndarray, file: Path) -> np.ndarray:
    if not np.issubdtype(values.dtype, np.floating):
        raise UserError(f"{file}: statistics of type {values.dtype}, not of floats; {_MAKE}")
    found = values.astype(np.float64)
    require(bool(np.isfinite(found).all()), f"{file}: holds numbers that are not finite; {_MAKE}")
    return found


def _n(arrays: dict[str, np.ndarray]) -> int | None:
    n = arrays.get("n")
    if n is None or n.size != 1 or not np.issubdtype(n.dtype, np.integer):
        return None
    return int(n)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _short(sha256: str) -> str:
    return f" ({sha256[:8]})" if sha256 else ""
