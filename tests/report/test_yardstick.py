"""Several features at once, samples on disk, and the words for a distance."""

import dataclasses
import json

import numpy as np
import pytest

from core.data import DATA
from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.metrics import FeatureOrigin, Measured, statistics
from core.metrics.features import Pixels
from core.metrics.reference import read_reference, write_reference
from core.report import drawn as drawn_module
from core.report import yardstick
from core.report.drawn import drawn_to, examples, remove_stored, weights_sha256
from core.report.rows import Judge, Measurement, Plan, floors, measured
from core.report.words import how_made
from core.report.yardstick import of_data, of_file, samples_in
from core.sampling import SAMPLERS, drawing_of

MAP = AverageVelocityMap(lambda x, s, t, cond: 0.5 * x, LinearPath())


class Fake:
    """Features as those of a network: four numbers, and logits of two classes."""

    def __init__(self, family="efficientnet-lite0", dim=4):
        self.name, self.dim, self.calls = family, dim, 0
        self.origin = FeatureOrigin("5eed" * 16, "bicubic to 8", "none after", family)

    def __call__(self, examples):
        self.calls += 1
        return np.asarray(examples, np.float64).reshape(len(examples), -1)[:, : self.dim]

    def logits(self, examples):
        return np.asarray(examples, np.float64).reshape(len(examples), -1)[:, 20:22]


def drawing(nfe=1):
    return drawing_of(SAMPLERS["pushforward"], MAP.path, nfe)


@pytest.fixture(scope="module")
def digits():
    return DATA["digits"]().load()


def figures(row):
    return {name: value for name, value in row.items() if not isinstance(value, str)}


def plan_of(digits, sticks, n=120, **more):
    labels = digits.labels[:n]
    drawings = {"pushforward": [drawing()]}
    return Plan(digits.spec, drawings, labels, "in the data's shares", sticks, **more)


@pytest.mark.slow
@pytest.mark.ci
def test_samples_are_drawn_once_for_all_features(digits, monkeypatch):
    calls = []
    true = drawn_module.generate
    monkeypatch.setattr(drawn_module, "generate", lambda *a, **k: calls.append(1) or true(*a, **k))
    index = np.arange(120)
    sticks = [of_data(digits, one, index) for one in ("pixels", "pooled", Fake())]
    judge = Judge("a judge", lambda x: np.zeros(len(x), int))
    plan = plan_of(digits, sticks, judge=judge)
    found = measured(MAP, plan)
    assert len(calls) == 1
    assert [row["features"] for row in found.rows] == ["pixels", "pooled", "efficientnet-lite0"]
    share = float(np.mean(digits.labels[:120] == 0))
    assert all(row["accuracy"] == share for row in found.rows)
    by = {(one["features"], one["metric"]): one for one in found.numbers}
    kid = by["pooled", "kid"]
    assert (kid["subsets"], kid["subset_size"], kid["n"], kid["n_reference"]) == (25, 60, 120, 120)
    assert by["pixels", "accuracy"]["judge"] == "a judge"
    assert by["pixels", "coverage"]["k"] == 5 and by["pixels", "recall"]["k"] == 3
    score = by["efficientnet-lite0", "inception_score"]
    assert score["splits"] == 1 and score["reference"] is None and 1 <= score["value"] <= 2
    one = by["efficientnet-lite0", "frechet"]
    assert one["title"] == "FD (EfficientNet-Lite0)" and one["features_sha256"] == "5eed" * 16
    assert one["resize"] == "bicubic to 8"
    assert one["rounding"] == "floor(127.5 x + 128); none after"
    assert by["pixels", "frechet"]["rounding"] == "none"
    asked = {
        "metric", "value", "features", "features_sha256", "resize", "rounding", "n", "n_reference",
        "reference", "reference_sha256", "labels", "k", "splits", "sampler", "nfe", "guidance",
        "versions",
    }  # fmt: skip
    real = floors(plan, [None] * 3)
    assert all(asked <= set(number) for number in (*found.numbers, *real.numbers))
    assert real.names == ("real against real",) * 3 and real.rows[0]["n"] == 60
    json.dumps([found.rows, found.numbers, real.rows, real.numbers])


