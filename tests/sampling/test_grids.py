"""Time grids on every path."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.path import PATHS, EDMPath, LinearPath, TrigPath, VPPath
from core.sampling import GRIDS, at_units, shifted, uniform_grid
from core.sampling.grids import cosine_grid, edm_grid, log_snr_grid
from tests.compiling import once
from tests.sampling.distributions import SOME_PATHS


@pytest.mark.parametrize("path", SOME_PATHS)
@pytest.mark.programs(40)  # a grid is computed outside jax.jit
def test_grids_fall_from_noise_to_data(path):
    path = PATHS[path](noise_std=0.5)
    for grid in (*GRIDS.values(), shifted(edm_grid, 3.0), shifted(uniform_grid, 0.3)):
        for steps in (1, 9):
            times = grid(path, steps)
            assert times.shape == (steps + 1,) and times.dtype == np.float64
            assert times[0] == path.t_max and times[-1] == path.t_min
            assert np.all(np.diff(times) < 0)


def test_uniform_is_even_in_time_and_cosine_denser_towards_the_data():
    for path in (LinearPath(), EDMPath()):
        assert np.allclose(np.diff(uniform_grid(path, 4)), np.diff(uniform_grid(path, 4))[0])
        gaps = -np.diff(cosine_grid(path, 8))
        assert np.all(np.diff(gaps) < 0)


def test_edm_is_karras_own_grid_on_their_path():
    """The noise levels of EDM's eq. 5, typed in."""
    levels = [80.0, 24.4083, 5.8389, 0.96542, 0.085087, 0.002]
    assert np.allclose(edm_grid(EDMPath(), 5), levels, rtol=1e-4)


@pytest.mark.parametrize("grid", [edm_grid, log_snr_grid])
def test_noise_levels_are_the_same_on_every_path(grid):
    """Between the ends, which are those of the path; a noise of half the size is in the level."""
    levels = grid(EDMPath(), 9)[1:-1]
    linear, trig = LinearPath(), TrigPath(noise_std=0.5)
    unit, angle = grid(linear, 9)[1:-1], grid(trig, 9)[1:-1]
    assert np.allclose(unit / (1 - unit), levels, rtol=1e-9)
    assert np.allclose(0.5 * np.tan(angle), levels, rtol=1e-9)


@pytest.mark.programs(25)
def test_log_snr_is_even_in_it_also_where_the_path_has_fewer_levels():
    for path in (EDMPath(), VPPath()):
        times = log_snr_grid(path, 6)
        log_snr = once(jax.vmap(path.log_snr))(np.float32(times[1 if path.t_max == 1 else 0 :]))
        even = np.diff(log_snr)
        assert np.allclose(even, even[0], rtol=1e-3)


def test_a_shift_multiplies_noise_to_signal():
    path = LinearPath()
    plain, moved = uniform_grid(path, 8)[1:-1], shifted(uniform_grid, 3.0)(path, 8)[1:-1]
    assert np.allclose(moved / (1 - moved), 3 * plain / (1 - plain), rtol=1e-12)
    assert np.array_equal(shifted(uniform_grid, 1.0)(path, 8), uniform_grid(path, 8))


def test_chosen_times_are_unit_times():
    assert np.allclose(at_units(LinearPath(), (1, 0.6, 0)), [1, 0.6, 0])
    assert np.allclose(at_units(TrigPath(), (0.994, 0.5, 0))[1:], [np.pi / 4, 0])
    assert np.allclose(at_units(EDMPath(), (1, 0.5, 0)), [80, 1, 0.002])


@pytest.mark.parametrize(
    "units",
    [(), (1,), (0, 1), (1, 0.5), (1, 0.5, 0.5, 0), (1.2, 0), (0.5, 0), (1, float("nan"), 0)],
)
def test_chosen_times_that_are_none(units):
    with pytest.raises(UserError, match="--times must decrease from noise"):
        at_units(LinearPath(), units)


def test_grids_that_collapse_in_float32_are_refused():
    with pytest.raises(UserError, match="two times of this grid are the same"):
        at_units(EDMPath(), (1, 0.99, 0))  # both beyond 80
    with pytest.raises(UserError, match="--shift must be positive"):
        shifted(uniform_grid, -1.0)
    with pytest.raises(UserError, match="a --shift nearer to 1"):
        shifted(uniform_grid, 1e9)(LinearPath(), 4)
