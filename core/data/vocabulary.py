"""The symbols of a text: characters, bytes, or the pieces of a file of the tokenizers library."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer, Shaped

from core.data.checks import existing_file
from core.errors import UserError, require

END = "\n"
"""The symbol that ends a line, and fills what is left of its example."""
MOST_CHARACTERS = 0x110000
MOST_BYTES = 2**31
"""A text is read into memory at once."""


@dataclass(frozen=True)
class Symbols:
    """The codes of a text, and what each stands for.

    **Fields:** `codes` of the text, each below the number of names; `names` what a code adds to the
    text; `utf8` says that these are bytes, code points 0 to 255, which together are UTF-8.
    """

    codes: Integer[np.ndarray, "..."]
    names: tuple[str, ...]
    utf8: bool = False


def characters(text: str) -> Symbols:
    """One code a character, those that occur in the order of Unicode."""
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return _occurring(points, MOST_CHARACTERS, chr)


def in_bytes(text: str) -> Symbols:
    """One code a byte of UTF-8, those that occur."""
    points = np.frombuffer(text.encode("utf-8"), np.uint8)
    found = _occurring(points, 256, chr)
    return Symbols(found.codes, found.names, utf8=True)


def in_pieces(text: str, file: str) -> Symbols:
    """One code a piece of a tokenizer, those that occur. Raises `UserError` without the library,
    and for a file that it does not read."""
    tokenizer = opened(file)
    tokenizer.no_truncation()  # a file may say that texts are cut to what its model takes
    tokenizer.no_padding()
    ids = np.asarray(tokenizer.encode(text, add_special_tokens=False).ids, np.int64)
    require(len(ids) > 0, f"{file} makes no piece of the text; choose another --data.vocabulary")
    kinds = _types(json.loads(tokenizer.to_str()).get("decoder"))
    name = next((_NAMES[kind] for kind in kinds if kind in _NAMES), str)
    size = int(ids.max()) + 1
    found = _occurring(ids, size, lambda number: name(tokenizer.id_to_token(number)))
    return Symbols(found.codes, found.names, utf8="ByteLevel" in kinds)


def _types(decoder: Any) -> list[str]:
    """The types of a tokenizer's decoder and of its parts, as its file has them."""
    if not isinstance(decoder, dict):
        return []
    return [str(decoder.get("type")), *(t for d in decoder.get("decoders", []) for t in _types(d))]


def opened(file: str) -> Any:
    """A tokenizer of the tokenizers library. Raises `UserError`."""
    path = existing_file(file, "characters, bytes or a tokenizer.json", "--data.vocabulary")
    try:
        from tokenizers import Tokenizer  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            f"--data.vocabulary {file} is a file of the tokenizers library, which is not "
            "installed: pip install portolan[text], or give --data.vocabulary characters"
        ) from None
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain exceptions of its own
        raise UserError(
            f"{path}: no tokenizer.json of the tokenizers library ({str(error)[:120]}); save one "
            "with tokenizer.save(FILE)"
        ) from None


def _occurring(numbers: Shaped[np.ndarray, " n"], size: int, name: Callable[[int], str]) -> Symbols:
    """The numbers below `size` that occur, as codes from 0 in their order, and their names."""
    there = np.zeros(size, bool)
    there[numbers] = True
    known = np.flatnonzero(there)
    code = np.zeros(size, np.int32)
    code[known] = np.arange(len(known))
    return Symbols(smallest(code[numbers], len(known)), tuple(name(int(k)) for k in known))


def smallest(codes: Integer[np.ndarray, "..."], count: int) -> Integer[np.ndarray, "..."]:
    """Codes below `count` in the smallest type: uint8 up to 256 of them, else int32."""
    return codes.astype(np.uint8 if count <= 256 else np.int32)


def _of_word(token: str) -> str:
    """What a piece of WordPiece adds: `##ing` goes on with a word, any other begins one."""
    return token[2:] if token.startswith("##") else f" {token}"


def _of_space(token: str) -> str:
    """What a piece of SentencePiece adds, whose lower block is a space."""
    return token.replace("\u2581", " ")


def _of_bytes(token: str) -> str:
    """The bytes of a piece of byte-level BPE, as code points 0 to 255."""
    return "".join(chr(_BYTES.get(letter, ord("?"))) for letter in token)


def _bytes_of_letters() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others for code points
    from 256 on."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + k): b for k, b in enumerate(others)}


_BYTES = _bytes_of_letters()
_NAMES = {"WordPiece": _of_word, "Metaspace": _of_space, "ByteLevel": _of_bytes}
"""What a piece adds to the text, by the type of the tokenizer's decoder."""


def texts(
    codes: Integer[np.ndarray, "n length"], names: Sequence[str], end: str = "", utf8: bool = False
) -> list[str]:
    """The strings of examples: names side by side, up to the first `end` where there is one."""
    found = []
    for row in codes:
        text = "".join(names[int(code)] for code in row)
        if utf8:
            text = text.encode("latin-1", "replace").decode("utf-8", "replace")
        found.append(text.partition(end)[0] if end else text)
    return found


def read_text(file: Path) -> str:
    """The text of a UTF-8 file, `.gz` or not, with `\\n` at the end of lines. Raises `UserError`
    for one that is empty or is no such file."""
    import gzip
    import zlib

    try:
        with file.open("rb") as plain:
            packed = plain.read(2) == b"\x1f\x8b"
        with gzip.open(file) if packed else file.open("rb") as stream:
            stored = stream.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: truncated or damaged ({error}); write it again") from None
    require(
        len(stored) <= MOST_BYTES, f"{file}: more than {MOST_BYTES >> 30} GiB of text; give a part"
    )
    try:
        text = stored.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(
            f"{file}: no text in UTF-8 (byte {error.start}); convert it: iconv -t utf-8"
        ) from None
    if not text.strip():
        raise UserError(f"{file}: holds no text; give at least one window of it")
    return text.replace("\r\n", "\n").replace("\r", "\n")
