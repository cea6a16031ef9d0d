"""Files of reference statistics: of five makers, and those that are none."""

import io
import zipfile

import numpy as np
import pytest

from core.errors import UserError
from core.metrics import Statistics, read_reference, statistics, write_reference
from core.metrics.reference import check_reference, pictures_of


def gaussian(rng, dim=4):
    root = rng.normal(size=(dim, dim))
    return rng.normal(size=dim), root @ root.T


@pytest.mark.parametrize("keys", [("mu", "sigma"), ("ref_mu", "ref_sigma")])
def test_the_files_of_others_are_read(keys, rng, tmp_path):
    """EDM, clean-fid and pytorch-fid have the first pair, MeanFlow the second."""
    mu, sigma = gaussian(rng)
    np.savez(tmp_path / "a.npz", **dict(zip(keys, (mu, sigma))))
    found = read_reference(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.statistics.mean, mu)
    np.testing.assert_array_equal(found.statistics.cov, sigma)
    assert found.statistics.n is None and found.sample is None and found.pictures == 0
    assert found.name == "a.npz" and len(found.sha256) == 64


def test_a_file_of_adm_has_pictures_too(rng, tmp_path):
    mu, sigma = gaussian(rng)
    pictures = rng.integers(0, 256, (11, 5, 4, 3)).astype(np.uint8)
    other = gaussian(rng, 6)
    names = {"arr_0": pictures, "mu": mu, "sigma": sigma, "mu_s": other[0], "sigma_s": other[1]}
    np.savez_compressed(tmp_path / "a.npz", **names)
    found = read_reference(tmp_path / "a.npz")
    assert found.pictures == 11 and found.statistics.mean.shape == (4,)
    parts = list(pictures_of(tmp_path / "a.npz", 4))
    assert [len(part) for part in parts] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(parts), pictures)


def test_features_of_clean_fid_give_their_statistics(rng, tmp_path):
    feats = rng.normal(size=(20, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", feats=feats)
    found = read_reference(tmp_path / "a.npz")
    np.testing.assert_allclose(found.statistics.cov, np.cov(feats.T.astype(float)), rtol=1e-12)
    np.testing.assert_array_equal(found.sample, feats)


def test_what_is_written_is_read(rng, tmp_path):
    x = rng.normal(size=(30, 3))
    said = {"features": "f", "features_sha256": "ab", "resize": "r", "source": "s"}
    write_reference(tmp_path / "a.npz", statistics(x), said, x[:7])
    found = read_reference(tmp_path / "a.npz")
    np.testing.assert_array_equal(found.statistics.cov, statistics(x).cov)
    assert (found.statistics.n, found.features, found.rounding) == (30, "f", "")
    np.testing.assert_allclose(found.sample, x[:7], rtol=1e-3)
    write_reference(tmp_path / "b.npz", statistics(x), said, 1e6 * x[:7])
    np.testing.assert_allclose(read_reference(tmp_path / "b.npz").sample, 1e6 * x[:7], rtol=1e-6)


def npz(path, **arrays):
    np.savez(path, **arrays)
    return path


def damaged(path, **arrays):
    content = npz(path, **arrays).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def promising(path):
    """Pictures whose header promises more than there are."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "|u1", "fortran_order": False, "shape": (9, 4, 4, 3)}
    )
    np.savez(path, mu=np.zeros(2), sigma=np.eye(2))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("arr_0.npy", stream.getvalue() + bytes(100))
    return path


SKEW = np.array([[1.0, 0.1], [0.2, 1.0]])
BAD = {
    "missing": (lambda f: f, "no such file; --stats names"),
    "no archive": (lambda f: f.write_text("mu") and f, "not an .npz"),
    "damaged": (lambda f: damaged(f, mu=np.zeros(200), sigma=np.eye(200)), "truncated or damaged"),
    "pickled": (lambda f: npz(f, mu=np.array([{}], dtype=object)), "pickled Python objects"),
    "other names": (lambda f: npz(f, x=np.zeros(3)), "holds neither mu and sigma"),
    "one of two": (lambda f: npz(f, mu=np.zeros(3)), "holds neither mu and sigma"),
    "two sizes": (lambda f: npz(f, mu=np.zeros(3), sigma=np.eye(2)), r"mu is \(3,\) and sigma"),
    "not symmetric": (lambda f: npz(f, mu=np.zeros(2), sigma=SKEW), "not symmetric to 1e-6"),
    "negative": (lambda f: npz(f, mu=np.zeros(2), sigma=-np.eye(2)), "a negative variance"),
    "not finite": (lambda f: npz(f, mu=np.zeros(2), sigma=np.nan * np.eye(2)), "not finite"),
    "texts": (lambda f: npz(f, mu=np.array(["a"]), sigma=np.eye(1)), "not of floats"),
    "rows of another size": (
        lambda f: npz(f, mu=np.zeros(2), sigma=np.eye(2), sample=np.zeros((4, 3))),
        "rows of 3 features beside a mu of 2",
    ),
    "pictures of floats": (
        lambda f: npz(f, mu=np.zeros(2), sigma=np.eye(2), arr_0=np.zeros((2, 3, 3, 3))),
        "arr_0 is float64",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_reference_is_one_line(case, tmp_path):
    make, message = BAD[case]
    with pytest.raises(UserError, match=message) as error:
        read_reference(make(tmp_path / "a.npz"))
    assert "\n" not in str(error.value)


def test_pickles_are_not_opened(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(UserError, match="pickles are not loaded"):
        read_reference(tmp_path / "a.pkl")


def test_pictures_that_are_cut_short_are_one_line(tmp_path):
    with pytest.raises(UserError, match="arr_0 is cut short"):
        list(pictures_of(promising(tmp_path / "a.npz"), 4))


def test_nearly_symmetric_is_taken(tmp_path):
    """float32 statistics are symmetric to 1e-7 of the largest entry."""
    sigma = np.array([[100.0, 1.0], [1.0 + 5e-5, 1.0]])
    assert read_reference(npz(tmp_path / "a.npz", mu=np.zeros(2), sigma=sigma))


def test_other_features_are_refused(rng, tmp_path):
    x = rng.normal(size=(9, 3))
    write_reference(
        tmp_path / "a.npz", statistics(x), {"features": "f", "features_sha256": "12345678cd"}
    )
    found = read_reference(tmp_path / "a.npz")
    check_reference(found, "f", "12345678cd", 3)
    with pytest.raises(UserError, match="3 features a row, and g have 4"):
        check_reference(found, "g", "", 4)
    with pytest.raises(UserError, match=r"made with f features \(12345678\), and these are g"):
        check_reference(found, "g", "12345678cd", 3)
    with pytest.raises(UserError, match=r"these are f \(ffff\)"):
        check_reference(found, "f", "ffff", 3)
    anonymous = read_reference(npz(tmp_path / "b.npz", mu=np.zeros(3), sigma=np.eye(3)))
    check_reference(anonymous, "g", "ab", 3)
    assert isinstance(anonymous.statistics, Statistics)
