"""Texts: windows, lines, codes, Markov chains."""

import gzip
import itertools
import sys
import types

import numpy as np
import pytest

from core.data import vocabulary
from core.data.bigram import BigramData
from core.data.chain import Chain, drawn_chain
from core.data.text import TextData, symbols_of
from core.errors import UserError
from tests.compiling import once

VERSE = "the cat sat on the mat\nand the dog sat too \u00e9\n" * 40


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "verse.txt"
    path.write_text(VERSE, "utf-8")
    return str(path)


def strings(data, index=slice(None)):
    return data.spec.texts(np.eye(data.shape[1])[data.examples[index]])


@pytest.mark.parametrize("vocabulary", ["characters", "bytes"])
def test_windows_are_pieces_of_the_first_nine_tenths(file, vocabulary):
    data = TextData(file, length=12, stride=5, vocabulary=vocabulary).load()
    text = VERSE if vocabulary == "characters" else VERSE.encode()
    first = text[: int(0.9 * len(text))]
    wanted = [first[k : k + 12] for k in range(0, len(first) - 11, 5)]
    if vocabulary == "bytes":
        wanted = [piece.decode("utf-8", "replace") for piece in wanted]
    assert strings(data) == wanted and data.examples.dtype == np.uint8
    assert data.held is not None and data.held.vocabulary == data.vocabulary
    last = text[int(0.95 * len(text)) :]
    assert len(data.held) == len(last) // 12 and data.held.spec.shape == data.shape


def test_a_packed_file_is_the_same_text(file, tmp_path):
    packed = tmp_path / "verse.txt.gz"
    packed.write_bytes(gzip.compress(VERSE.encode()))
    np.testing.assert_array_equal(
        TextData(str(packed)).load().examples, TextData(file).load().examples
    )


def test_a_file_that_changed_is_read_again(file):
    before = TextData(file).load()
    assert TextData(file).load() is before
    with open(file, "a") as stream:
        stream.write("and more of it\n" * 9)
    assert len(TextData(file).load()) > len(before)


def test_lines_are_filled_with_the_end_and_parts_are_disjoint(tmp_path):
    names = ["".join(letters) for letters in itertools.product("abc", repeat=3)] + ["toolong", ""]
    path = tmp_path / "names.txt"
    path.write_text("\r\n".join(names))
    parts = [
        TextData(str(path), length=4, unit="line", held=held).load() for held in ("test", "valid")
    ]
    found = [set(strings(parts[0]))] + [set(strings(part.held)) for part in parts]
    assert set().union(*found) == set(names[:27]) and sum(map(len, found)) == 27
    assert all((part.examples[:, 3] == part.vocabulary.index("\n")).all() for part in parts)
    assert parts[0].end == "\n" and "left out 1 lines" in parts[0].notes[0]


def test_codes_keep_their_vocabulary(tmp_path):
    codes = np.random.default_rng(0).integers(0, 3, (40, 5))
    np.savez(tmp_path / "a.npz", codes=codes, vocabulary=np.array(["", "x", "yz"]))
    data = TextData(str(tmp_path / "a.npz")).load()
    assert data.vocabulary == ("", "x", "yz") and len(data) == 36 and len(data.held) == 2
    row = data.examples[7]
    assert strings(data, slice(7, 8)) == ["".join(("", "x", "yz")[k] for k in row)]


def test_network_values_are_one_hot_and_codes_come_back(file):
    data = TextData(file).load()
    x = np.asarray(once(data.decode)(data.examples[:3]))
    assert x.shape == (3, *data.shape) and set(np.unique(x)) == {0, 1} and (x.sum(-1) == 1).all()
    np.testing.assert_array_equal(data.restore(x + 0.3), data.examples[:3])