@pytest.mark.slow
@pytest.mark.ci
def test_samples_on_disk_give_the_numbers_of_those_in_memory(digits, tmp_path, monkeypatch):
    fake = Fake()
    sticks = [of_data(digits, one, np.arange(160)) for one in (Pixels(), fake)]
    plan = plan_of(digits, sticks)
    inside = measured(MAP, plan).rows
    stored = dataclasses.replace(plan, store=tmp_path)
    before = fake.calls
    kept = measured(MAP, stored)
    assert fake.calls == before + 1
    for one, two in zip(inside, kept.rows):
        assert one.keys() == two.keys()
        assert figures(one) == pytest.approx(figures(two), rel=1e-5, abs=1e-6)
    assert measured(MAP, stored).rows == kept.rows and fake.calls == before + 1
    monkeypatch.setattr(yardstick, "MOST_ROW_BYTES", 100)
    (pixels,) = measured(MAP, dataclasses.replace(stored, sticks=sticks[:1])).rows
    assert figures(pixels) == pytest.approx(figures(kept.rows[0]), rel=1e-6)
    (folder,) = tmp_path.iterdir()
    described = json.loads((folder / "drawing.json").read_text())
    assert described["seeds"] == "samples 0 to 119 of seed 0"
    (folder / "notes.txt").write_text("keep")
    remove_stored(folder)
    assert [file.name for file in folder.iterdir()] == ["notes.txt"]


def test_stored_samples_are_those_of_these_weights_and_settings_only(digits, tmp_path):
    def folder(field=MAP, drawing=drawing(), seed=0, labels=digits.labels[:20], about=None):
        about = about or {}
        return drawn_to(
            tmp_path, about, field, drawing, digits.spec, labels, seed=seed
        ).folder  # fmt: skip

    assert folder() == folder()
    found = [
        folder(), folder(drawing=drawing(2)), folder(seed=1), folder(labels=digits.labels[1:21]),
        folder(about={"step": 2}), folder(labels=digits.labels[:19]),
    ]  # fmt: skip
    assert len(set(found)) == len(found)
    one, same, moved = ({"a": np.array([1.0, w])} for w in (2, 2, 2.001))
    assert weights_sha256(one) == weights_sha256(same) != weights_sha256(moved)
    assert weights_sha256({"b": one["a"]}) != weights_sha256(one)


def test_features_that_do_not_fit_in_memory_give_the_same(rng, digits, monkeypatch):
    fake = Fake()
    whole = of_data(digits, fake, np.arange(1797))
    monkeypatch.setattr(yardstick, "MOST_ROW_BYTES", 100)
    lazy = of_data(digits, fake, np.arange(1797))
    assert not isinstance(lazy.reference.rows, np.ndarray)
    cov = whole.reference.statistics.cov
    np.testing.assert_allclose(lazy.reference.statistics.cov, cov, rtol=1e-10, atol=1e-14)
    assert lazy.floor(300)[0] == pytest.approx(whole.floor(300)[0], rel=1e-5)


def test_a_file_of_statistics_stands_for_the_data(digits, tmp_path):
    fake = Fake()
    data = of_data(digits, fake, np.arange(1797))
    write_reference(tmp_path / "r.npz", statistics(data.reference.rows), {"features": fake.name})
    stick = of_file(read_reference(tmp_path / "r.npz"), tmp_path / "r.npz", fake, "image")
    plan = plan_of(digits, [stick])
    row = measured(MAP, plan).rows[0]
    same = measured(MAP, plan_of(digits, [data])).rows[0]
    assert row["frechet"] == pytest.approx(same["frechet"])
    assert "kid" not in row and "accuracy" not in row and row["n_reference"] == 1797
    assert row["inception_score"] > 1
    real = floors(plan, [data])
    assert real.names == ("data against reference",)
    assert real.rows[0]["frechet"] == pytest.approx(0, abs=1e-9)
    assert floors(plan, [None]).rows == ()


