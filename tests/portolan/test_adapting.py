"""Adapters from Python and from the commands: added to a model, exported, packed."""

import equinox as eqx
import numpy as np
import pytest

import portolan as po
from apps import eval as eval_app
from apps import export as export_app
from apps import sample as sample_app
from core.train.checkpoint import by_name
from tests.train.conftest import LABELLED, TINY
from tests.train.runs import make_run

pytestmark = pytest.mark.programs(100)  # runs are built, saved and opened

ADAPTER = ["--plugin", "imf", "--adapter.rank", "2"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run and one with an adapter on it."""
    place = tmp_path_factory.mktemp("runs")
    make_run(place / "fm", *TINY, *LABELLED, "--plugin", "fm")
    make_run(place / "small", *TINY, *LABELLED, *ADAPTER, "--init", place / "fm", drawn=1)
    return place


def weights(model):
    arrays = eqx.filter(model.flow_map, eqx.is_inexact_array)
    return {name: np.asarray(leaf) for name, leaf in by_name(arrays).items()}


def same(one, other, atol=1e-6):
    return one.keys() == other.keys() and all(
        np.allclose(one[name], other[name], atol=atol) for name in one
    )


def test_an_adapter_on_its_base_is_the_map_that_was_trained(runs):
    base, whole = po.open(runs / "fm"), weights(po.open(runs / "small"))
    plain = weights(base)
    assert same(weights(base.with_adapters(runs / "small")), whole)
    half = weights(base.with_adapters((runs / "small", 0.5)))
    assert same(half, {name: (plain[name] + whole[name]) / 2 for name in plain})
    twice = base.with_adapters((runs / "small", 0.25), (runs / "small", 0.25))
    assert same(weights(twice), half) and not same(plain, whole, 1e-3)
    assert same(weights(base), plain)


def test_a_changed_run_is_saved_by_its_weights_alone(runs, tmp_path):
    changed = po.open(runs / "fm").with_adapters(runs / "small")
    with pytest.raises(po.UserError, match="weights='float32'"):
        changed.save(tmp_path / "copy")
    assert same(weights(changed.save(tmp_path / "copy", weights="float32")), weights(changed))


@pytest.mark.parametrize(
    "given, message",
    [
        ("fm", "fm is a run without an adapter; make one by apps.train --adapter.rank"),
        ("nowhere", "no adapter .*nowhere"),
    ],
)
def test_what_is_no_adapter_is_one_line(given, message, runs):
    with pytest.raises(po.UserError, match=message):
        po.open(runs / "fm").with_adapters(runs / given)


def test_export_writes_the_adapter_alone_and_a_run_without_a_base(runs, tmp_path):
    run, whole = str(runs / "small"), weights(po.open(runs / "small"))
    for keys in ("own", "peft", "kohya"):
        out = tmp_path / keys
        flags = ["--run", run, "--adapter-only", "--keys", keys, "--out", str(out), "--json"]
        result = export_app.main(flags)
        assert result is not None and result["parameters"] == 2 * ((2 + 8) + (8 + 8))
        assert same(weights(po.open(runs / "fm").with_adapters(out)), whole)
    export_app.main(["--run", run, "--packed", "float32", "--out", str(tmp_path / "packed")])
    (runs / "fm").rename(runs / "gone")
    try:
        assert same(weights(po.open(tmp_path / "packed")), whole)
    finally:
        (runs / "gone").rename(runs / "fm")
    with pytest.raises(po.UserError, match="has no adapter for --adapter-only"):
        export_app.main(["--run", str(runs / "fm"), "--adapter-only"])


@pytest.mark.slow
def test_the_commands_take_a_run_with_an_adapter_and_adapters_themselves(runs, tmp_path):
    drawn = []
    base = ["--run", str(runs / "fm"), "--sampler", "euler"]
    added = [*base, "--adapter", str(runs / "small")]
    for n, flags in enumerate((added, [*added[:-1], f"{runs / 'small'}:0"], base)):
        sample_app.main([*flags, "--n", "8", "--seed", "3", "--out", f"{tmp_path}/{n}"])
        drawn.append(np.load(f"{tmp_path}/{n}.npz")["samples"])
    np.testing.assert_array_equal(drawn[1], drawn[2])
    assert np.abs(drawn[0] - drawn[2]).max() > 1e-3
    out = ["--out", f"{tmp_path}/eval.json", "--json"]
    result = eval_app.main([*added, "--nfe", "1", "--n", "16", *out])
    assert result is not None and result["sampling"]["adapter"] == (str(runs / "small"),)
    by_ddim = ["--run", str(runs / "fm"), "--sampler", "ddim", *added[-2:]]
    export_app.main([*by_ddim, "--nfe", "1", "--platforms", "cpu", "--out", f"{tmp_path}/e"])
