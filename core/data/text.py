"""Texts: windows of a file, its lines, or codes that somebody else made."""

import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Integer, Shaped

from core.data.checks import at_least, existing_file, one_of
from core.data.dataset import Dataset
from core.data.npy import pick, read_arrays
from core.data.vocabulary import (
    END,
    Symbols,
    characters,
    in_bytes,
    in_pieces,
    read_text,
    smallest,
)
from core.errors import UserError, require

Held = Literal["test", "valid"]
_WHAT = "a text (.txt, .txt.gz) or an .npz of codes"
CODE_KEYS = ("codes", "x")
MOST_SYMBOLS = 2**16
"""Symbols at most: an example of L positions is L times as many numbers."""


@dataclass(frozen=True)
class TextData:
    """Text as symbols: windows of a UTF-8 file, its lines, or an `.npz` of codes.

    The first 90 % of the text are for training, the last 5 % are held out for metrics, or the 5 %
    before; lines and rows of codes are shuffled first, in an order of their number alone. An `.npz`
    holds whole numbers `codes` or `x` of shape `(n, length)` and, if they are known, what they
    stand for, `vocabulary`, and the symbol `end` that fills rows up. Samples are strings.
    """

    path: str = ""
    """File of the text, .txt or .txt.gz in UTF-8; or an .npz of codes (n, length)."""
    length: int = 64
    """Symbols of an example; of lines those of the longest that is taken, with the end."""
    vocabulary: str = "characters"
    """What a symbol is: characters, bytes, or a tokenizer.json of the tokenizers library."""
    unit: Literal["window", "line"] = "window"
    """window: pieces of --data.length of the running text; line: each line is an example, and what
    is left of its length is filled with an end symbol. Longer lines are left out."""
    stride: int = 0
    """Symbols from one window to the next in training; 0: a quarter of the length."""
    held: Held = "test"
    """The part that is held out for metrics: test, the last 5 %, or valid, the 5 % before."""

    def load(self) -> Dataset:
        """Reads the file, once in a process while it stays as it is. Raises `UserError` for one
        that does not fit."""
        return _loaded(self, stamp(self.path))


def stamp(path: str) -> tuple[int, int]:
    """The time and size of a file, by which a changed one is noticed; zeros where there is none."""
    try:
        found = Path(path).expanduser().stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4)
