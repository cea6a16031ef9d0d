"""Texts: windows of a file, its lines, or codes that somebody else made."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, Shaped

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

Split = Literal["train", "valid", "test"]
SPLITS = ("train", "valid", "test")
_WHAT = "a text (.txt, .txt.gz) or an .npz of codes"
CODE_KEYS = ("codes", "x")
MOST_SYMBOLS = 2**16
"""Symbols at most: an example of L positions is L times as many numbers."""


@dataclass(frozen=True)
class TextData:
    """Text as symbols: windows of a UTF-8 file, its lines, or an `.npz` of codes.

    The first 90 % of the text are for training, the next and the last 5 % are held out; lines and
    rows of codes are shuffled first, in an order of their number alone. An `.npz` holds whole
    numbers `codes` or `x` of shape `(n, length)` and, if they are known, what they stand for,
    `vocabulary`, and the symbol `end` that fills rows up. Samples are strings.
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
    split: Split = "train"
    """The part of the text: train (90 %), valid or test (5 % each)."""

    def load(self) -> Dataset:
        """Reads the file, once in a process. Raises `UserError` for one that does not fit."""
        return _loaded(self)


@functools.lru_cache(maxsize=4)
def _loaded(flags: TextData) -> Dataset:
    at_least(flags.length, 1, "--data.length")
    at_least(flags.stride, 0, "--data.stride")
    one_of(flags.split, SPLITS, "--data.split")
    one_of(flags.unit, ("window", "line"), "--data.unit")
    file = existing_file(flags.path, _WHAT, "--data.path")
    if file.suffix in (".npz", ".npy"):
        codes, names, end = _stored_codes(file)
        return of_codes("text", codes, names, end, flags.split)
    text = read_text(file)
    if flags.unit == "line":
        return _lines(text, flags, file)
    found = symbols_of(text, flags.vocabulary)
    part = part_of(found.codes, flags.split)
    require(
        len(part) >= flags.length,
        f"{file}: {len(part):,} symbols of {flags.split}, fewer than --data.length {flags.length}",
    )
    stride = flags.stride or max(flags.length // 4, 1)
    windows = np.lib.stride_tricks.sliding_window_view(part, flags.length)
    kept = windows[:: stride if flags.split == "train" else flags.length]
    return tokens("text", np.ascontiguousarray(kept), found)


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
    codes: Int[np.ndarray, "n length"],
    symbols: Symbols,
    end: str = "",
    notes: tuple[str, ...] = (),
) -> Dataset:
    """The data set of these examples, whose codes are in `symbols.names`."""
    return Dataset(
        name=name,
        kind="tokens",
        shape=(codes.shape[1], len(symbols.names)),
        examples=smallest(codes, len(symbols.names)),
        vocabulary=symbols.names,
        end=end,
        utf8=symbols.utf8,
        notes=notes,
    )


def part_of(rows: Shaped[np.ndarray, " n *rest"], split: str) -> Shaped[np.ndarray, " m *rest"]:
    """The first 90 %, the next or the last 5 %."""
    first, second = int(0.9 * len(rows)), int(0.95 * len(rows))
    return {"train": rows[:first], "valid": rows[first:second], "test": rows[second:]}[split]


def _shuffled(rows: Shaped[np.ndarray, " n *rest"]) -> Shaped[np.ndarray, " n *rest"]:
    return rows[np.random.default_rng(0).permutation(len(rows))]


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
    part = part_of(_shuffled(grid), flags.split)
    require(len(part) > 0, f"{file}: {len(kept)} lines are too few for a part {flags.split}")
    left = len(whole) - len(kept)
    notes = () if not left else (f"left out {left:,} lines of {flags.length} characters or more",)
    return tokens("text", part, Symbols(part, rows.names), END, notes)


def _stored_codes(file: Path) -> tuple[Int[np.ndarray, "n length"], tuple[str, ...], str]:
    """The codes of a file, their names and the end. Raises `UserError` for what are none."""
    arrays = read_arrays(file)
    codes = pick(arrays, CODE_KEYS, file)
    if codes is None:
        raise UserError(f"{file}: no array named codes or x; save the codes under one")
    if codes.ndim != 2 or not np.issubdtype(codes.dtype, np.integer) or codes.size == 0:
        raise UserError(
            f"{file}: codes of type {codes.dtype} and shape {codes.shape}; give whole numbers of "
            "shape (n, length)"
        )
    names = arrays.get("vocabulary")
    count = int(codes.max()) + 1 if names is None else len(names)
    if codes.min() < 0 or codes.max() >= count or not 2 <= count <= MOST_SYMBOLS:
        raise UserError(
            f"{file}: codes from {codes.min()} to {codes.max()} for {count} symbols; number 2 to "
            f"{MOST_SYMBOLS:,} symbols from 0"
        )
    if names is None:
        return codes, tuple(f"{k} " for k in range(count)), ""
    if names.ndim != 1 or names.dtype.kind != "U":
        raise UserError(f"{file}: vocabulary of type {names.dtype}; give one text a symbol")
    found, end = tuple(str(name) for name in names), str(arrays.get("end", ""))
    require(not end or end in found, f"{file}: end {end!r} is no symbol of its vocabulary")
    return codes, found, end


def of_codes(
    name: str, codes: Int[np.ndarray, "n length"], names: tuple[str, ...], end: str, split: str
) -> Dataset:
    """The data set of a part of these rows, in an order of their number alone."""
    part = part_of(_shuffled(codes), split)
    require(len(part) > 0, f"{len(codes)} rows of codes are too few for a part {split}")
    return tokens(name, part, Symbols(part, names), end)
