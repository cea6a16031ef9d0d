"""Comparing methods: equal budgets, means over seeds, the table."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from core.errors import UserError
from core.report.compare import (
    Cell,
    as_json,
    cells_in,
    has_loop,
    markdown,
    metrics_of,
    steps_for,
    summarise,
)

TAUGHT = {"run": "runs/teacher", "samples": 7000, "flops": 5e9}


def cell(plugin="imf", seed=0, w2=(0.5, 0.25), **changes):
    """A cell of 100 steps of 32, with these distances at 1, 2, ... evaluations."""
    rows = [{"nfe": i + 1, "n": 64, "w2": value} for i, value in enumerate(w2)]
    made = Cell(
        plugin=plugin,
        family="meanflow",
        sampler="pushforward",
        seed=seed,
        config={"plugin": {"name": plugin}, "data": {"name": "spiral"}, "seed": seed, "batch": 32},
        shared={"batch": 32, "comparison": {"budget": "samples"}},
        kind="points",
        n=64,
        features="pixels",
        steps=100,
        batch=32,
        parameters=10,
        seconds=2.0,
        flops=1e6,
        loop=False,
        teacher=None,
        nfe=[row["nfe"] for row in rows],
        rows=rows,
        reference={"n": 64, "w2": 0.125},
        versions={},
    )
    return replace(made, **changes)


def table(text):
    """The rows of the first table in Markdown, by their first column, as dicts."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
    end = next((i for i, row in enumerate(rows[2:], 2) if row[0] == "method"), len(rows))
    return {row[0]: dict(zip(rows[0], row)) for row in rows[2:end]}


# --- Aggregation ---


def test_seeds_become_mean_and_sample_deviation():
    values = np.random.default_rng(0).uniform(0.1, 2, (3, 2))
    (summary,) = summarise([cell(seed=i, w2=tuple(row)) for i, row in enumerate(values)])
    assert summary.seeds == [0, 1, 2] and summary.samples == 3200 and summary.flops == 1e8
    for nfe in (1, 2):
        spread = summary.at("w2", nfe)
        assert spread is not None and spread.count == 3
        assert spread.mean == pytest.approx(values[:, nfe - 1].mean())
        assert spread.std == pytest.approx(values[:, nfe - 1].std(ddof=1))


def test_one_seed_has_no_deviation():
    (summary,) = summarise([cell()])
    assert summary.at("w2", 1).std is None and summary.at("w2", 1).mean == 0.5
    assert summary.at("w2", 8) is None and summary.at("kl", 1) is None


def test_the_best_at_one_evaluation_comes_first_and_who_has_none_last():
    only_two = cell("c", rows=[{"nfe": 2, "w2": 0.01}])
    cells = [cell("a", w2=(0.5, 0.1)), cell("b", w2=(0.4, 0.3)), only_two]
    assert [summary.plugin for summary in summarise(cells)] == ["b", "a", "c"]


def test_seeds_that_were_trained_otherwise_are_refused():
    other = cell(seed=1)
    with pytest.raises(UserError, match="imf: the settings of seeds 0 and 1 differ"):
        summarise([cell(), replace(other, config={**other.config, "batch": 64})])


def test_metrics_follow_the_kind_of_the_data():
    rows = [{"nfe": 1, "frechet": 2.0, "w2": 1.0, "accuracy": 0.9}]
    assert metrics_of([cell(rows=rows)]) == ["w2"]
    assert metrics_of([cell(rows=rows, kind="image")]) == ["frechet", "accuracy"]


def test_the_cost_of_a_teacher_is_added_where_it_is_known():
    unknown = {**TAUGHT, "flops": None}
    cells = [
        cell("a"),
        cell("b", teacher=TAUGHT),
        cell("c", teacher=unknown),
        cell("d", flops=None),
    ]
    assert {s.plugin: s.all_flops for s in summarise(cells)} == {
        "a": 1e8, "b": 1e8 + 5e9, "c": None, "d": None,
    }  # fmt: skip


# --- The table ---


