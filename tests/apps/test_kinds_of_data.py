"""Series, pictures of many channels and tables: trained, opened without their data, in their own
units."""

import numpy as np
import pytest

from tests.apps.inside import run

pytestmark = [pytest.mark.slow, pytest.mark.programs(200)]

RNG = np.random.default_rng(0)
TINY = [
    "--plugin", "fm", "--batch", "8", "--steps", "4", "--dispatch", "2", "--sample-every", "0",
    "--nfe", "1", "--data", "arrays",
]  # fmt: skip
DIT = ["--net.width", "8", "--net.depth", "1", "--net.heads", "1"]
WAVE = 50 + 9 * np.sin(np.linspace(0, 6, 24) + RNG.uniform(0, 6, (40, 1)))
CASES = {
    "series": (np.stack([WAVE, 0.1 * WAVE], -1), ["--data.kind", "series", *DIT], "series"),
    "seven channels": (
        RNG.normal(500, 20, (40, 4, 4, 7)), ["--data.values", "standard", "--net.patch", "2", *DIT],
        "image",
    ),
    "a table": (
        RNG.normal(500, 20, (40, 5)), ["--data.values", "standard", "--net.width", "8"], "points",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_samples_are_in_the_units_of_the_data_which_may_be_gone(tmp_path, case):
    x, flags, kind = CASES[case]
    file, folder = tmp_path / "x.npz", tmp_path / "run"
    np.savez(file, x=x, labels=np.array(["low", "high"])[np.arange(40) % 2])
    flags = [*TINY, "--data.path", str(file), *flags, "--run", str(folder), "--json"]
    status, _, _ = run("train", *flags)
    assert status == 0
    assert (folder / "samples" / "final_1.png").exists()
    file.unlink()
    status, _, result = run("sample", "--run", folder, "--n", 7, "--label", "high", "--json")
    assert status == 0 and result is not None
    with np.load(result["values"]) as values:
        samples = values["samples"]
    assert samples.shape == (7, *x.shape[1:])
    centre, spread = x.reshape(-1, x.shape[-1]).mean(0), x.reshape(-1, x.shape[-1]).std(0)
    found = samples.reshape(-1, x.shape[-1])
    assert (np.abs(found.mean(0) - centre) < 2 * spread).all()
    assert (folder / "data.toml").read_text().count(f'kind = "{kind}"') == 1