def bad(tmp_path):
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 " * 40)
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(b"a text " * 999)[:-9])
    (tmp_path / "short.txt").write_text("ab" * 20)
    (tmp_path / "one.txt").write_text("a" * 999)
    (tmp_path / "long.txt").write_text("\n".join(["a" * 99] * 9))
    np.savez(tmp_path / "float.npz", codes=np.zeros((4, 4)))
    np.savez(tmp_path / "many.npz", codes=np.full((4, 4), 9), vocabulary=np.array(["a", "b"]))
    np.savez(tmp_path / "word.npz", codes=np.eye(4, dtype=int), vocabulary=np.array("ab"))
    np.savez(tmp_path / "other.npz", images=np.zeros((4, 4), int))
    return str(tmp_path)


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"path": ""}, "--data.path"),
        ({"path": "/gone.txt"}, "no such file"),
        ({"path": "/empty.txt"}, "holds no text"),
        ({"path": "/latin.txt"}, "no text in UTF-8"),
        ({"path": "/cut.txt.gz"}, "damaged"),
        ({"path": "/short.txt"}, "fewer than --data.length 64"),
        ({"path": "/one.txt"}, "1 different symbols"),
        ({"path": "/long.txt", "unit": "line"}, "no line is shorter"),
        ({"path": "/long.txt", "length": 0}, "--data.length 0"),
        ({"path": "/float.npz"}, "give whole numbers"),
        ({"path": "/many.npz"}, "codes from 9 to 9 for 2 symbols"),
        ({"path": "/word.npz"}, "give one text a symbol"),
        ({"path": "/other.npz"}, "no array named codes"),
        ({"path": "/short.txt", "vocabulary": "/gone.json"}, "no such file"),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(flags, message, tmp_path):
    folder = bad(tmp_path)
    flags = {k: folder + v if str(v).startswith("/") else v for k, v in flags.items()}
    with pytest.raises(UserError, match=message) as caught:
        TextData(**flags).load()
    assert "\n" not in str(caught.value)


class Cut:
    """What `Tokenizer.from_file` gives of a file that cuts texts to 2 pieces and fills them up to
    4, as many published ones do: a piece a letter."""

    most, least = 2, 4

    def no_truncation(self):
        self.most = None

    def no_padding(self):
        self.least = 0

    def encode(self, text, add_special_tokens):
        ids = [ord(letter) - 96 for letter in text if letter.isalpha()][: self.most]
        return types.SimpleNamespace(ids=ids + [0] * (self.least - len(ids)))

    def to_str(self):
        return '{"decoder": null}'

    def id_to_token(self, number):
        return chr(number + 96) if number else "[PAD]"


def test_a_tokenizer_that_cuts_its_texts_gives_all_of_this_one(monkeypatch):
    monkeypatch.setattr(vocabulary, "opened", lambda file: Cut())
    found = symbols_of("abcba", "tokenizer.json")
    assert found.names == ("a", "b", "c") and found.codes.tolist() == [0, 1, 2, 1, 0]
    with pytest.raises(UserError, match="no piece of the text"):
        symbols_of("...", "tokenizer.json")


def test_without_the_library_of_tokenizers_a_line_says_what_to_install(file, monkeypatch, tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install portolan\[text\]"):
        TextData(file, vocabulary=str(tmp_path / "tokenizer.json")).load()


def test_entropy_and_likelihood_of_a_chain_are_those_of_all_its_texts():
    chain = drawn_chain(4, seed=3)
    every = np.array(list(itertools.product(range(4), repeat=3)))
    share = 2 ** (-3 * chain.nll(every))
    np.testing.assert_allclose(share.sum(), 1, rtol=1e-12)
    wanted = (chain.unigram + 2 * chain.rate) / 3  # it is stationary
    np.testing.assert_allclose(share @ chain.nll(every), wanted, rtol=1e-12)
    drawn = chain.draw(200_000, 3, seed=0)
    counts = np.bincount(drawn @ [16, 4, 1], minlength=64) / len(drawn)
    np.testing.assert_allclose(counts, share, atol=5 * np.sqrt(share.max() / len(drawn)))


def test_the_chain_of_a_text_has_its_pairs(tmp_path):
    true = Chain(np.array([0.4, 0.6]), np.array([[0.7, 0.3], [0.2, 0.8]]))
    letters = np.array(list("ab"))[true.draw(1, 10_000, seed=1)[0]]
    (tmp_path / "ab.txt").write_text("".join(letters))
    flags = BigramData(str(tmp_path / "ab.txt"), length=8, n=100)
    np.testing.assert_allclose(flags.chain().transition, true.transition, atol=0.03)
    data = flags.load()
    assert data.vocabulary == ("a", "b") and len(data) == 100 and len(data.held) == 5