def test_reference_pictures_of_a_file_are_its_rows(rng, tmp_path):
    pictures = rng.integers(0, 256, (40, 2, 2, 1)).astype(np.uint8)
    rows = pictures.reshape(40, 4) / 127.5 - 1
    found = statistics(rows)
    np.savez(tmp_path / "adm.npz", mu=found.mean, sigma=found.cov, arr_0=pictures)
    stick = of_file(read_reference(tmp_path / "adm.npz"), tmp_path / "adm.npz", Fake(), "image")
    np.testing.assert_allclose(stick.reference.rows, rows, atol=1e-6)
    assert stick.reference.n is None


def test_a_distance_of_few_samples_is_left_out_unless_it_is_asked_for(digits):
    wide = Fake(dim=64)
    stick = of_data(digits, wide, np.arange(100), allow_few=False)
    assert stick.too_few(64) and "64 features need more than 64 samples" in stick.too_few(64)
    assert "kid works" in stick.too_few(64) and stick.too_few(65) is None
    few = plan_of(digits, [stick], n=60)
    row = measured(MAP, few).rows[0]
    assert "frechet" not in row and "kid" in row
    asked = of_data(digits, wide, np.arange(100), allow_few=True)
    assert "frechet" in measured(MAP, plan_of(digits, [asked], n=60)).rows[0]
    assert "frechet" in measured(MAP, plan_of(digits, [stick], n=65)).rows[0]


@pytest.mark.parametrize(
    "family, n, says",
    [
        ("inception-2015", 10_000, "FID 2.50: heun, 3 evaluations, guidance 2"),
        ("inception-2015", 9_999, "frechet is FD (Inception-2015): "),
        ("efficientnet-lite0", 50_000, "frechet is FD (EfficientNet-Lite0): "),
        ("dinov2", 50_000, "frechet is FD (DINOv2): "),
    ],
)
def test_fid_is_said_of_inception_and_10_000_samples_only(digits, family, n, says):
    fake = Fake(family)
    stick = of_data(digits, fake, np.arange(50))
    stick = dataclasses.replace(stick, name="ref.npz", sha256="ab" * 32)
    head = {"sampler": "heun", "nfe": 3, "guidance": 2.0, "rounding": "none"}
    numbers = stick.entries({"frechet": Measured(2.5, n, None)}, head)
    plan = Plan(digits.spec, {}, n, "balanced", [stick])
    text = "\n".join(how_made(plan, Measurement((), tuple(numbers), ())))
    assert text.startswith(says)
    assert ("FID" in text) == (family == "inception-2015" and n == 10_000)
    for part in (
        "bicubic to 8",
        "bytes floor(127.5 x + 128); none after",
        f"n {n:,}",
        "5eed5eed5eed",
        "abab",
    ):
        assert part in text
    assert numbers[0]["title"] == ("FID" if "FID" in text else says[11:-2])


def test_features_of_another_size_are_refused(digits):
    stick = of_data(digits, Fake(dim=3), np.arange(50))
    with pytest.raises(UserError, match="4 features and the reference 3"):
        stick.against(of_data(digits, Fake(), np.arange(50)).reference)


def test_features_are_taken_a_piece_at_a_time(rng):
    class Seen(Fake):
        def __call__(self, examples):
            assert len(examples) <= 1024
            return super().__call__(examples)

    x = rng.normal(size=(3000, 2, 2, 1))
    some = drawn_module.Drawn(3000, 1, None, lambda index: x[index])
    np.testing.assert_array_equal(samples_in(Seen(), some).rows, x.reshape(3000, 4))


def test_a_judge_names_real_examples_as_it_does_samples(digits):
    """And the nearest neighbour's accuracy does not stand below what the judge says."""
    stick = of_data(digits, "pixels", np.arange(120))
    plan = plan_of(digits, [stick], judge=Judge("a judge", lambda x: np.zeros(len(x), int)))
    real = examples(digits, np.arange(200, 300))
    found = floors(plan, [None], real)
    share = float(np.mean(digits.labels[200:300] == 0))
    assert found.rows[0]["accuracy"] == share
    (number,) = [one for one in found.numbers if one["metric"] == "accuracy"]
    assert (number["value"], number["n"], number["judge"]) == (share, 100, "a judge")
    assert "accuracy" not in floors(plan, [None]).rows[0]
    assert floors(plan_of(digits, [stick]), [None]).rows[0]["accuracy"] > 0.5
