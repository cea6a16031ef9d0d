"""Data that a function of the user's makes, and whose word it takes to call it."""

import sys

import numpy as np
import pytest

from core import trust
from core.data import Dataset, PythonData
from core.errors import UserError
from core.train import toml
from core.train.cli import parse
from core.train.run import read_config

NAME = "python:my_examples"
SOURCE = """
import numpy as np
from core.data import Dataset
calls = []
x = np.linspace(-1, 1, 60).reshape(5, 6, 2)
def arrays():
    calls.append(1)
    return x
def labelled():
    return x.tolist(), ["a", "b", "a", "b", "a"]
def dataset():
    return Dataset(name="mine", kind="points", shape=(2,), examples=np.zeros((3, 2), np.float32))
def wrong_shape():
    return Dataset(name="mine", kind="points", shape=(3,), examples=np.zeros((3, 2), np.float32))
def wrong_labels():
    return Dataset(name="m", kind="points", shape=(2,), examples=np.zeros((3, 2), np.float32),
                   labels=np.array([0, 1, 7], np.int32), num_classes=2)
def nothing():
    return None
def ragged():
    return [[1, 2], [3]]
def breaks():
    return 1 / 0
constant = 3
"""


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "my_examples.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_examples", None)
    trust._found.clear()
    trust._typed.clear()
    trust.trust_files(False)


def load(name, **flags):
    return PythonData(f"{NAME}:{name}", **flags).load()


def test_arrays_are_understood_as_those_of_a_file():
    data = load("arrays", kind="series")
    assert (data.name, data.kind, data.shape) == ("python", "series", (6, 2))
    assert data.scale and load("arrays", values="signed").kind == "image"
    assert len(sys.modules["my_examples"].calls) == 1  # however often it is asked


def test_labels_may_be_names():
    data = load("labelled", values="signed")
    assert data.class_names == ("a", "b") and data.labels is not None
    assert data.labels.tolist() == [0, 1, 0, 1, 0]


def test_a_dataset_is_taken_as_it_is():
    data = load("dataset")
    assert isinstance(data, Dataset) and (data.name, data.kind) == ("python", "points")


MISTAKES = {
    "wrong_shape": r"returns 3 examples of shape \(2,\) as points of shape \(3,\); make them agree",
    "wrong_labels": "3 labels up to 7 for 3 examples of 2 classes",
    "nothing": "my_examples:nothing returns NoneType; return an array of examples",
    "ragged": "my_examples:ragged returns what is no array: ValueError",
    "breaks": r"my_examples:breaks raised ZeroDivisionError: division by zero \(.*line 23\)",
    "constant": "is no function but a int",
    "missing": "names no function",
}


@pytest.mark.parametrize("name", MISTAKES)
def test_functions_that_make_no_data(name):
    with pytest.raises(UserError, match=MISTAKES[name]) as caught:
        load(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("function", ["", "my_examples:arrays", "python:my_examples"])
def test_a_function_is_named_in_full(function):
    with pytest.raises(UserError, match="say --data python:MODULE:FUNCTION"):
        PythonData(function).load()


def test_flags_that_a_dataset_says_itself():
    with pytest.raises(UserError, match="says its kind, values and classes itself"):
        load("dataset", values="standard")


def test_the_name_after_data_chooses_the_function_and_its_network():
    config = parse(["--data", f"{NAME}:dataset", "--net.activation", "gelu"])
    assert (config.data, config.net) == ("python", "mlp")
    assert config.data_flags == PythonData(f"{NAME}:dataset")
    config = parse(["--data", f"{NAME}:arrays", "--data.kind", "series"])
    assert (config.net, config.net_flags.patch, config.folder) == ("dit", 1, "runs/imf-python")


def test_a_file_that_names_the_function_opens_and_does_not_call_it(tmp_path):
    config = parse(["--data", f"{NAME}:dataset", "--run", str(tmp_path / "run")])
    toml.write(config, tmp_path / "run" / "config.toml")
    for name in ("my_examples",):
        sys.modules.pop(name)
    trust._typed.clear()
    opened = read_config(tmp_path / "run")
    assert opened.data_flags == PythonData(f"{NAME}:dataset") and "my_examples" not in sys.modules
    with pytest.raises(UserError, match=f"asks to run code, {NAME}:dataset.*say --trust"):
        opened.data_flags.load()
    with pytest.raises(UserError, match="asks to run code"):
        parse(["--config", str(tmp_path / "run" / "config.toml")]).data_flags.load()
    assert "my_examples" not in sys.modules
    trust.trust_files()
    assert opened.data_flags.load().kind == "points"


def test_the_other_end_may_be_a_function_too():
    config = parse(["--data", "two-moons", "--source", f"{NAME}:dataset"])
    assert config.source == "python" and config.source_flags == PythonData(f"{NAME}:dataset")


def test_python_names_it_in_the_same_way():
    from portolan.settings import config_of

    config = config_of("fm", f"{NAME}:dataset", {})
    assert (config.data, config.net) == ("python", "mlp")
    assert np.array_equal(config.data_flags.load().examples, np.zeros((3, 2)))
