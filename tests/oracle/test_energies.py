"""Energies: their normalisers, and data sets that are their densities."""

import jax
import numpy as np
import pytest

from core.data import DATA
from core.errors import UserError
from core.oracle import ENERGIES, DoubleWell, Mueller
from tests.compiling import once


def test_normalisers_are_those_of_the_literature():
    """The double well's also by the series of its integral: a Bessel function of 2."""
    from scipy.special import ive

    series = np.pi / 2 * np.sqrt(2) * np.exp(2) * (ive(-0.25, 2) + ive(0.25, 2)) * np.exp(2)
    assert np.isclose(DoubleWell(1).log_z, np.log(series), atol=1e-9)
    assert np.isclose(DoubleWell(2).log_z, 5.2119403, atol=1e-7)
    assert np.isclose(DoubleWell(5).log_z - DoubleWell(4).log_z, 0.9189385, atol=1e-7)
    assert np.isclose(Mueller().log_z, -3.3895605, atol=1e-6)
    assert ENERGIES["eight-gaussians"].log_z == 0.0


def test_points_of_the_double_well_have_its_moments():
    """E[x^2] by quadrature; wells in the share asked for; the other number standard normal."""
    x = DATA["double-well"](n=40_000, right=0.8).load().examples
    nodes = np.linspace(-5, 5, 20_001)
    density = np.exp(4 * nodes**2 - nodes**4)
    second = np.trapezoid(nodes**2 * density, nodes) / np.trapezoid(density, nodes)
    assert abs((x[:, 0] ** 2).mean() - second) < 4 * (x[:, 0] ** 2).std() / 200
    assert abs((x[:, 0] > 0).mean() - 0.8) < 0.01 and abs(x[:, 1].std() - 1) < 0.02


def test_points_of_mueller_lie_where_its_energy_is_low():
    """A histogram against the integral of `exp(-E) / Z` over each cell, of 6 x 6 places."""
    x = DATA["mueller"](n=200_000).load().examples
    edges = np.linspace(-1.5, 1.0, 26), np.linspace(-0.5, 2.0, 26)
    counts = np.histogram2d(x[:, 0], x[:, 1], edges)[0] / len(x)
    fine = [np.linspace(edge[0], edge[-1], 151)[:-1] + 1 / 120 for edge in edges]
    grid = np.stack(np.meshgrid(*fine, indexing="ij"), -1).reshape(-1, 2).astype(np.float32)
    energy = np.asarray(once(jax.vmap(Mueller()))(grid)).reshape(25, 6, 25, 6)
    wanted = np.exp(-energy - Mueller().log_z).sum(axis=(1, 3)) / 60**2
    assert np.abs(counts - wanted).sum() < 0.03 and counts.sum() > 0.99


@pytest.mark.parametrize(
    "flags", [{"n": 0}, {"size": 0}, {"right": 1.5}, {"right": float("nan")}, {"seed": -1}]
)
def test_numbers_that_are_none_are_refused(flags):
    with pytest.raises(UserError):
        DATA["double-well"](**flags).load()
