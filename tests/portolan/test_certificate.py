"""Certified times: read from the run, refused where there are none."""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from core.certificate import Examples
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath, TrigPath
from portolan import certificate
from portolan.certificate import Certificate, certified_grid, certified_times, check_finite
from portolan.maps import Map
from portolan.model import Abilities


def test_certified_times_are_read_from_the_run(tmp_path):
    (tmp_path / "certificate.json").write_text(json.dumps({"times": {"2": [1.0, 0.25, 0.0]}}))
    assert certified_times(tmp_path, 2) == (1.0, 0.25, 0.0)
    assert certified_times(tmp_path, 1) == (1.0, 0.0)
    grid = certified_grid(tmp_path)(TrigPath(), 2)
    assert np.allclose(grid, [np.pi / 2, np.arctan2(0.25, 0.75), 0], atol=1e-6)
    with pytest.raises(UserError, match="no times for 3 jumps"):
        certified_times(tmp_path, 3)


@pytest.mark.parametrize(
    ("text", "word"), [(None, "--certify"), ("{}", "make it again"), ("[1", "make it again")]
)
def test_a_run_without_a_certificate_says_how_to_make_one(tmp_path, text, word):
    if text is not None:
        (tmp_path / "certificate.json").write_text(text)
    with pytest.raises(UserError, match=word):
        certified_times(tmp_path, 4)


def test_the_summary_finds_the_worst_jump():
    table = np.array([[np.nan, 0.1, 0.3], [np.nan, np.nan, 0.5], [np.nan] * 3])
    found = Certificate((1.0, 0.5, 0.0), {"ode": table}, {}, {}, 0.0, 0.0, 2)
    (row,) = found.summary()
    assert (row["worst"], row["s"], row["t"]) == (0.5, 0.5, 0.0)
    assert (row["median"], row["whole jump"]) == (0.3, 0.3)
    assert found.to_json()["tables"]["ode"][2] == [None, None, None]


def test_tables_without_a_finite_number_are_one_line():
    good = {"ode": np.array([[np.nan, 0.1], [np.nan, np.nan]])}
    check_finite(good, "this map")
    with pytest.raises(UserError, match="this map are not finite.*--optim.rate"):
        check_finite({**good, "end": np.full((2, 2), np.nan)}, "this map")


def test_the_sets_own_map_is_none_of_coupled_noise(monkeypatch):
    """Its formula is that of independent noise."""
    monkeypatch.setattr(certificate, "memory", lambda *args, **more: {"map": np.ones(1)})
    x = np.zeros((4, 2), np.float32)
    still = AverageVelocityMap(net=lambda x, s, t, cond: x, path=LinearPath())
    model = Map(still, (2,), data=x)
    own = Examples(jnp.asarray(x), jnp.asarray(x))
    for noise, rows in (("independent", 1), ("coupled", 0)):
        model._abilities = Abilities(noise=noise)
        found = certificate._memory(model, model.dataset(), own, None, np.ones(1), 0)
        assert len(found) == rows
