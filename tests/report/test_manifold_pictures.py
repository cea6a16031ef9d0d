"""Densities of points on curved and closed spaces, and that pictures of samples show them."""

import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from core.data import DATA
from core.report.gallery import draw_points
from core.report.pictures.spheres import density_on_sphere, images_of_axes
from core.report.pictures.torus import density_on_torus, pairs_of

RNG = np.random.default_rng(0)


def test_density_on_the_sphere_has_mean_one_and_peaks_at_its_point():
    latitude, longitude = 40.0, -100.0
    a, b = np.radians(latitude), np.radians(longitude)
    x = np.array([[np.cos(a) * np.cos(b), np.cos(a) * np.sin(b), np.sin(a)]])
    density = density_on_sphere(np.repeat(x, 3, axis=0), width=20.0)
    weight = np.cos(np.radians(np.linspace(-90, 90, 91)))
    mean = (density[:, :-1].mean(axis=1) * weight).sum() / weight.sum()
    assert mean == pytest.approx(1, abs=1e-3)
    row, column = np.unravel_index(density.argmax(), density.shape)
    assert (row * 2 - 90, column * 2 - 180) == (latitude, longitude)


def test_images_of_axes_are_the_columns_of_rotation_matrices():
    turns = Rotation.random(5, random_state=2)
    found = images_of_axes(np.roll(turns.as_quat(), 1, axis=1))
    assert np.allclose(np.moveaxis(found, 0, 2), turns.as_matrix())


def test_density_on_the_torus_is_glued_at_its_edges():
    density = density_on_torus(np.full((1, 2), np.pi - 1e-3))
    assert density.sum() == pytest.approx(1)
    assert np.allclose(density[0, :], density[-2, :]) and density[0, 0] > 0
    assert pairs_of(3) == [(0, 1), (0, 2), (1, 2)] and len(pairs_of(7)) == 6


@pytest.mark.long
@pytest.mark.parametrize("name", ["sphere-blobs", "torus-checkerboard", "so3-swiss-roll"])
def test_pictures_of_samples_show_density(name, tmp_path):
    data = DATA[name](n=500).load()
    file = tmp_path / "a.png"
    draw_points(data.spec, {"samples": data.examples[:100]}, file, data)
    page = np.asarray(Image.open(file))[..., :3].reshape(-1, 3)
    assert len(np.unique(page, axis=0)) > 500  # shades, where dots have a few colours
