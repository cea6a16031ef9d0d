"""Items by name: found, listed, added once."""

import pytest

from core.data import DATA
from core.errors import UserError
from core.metrics import FEATURES
from core.nets import NETS
from core.registry import Registry
from core.sampling import SAMPLERS
from core.sampling.jumps import Gamma


def test_it_reads_like_a_dictionary_in_the_order_of_addition():
    things = Registry("thing", {"b": 1})
    assert things.add("a", 2) == 2
    assert list(things) == ["b", "a"] and len(things) == 2
    assert things["a"] == 2 and "c" not in things and things.get("c") is None
    with pytest.raises(KeyError):
        things["c"]


def test_a_name_is_taken_once_and_the_same_item_may_come_again():
    with SAMPLERS.scope():
        SAMPLERS.add("gamma", SAMPLERS["gamma"])
        with pytest.raises(ValueError, match="the sampler 'gamma' is taken by core.sampling"):
            SAMPLERS.add("gamma", Gamma(0.25))
        SAMPLERS.add("gentle", Gamma(0.25))
        assert SAMPLERS.find("gentle").gamma == 0.25
    assert "gentle" not in SAMPLERS


@pytest.mark.parametrize(
    "kind, asked, near",
    [(SAMPLERS, "huen", "heun"), (NETS, "ditt", "dit"), (DATA, "digit", "digits"),
     (FEATURES, "pixel", "pixels")],
)  # fmt: skip
def test_an_unknown_name_is_reported_with_the_nearest_one(kind, asked, near):
    with pytest.raises(UserError, match=f"unknown {kind.what} '{asked}'; did you mean '{near}'"):
        kind.find(asked)


def test_an_installed_package_is_imported_when_a_name_is_not_known(monkeypatch, tmp_path):
    (tmp_path / "adds_a_sampler.py").write_text(
        "from core.sampling import SAMPLERS\n"
        "from core.sampling.jumps import Gamma\n"
        "SAMPLERS.add('added', Gamma(0.75))\n"
    )
    info = tmp_path / "adds-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: adds\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[portolan.plugins]\nadds = adds_a_sampler\n")
    monkeypatch.syspath_prepend(tmp_path)
    with SAMPLERS.scope():
        assert SAMPLERS["added"].gamma == 0.75 and "added" in list(SAMPLERS)