def test_the_table_has_a_row_a_method_and_the_floor():
    cells = [cell(seed=i, w2=(value, 12.5)) for i, value in enumerate((0.01, 0.02, 0.03))]
    text = markdown([*cells, cell("fm", w2=(3.0,), seconds=1234.5)])
    rows = table(text)
    assert list(rows) == ["imf", "fm", "real against real"]
    assert rows["imf"]["1"] == "0.0200 ± 0.0100" and rows["imf"]["2"] == "12.5 ± 0.0"
    assert rows["imf"]["seconds"] == "2.00 ± 0.00" and rows["fm"]["seconds"] == "1,234"
    assert rows["fm"]["1"] == "3.00" and rows["fm"]["2"] == ""
    assert rows["fm"]["steps"] == "100" and rows["fm"]["samples"] == "3,200"
    assert rows["fm"]["training FLOPs"] == "1.00e8"
    assert rows["real against real"]["1"] == "0.125"
    assert "spiral" in text and "seeds (1 to 3 a method)" in text
    assert "teacher samples" not in rows["fm"]


def test_the_table_names_teachers_and_counts_that_fall_short():
    unknown = cell("c", teacher={**TAUGHT, "samples": None}, loop=True)
    rows = table(markdown([cell("a"), cell("b", teacher=TAUGHT), unknown]))
    assert [rows[name]["teacher samples"] for name in "abc"] == ["", "7,000", "unknown"]
    assert rows["c"]["training FLOPs"].endswith("\\*")
    assert not rows["b"]["training FLOPs"].endswith("*")


def test_json_holds_every_cell_and_every_mean():
    cells = [cell(seed=0), cell(seed=1, w2=(1.5, 0.25))]
    found = json.loads(json.dumps(as_json(cells)))
    assert [entry["rows"][0]["w2"] for entry in found["cells"]] == [0.5, 1.5]
    assert found["methods"][0]["quality"]["w2"]["1"]["mean"] == 1.0
    assert found["reference"]["w2"] == 0.125 and found["cells"][0]["total_flops"] == 1e8


# --- Files ---


def test_cells_are_found_again_and_the_teacher_is_none_of_them(tmp_path):
    for name, made in {"imf-1": cell(seed=1), "fm-0": cell("fm"), "teacher": cell("fm")}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "cell.json").write_text(json.dumps(made.to_json()))
    assert cells_in(tmp_path) == [cell("fm"), cell(seed=1)]
    (tmp_path / "fm-0" / "cell.json").write_text('{"plugin": "fm"')
    with pytest.raises(UserError, match="fm-0/cell.json is damaged"):
        cells_in(tmp_path)


# --- Budgets ---


def test_equal_operations():
    assert steps_for(2e6, 1e6, 1000) == 500
    assert steps_for(3e6, 1e6, 1000) * 3 == pytest.approx(1000, abs=1.5)
    assert steps_for(1e9, 1.0, 10) == 1
    with pytest.raises(UserError, match="--budget samples"):
        steps_for(float("nan"), 1e6, 10)


def loop_in(f, *args):
    return has_loop(jax.make_jaxpr(f)(*args).jaxpr)


def test_a_loop_with_products_is_found_wherever_it_hides():
    a = jnp.eye(3)

    def chain(length, unroll=1):
        def body(x, _):
            return a @ x, None

        return lambda x: jax.lax.scan(body, x, None, length=length, unroll=unroll)[0]

    x = jnp.ones(3)
    assert loop_in(chain(4), x) and loop_in(jax.jit(chain(4)), x)
    assert loop_in(lambda x: jax.grad(lambda y: chain(4)(y).sum())(x), x)
    assert loop_in(lambda x: jax.lax.while_loop(lambda y: y[0] < 9, lambda y: a @ y + 1, x), x)
    assert not loop_in(chain(1), x) and not loop_in(chain(4, unroll=4), x)
    assert not loop_in(lambda x: jax.lax.fori_loop(0, 5, lambda i, y: y + 1, x), x)