def _loaded(flags: TextData, when: tuple[int, int]) -> Dataset:
    del when
    at_least(flags.length, 1, "--data.length")
    at_least(flags.stride, 0, "--data.stride")
    one_of(flags.held, ("test", "valid"), "--data.held")
    one_of(flags.unit, ("window", "line"), "--data.unit")
    file = existing_file(flags.path, _WHAT, "--data.path")
    if file.suffix in (".npz", ".npy"):
        codes, names, end = _stored_codes(file)
        return _of_rows(Symbols(codes, names), end, flags, file)
    text = read_text(file)
    if flags.unit == "line":
        return _lines(text, flags, file)
    found = symbols_of(text, flags.vocabulary)
    parts = [part_of(found.codes, split) for split in ("train", flags.held)]
    require(
        len(parts[0]) >= flags.length,
        f"{file}: {len(parts[0]):,} symbols to train on, fewer than --data.length {flags.length}",
    )
    strides = flags.stride or max(flags.length // 4, 1), flags.length
    rows, held = (
        replace(found, codes=windows(part, flags.length, stride))
        for part, stride in zip(parts, strides)
    )
    return tokens("text", rows, held=held)


def windows(
    codes: Integer[np.ndarray, " n"], length: int, stride: int
) -> Integer[np.ndarray, "m length"]:
    """Pieces of a text, each `stride` symbols after the one before; none of a text too short."""
    if len(codes) < length:
        return codes[:0].reshape(0, length)
    found = np.lib.stride_tricks.sliding_window_view(codes, length)
    return np.ascontiguousarray(found[::stride])


def symbols_of(text: str, vocabulary: str) -> Symbols:
    """A text in symbols. Raises `UserError` for a vocabulary that does not open."""
    kinds = {"characters": characters, "bytes": in_bytes}
    found = kinds[vocabulary](text) if vocabulary in kinds else in_pieces(text, vocabulary)
    require(
        2 <= len(found.names) <= MOST_SYMBOLS,
        f"{len(found.names):,} different symbols, where it takes 2 to {MOST_SYMBOLS:,}; choose "
        "another --data.vocabulary",
    )
    return found


def tokens(
    name: str,
    rows: Symbols,
    end: str = "",
    notes: tuple[str, ...] = (),
    held: Symbols | None = None,
) -> Dataset:
    """The data set of examples, (n, length) codes of `rows.names`; `held` are those that are held
    out, of the same names."""
    n = len(rows.names)
    found = Dataset(
        name=name,
        kind="tokens",
        shape=(rows.codes.shape[1], n),
        examples=smallest(rows.codes, n),
        vocabulary=rows.names,
        end=end,
        utf8=rows.utf8,
        notes=notes,
    )
    if held is None or not len(held.codes):
        return found
    return replace(found, held=replace(found, examples=smallest(held.codes, n), notes=()))


def part_of(rows: Shaped[np.ndarray, " n *rest"], split: str) -> Shaped[np.ndarray, " m *rest"]:
    """The first 90 % (train), the next (valid) or the last (test) 5 %."""
    first, second = int(0.9 * len(rows)), int(0.95 * len(rows))
    return {"train": rows[:first], "valid": rows[first:second], "test": rows[second:]}[split]


def _of_rows(
    rows: Symbols, end: str, flags: TextData, file: Path, notes: tuple[str, ...] = ()
) -> Dataset:
    """The data set of rows of codes, which are shuffled in an order of their number alone."""
    order = np.random.default_rng(0).permutation(len(rows.codes))
    parts = [part_of(rows.codes[order], split) for split in ("train", flags.held)]
    require(len(parts[0]) > 0, f"{file}: {len(order)} examples, of which 90 % are none")
    first, held = (replace(rows, codes=part) for part in parts)
    return tokens("text", first, end, notes, held)


def _lines(text: str, flags: TextData, file: Path) -> Dataset:
    """One example a line that is not empty, filled with `END`."""
    require(
        flags.vocabulary == "characters",
        f"--data.unit line takes --data.vocabulary characters, not {flags.vocabulary}",
    )
    whole = [line for line in text.split(END) if line]
    kept = [line for line in whole if len(line) < flags.length]
    require(
        len(kept) > 0,
        f"{file}: no line is shorter than --data.length {flags.length}, which has room for the end",
    )
    rows = characters("".join(kept) + END)
    grid = np.full((len(kept), flags.length), rows.names.index(END), np.int32)
    sizes = np.array([len(line) for line in kept])
    grid[np.arange(flags.length) < sizes[:, None]] = rows.codes[:-1]
    left = len(whole) - len(kept)
    notes = () if not left else (f"left out {left:,} lines of {flags.length} characters or more",)
    return _of_rows(replace(rows, codes=grid), END, flags, file, notes)


def _stored_codes(file: Path) -> tuple[Integer[np.ndarray, "n length"], tuple[str, ...], str]:
    """The codes of a file, their names and the end. Raises `UserError` for what are none."""
    arrays = read_arrays(file, (*CODE_KEYS, "vocabulary", "end"))
    codes = pick(arrays, CODE_KEYS, file)
    if codes is None:
        raise UserError(f"{file}: no array named codes or x; save the codes under one")
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer) or codes.size == 0:
        raise UserError(
            f"{file}: codes of type {codes.dtype} and shape {codes.shape}; give whole numbers of "
            "shape (n, length)"
        )
    names = arrays.get("vocabulary")
    if names is not None and (names.ndim != 1 or names.dtype.kind != "U"):
        raise UserError(
            f"{file}: vocabulary of type {names.dtype} and shape {names.shape}; give one text a "
            "symbol"
        )
    count = int(codes.max()) + 1 if names is None else len(names)
    if codes.min() < 0 or codes.max() >= count or not 2 <= count <= MOST_SYMBOLS:
        raise UserError(
            f"{file}: codes from {codes.min()} to {codes.max()} for {count} symbols; number 2 to "
            f"{MOST_SYMBOLS:,} symbols from 0"
        )
    if names is None:
        return codes, tuple(f"{k} " for k in range(count)), ""
    found, end = tuple(str(name) for name in names), str(arrays.get("end", ""))
    require(not end or end in found, f"{file}: end {end!r} is no symbol of its vocabulary")
    return codes, found, end
