"""Values of any range: what the network sees, what samples and pictures show."""

import numpy as np
import pytest

from core.data import ArraysData, from_arrays
from core.data.display import HIGH, WIDE, curves, panels
from core.data.scale import Scale, standardising
from core.data.summary import summary
from core.errors import UserError

RNG = np.random.default_rng(0)
MEAN = np.array([300.0, -2.0, 0.01, 0, 5, 6, 7])
STD = np.array([12.0, 0.5, 1e-3, 1, 1, 2, 3])
SEVEN = (MEAN + STD * RNG.normal(size=(40, 6, 5, 7))).astype(np.float32)


def load(tmp_path, x, **flags):
    np.save(tmp_path / "x.npy", x)
    return ArraysData(str(tmp_path / "x.npy"), **flags).load()


@pytest.mark.parametrize("axes", [(40, 6, 5, 7), (1200, 7), (40, 30, 7)])
def test_standardised_channels_have_mean_0_and_deviation_1_and_are_undone(tmp_path, axes):
    x = SEVEN.reshape(axes)
    data = load(tmp_path, x, values="standard", kind={2: "points", 3: "series"}.get(x.ndim, "auto"))
    network = np.asarray(data.decode(data.examples), np.float64).reshape(-1, 7)
    np.testing.assert_allclose(network.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(network.std(0), 1, atol=1e-4)
    np.testing.assert_allclose(data.scale.centre, SEVEN.reshape(-1, 7).mean(0, np.float64), 1e-6)
    np.testing.assert_allclose(data.restore(data.decode(data.examples)), x, 1e-6, 1e-5)


def test_a_constant_channel_stays_finite_and_a_small_spread_on_a_large_mean_counts(tmp_path):
    x = np.stack([np.full(64, 7.0), 1e4 + np.arange(64) % 2], 1).astype(np.float32)
    scale = standardising(x)
    assert scale.spread == (1.0, 0.5) and scale.centre == (7.0, 10000.5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float64])
def test_a_range_becomes_minus_one_to_one(tmp_path, dtype):
    x = np.array([0, 50, 200, 100]).astype(dtype).reshape(2, 2, 1, 1)
    data = load(tmp_path, x, range=(0.0, 200.0))
    np.testing.assert_allclose(data.decode(data.examples).ravel(), [-1, -0.5, 1, 0])
    np.testing.assert_allclose(data.restore(data.decode(data.examples)), x)
    assert data.encode(data.decode(data.examples)).ravel().tolist() == [0, 64, 255, 128]
    own = load(tmp_path, x[:1] + x.dtype.type(10), values="range")
    np.testing.assert_allclose(own.decode(own.examples).ravel(), [-1, 1])


def test_values_outside_of_the_range_are_said(tmp_path):
    data = load(tmp_path, np.linspace(0, 10, 40).reshape(20, 2), range=(0.0, 5.0))
    assert data.notes == ("warning: 50.00% of the values lie outside 0 to 5",)


def test_the_summary_says_how_values_are_scaled(tmp_path):
    line = summary(load(tmp_path, SEVEN, values="standard"))[0]
    assert "7-channel pictures of 6 x 5" in line and "shown as a gray panel a channel" in line
    assert "mean 0 and standard deviation 1 in each channel (mean -2" in line
    line = summary(load(tmp_path, SEVEN, range=(-400.0, 400.0)))[0]
    assert "; -400 becomes -1 and 400 1; samples are in the units of the data" in line


def test_a_scale_fits_the_channels_it_is_for():
    scale = Scale((0.0, 1.0), (1.0, 2.0))
    assert scale.fits(2) and Scale().fits(5) and not scale.fits(3)
    assert not Scale((0.0,), (0.0,)).fits(1) and not Scale((0.0,), (float("inf"),)).fits(1)
    assert not Scale((0.0,), ()).fits(1) and not Scale(span=-1.0).fits(1)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 7])
def test_images_of_any_number_of_channels_are_read_and_shown(tmp_path, channels):
    x = RNG.integers(0, 256, (3, 4, 6, channels), dtype=np.uint8)
    data = load(tmp_path, x)
    assert data.shape == (4, 6, channels) and data.levels == 255
    shown = data.encode(data.decode(x))
    if channels in (1, 3):
        assert np.array_equal(shown, x)
        return
    cols = {2: 2, 4: 2, 7: 3}[channels]
    for k in range(channels):  # each channel is whole, at its place in the grid
        top, left = 5 * (k // cols), 7 * (k % cols)
        assert np.array_equal(shown[:, top : top + 4, left : left + 6, 0], x[..., k])
    assert shown.shape[-1] == 1 and np.array_equal(panels(x), shown)


def test_channels_that_came_first_are_refused_unless_it_is_said(tmp_path):
    x = np.zeros((2, 3, 8, 9), np.uint8)
    with pytest.raises(UserError, match="channels come last.*or say --data.kind image"):
        load(tmp_path, x)
    assert load(tmp_path, x, kind="image").shape == (3, 8, 9)
    with pytest.raises(UserError, match=r"moveaxis\(x, 1, -1\)$"):
        from_arrays(x)


def test_a_curve_runs_through_its_values():
    wave = np.stack([np.sin(np.linspace(0, 6, 50)), np.full(50, 9.0)], -1)[None]
    tile = curves(wave.astype(np.float32))[0].astype(int)
    assert tile.shape == (HIGH, WIDE, 3)
    blue = tile[..., 2] - tile[..., 0] > 60  # the first channel's ink
    for column in range(5, WIDE - 5, 10):
        found = np.flatnonzero(blue[:, column]).mean()
        value = np.sin(6 * (column + 0.5) / WIDE)
        assert abs(found - (HIGH / 2 - 0.5) * (1 - value)) < 3
    assert (tile[:2, :, 0] - tile[:2, :, 2]).max() > 100  # the second runs along the upper edge


MISTAKES = {
    "integers": (np.zeros((4, 8, 8), np.int16), {}, "type int16; .*--data.range LO HI"),
    "booleans": (np.zeros((4, 8), bool), {"values": "standard"}, "type bool; give uint8"),
    "a scale of images": (
        np.full((4, 8, 8), 4000.0), {}, "outside .*--data.range LO HI or --data.values standard",
    ),
    "nothing but one value": (np.ones((4, 3)), {"values": "range"}, "all values are 1; there"),
    "unit points": (np.ones((4, 3)), {"values": "unit"}, "is for images; say --data.range 0 1"),
    "points of three axes": (
        np.zeros((4, 8, 8)), {"kind": "points"}, r"shape \(4, 8, 8\), where --data.kind points",
    ),
    "a series of four axes": (
        np.zeros((4, 8, 8, 1)), {"kind": "series"}, r"takes \(n, length, channels\)",
    ),
    "mirrored points": (np.zeros((4, 3)), {"flip": True}, "--data.flip mirrors pictures, and"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_flags_that_do_not_fit_the_values(tmp_path, case):
    x, flags, message = MISTAKES[case]
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path, x, **flags)
    assert "\n" not in str(caught.value)
