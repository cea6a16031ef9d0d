"""Training steps in forward passes, on tiny networks."""

import json
import time

import pytest

from benchmarks import step
from core.errors import UserError
from core.methods.registry import find_plugin, plugins

TINY = "--plugins mf --width 64 --depth 2 --points 128 --rounds 1 --square 32 --compile-depth 0"


@pytest.mark.long
def test_a_loop_over_layers_counts_in_full():
    """MeanFlow with a quarter of jumps is 0.75 x 3 + 0.25 x 4 forward passes. Were the loop's body
    counted once, two layers would make half."""
    config = step.StepConfig(width=64, depth=2, size=8, batch=16)
    setting = step.setting_of(config, "dit")
    assert setting.flags.unroll == 1 and setting.flags.remat == "dots"
    bench = setting.bench(setting.counted)
    unit = step.flops(step.once_forward(bench)[0])
    mf = step.count(bench, find_plugin("mf").preset("image"))
    tokens, width = 16, 64
    layers = 2 * tokens * (24 * width**2 + 4 * tokens * width) * config.batch
    assert unit == pytest.approx(layers, rel=0.15)
    assert mf / unit == pytest.approx(3.25, rel=0.05)


@pytest.mark.slow
def test_figures_of_a_row_belong_together(tmp_path):
    out = tmp_path / "step.json"
    found = step.main([*TINY.split(), "--nets", "mlp", "--json", "--out", str(out)])
    assert found is not None and json.loads(out.read_text()) == found
    assert "mf over fm: time ratio / operations ratio" in out.with_suffix(".md").read_text()
    fm, mf = found["rows"]
    assert (fm["net"], fm["plugin"], mf["plugin"]) == ("mlp", "fm", "mf")
    assert fm["fpe_operations"] == pytest.approx(3, rel=0.15)
    assert fm["time_over_fm"] == fm["operations_over_fm"] == 1
    assert found["mf_over_fm"]["mlp"] == pytest.approx(
        mf["time_over_fm"] / mf["operations_over_fm"], rel=0.01
    )
    rates = found["rates"]["mlp"]
    for row in (fm, mf):
        square, own = (row["utilisation"][name] * rates[name] for name in ("square", "own"))
        assert square == pytest.approx(own, abs=1e-3 * max(rates.values()))
        assert row["parameters"] == fm["parameters"] > 0 and row["memory_mib"] > 0


def test_the_same_step_is_compiled_as_a_loop_and_unrolled(monkeypatch):
    seen = []

    class Program:
        def __init__(self, method, batch):
            self.flags = method.flow_map.net.config
            seen.append((self.flags.depth, self.flags.unroll))

        def compile(self):
            time.sleep(0.05 * self.flags.unroll)

    monkeypatch.setattr(step, "lower_step", lambda *given: (Program(*given),))
    times = step.compile_times(step.StepConfig(size=4, compile_depth=3, compile_width=8), "mf")
    assert seen == [(3, 1), (3, 3)]
    assert (times["plugin"], times["depth"], times["width"]) == ("mf", 3, 8)
    assert times["scanned"] < times["unrolled"]
    assert times["scanned_over_unrolled"] == pytest.approx(
        times["scanned"] / times["unrolled"], abs=0.1
    )


def test_convolutions_count_as_the_products_that_they_are():
    """Of 2 images of 4 x 4: 32 pixels, then 8 of twice the channels."""
    config = step.StepConfig(channels=3, size=4, batch=2)
    assert step.setting_of(config, "unet").products == [(32, 27, 3), (8, 54, 6)]


def test_all_means_every_method_that_trains_from_scratch():
    names = step.chosen(("all",))
    assert names[0] == "fm" and len(names) == len(set(names)) > 10
    assert {"mf", "lsd", "ct", "shortcut"} < set(names)
    assert not any(plugins()[name].needs_teacher or plugins()[name].tunes for name in names)
    with pytest.raises(UserError, match="cd needs a teacher"):
        step.chosen(("cd",))
