"""Training steps in forward passes, on tiny networks."""

import json

import pytest

from benchmarks import step
from core.errors import UserError
from core.plugin import plugins

pytestmark = pytest.mark.slow

TINY = (
    "--plugins mf --width 64 --depth 2 --size 8 --batch 16 --points 128 --rounds 2 --square 32 "
    "--compile-depth 2 --nets mlp dit --json --out"
).split()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    out = tmp_path_factory.mktemp("step") / "step.json"
    result = step.main([*TINY, str(out)])
    assert json.loads(out.read_text()) == result
    assert "mf over fm" in out.with_suffix(".md").read_text()
    return result


def row(found, net, plugin):
    return next(r for r in found["rows"] if (r["net"], r["plugin"]) == (net, plugin))


def test_flow_matching_costs_three_forward_passes(found):
    """One forward and two backward; in networks so small the rest of a step is seen too."""
    assert row(found, "dit", "fm")["fpe_operations"] == pytest.approx(3, rel=0.1)
    assert row(found, "mlp", "fm")["fpe_operations"] == pytest.approx(3, rel=0.15)


def test_a_quarter_of_jumps_costs_meanflow_a_quarter_of_a_tangent_more(found):
    """(0.75 x 3 + 0.25 x 4) / 3, layers of the loop counted in full."""
    assert row(found, "dit", "mf")["operations_over_fm"] == pytest.approx(3.25 / 3, rel=0.05)


def test_figures_of_a_row_belong_together(found):
    assert {(r["net"], r["plugin"]) for r in found["rows"]} == {
        (net, plugin) for net in ("mlp", "dit") for plugin in ("fm", "mf")
    }
    for r in found["rows"]:
        rates, used = found["rates"][r["net"]], r["utilisation"]
        assert used["square"] * rates["square"] == pytest.approx(
            used["own"] * rates["own"], rel=0.05, abs=1e-3 * max(rates.values())
        )
        assert r["parameters"] > 0 and r["memory_mib"] > 0 and r["fpe_time"] > 0
    for net in ("mlp", "dit"):
        mf = row(found, net, "mf")
        assert row(found, net, "fm")["time_over_fm"] == 1
        assert found["mf_over_fm"][net] == pytest.approx(
            mf["time_over_fm"] / mf["operations_over_fm"], rel=0.01
        )


def test_compile_times_are_of_the_depth_asked_for(found):
    times = found["compile"]
    assert times["depth"] == 2
    assert times["scanned_over_unrolled"] == pytest.approx(
        times["scanned"] / times["unrolled"], rel=0.05
    )


def test_all_means_every_method_that_trains_from_scratch():
    names = step.chosen(("all",))
    assert names[0] == "fm" and len(names) == len(set(names)) > 10
    assert {"mf", "lsd", "ct", "shortcut"} < set(names)
    assert not any(plugins()[name].needs_teacher or plugins()[name].tunes for name in names)
    with pytest.raises(UserError, match="cd needs a teacher"):
        step.chosen(("cd",))
