"""The sampler of digits that comes with the package."""

import numpy as np
import pytest

import portolan as po
from portolan.runs import SHIPPED


@pytest.fixture(scope="module")
def run():
    return po.load("digits")


def test_it_draws_digits_of_their_classes_in_one_step(run):
    """A nearest-neighbour classifier on the scans finds the label that was asked for."""
    x, labels = run.sample(200), np.arange(200) % 10
    assert x.shape == (200, 8, 8, 1) and x.dtype == np.float32
    from sklearn.neighbors import KNeighborsClassifier

    data = run.dataset()
    real = data.examples.reshape(len(data), -1) / 8 - 1
    found = KNeighborsClassifier(1).fit(real, data.labels).predict(x.reshape(200, -1))
    assert np.mean(found == labels) > 0.95


def test_it_is_small_and_says_where_it_comes_from():
    folder = SHIPPED / "digits"
    assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000
    text = (folder / "README.md").read_text()
    assert "CC BY 4.0" in text and "make train" in text and "weights='float16'" in text
