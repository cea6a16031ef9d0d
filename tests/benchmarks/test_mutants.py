"""The changes that the mutation run makes, and who judges them."""

import pytest

from benchmarks._mutations import mutants
from benchmarks.mutants import MutantsConfig, files_that_test, judges, verdict_on

SOURCE = """
class Jump(Term):
    @property
    def declares(self):
        return Declares((VALUE - 1,))

    def __call__(self, model, target, row):
        near = target(row.x_s, row.s - row.u[0 - 1]) + model.path.end
        return jnp.sqrt(model(row)) - stop(near / 2)
"""
NEAR = "target(row.x_s, row.s - row.u[0 - 1]) + model.path.end"
LAST = "        return jnp.sqrt(model(row)) - stop(near / 2)\n"


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "jump.py").write_text(SOURCE)
    return tmp_path


def test_stops_slots_weights_and_signs_are_changed_one_at_a_time(repository):
    found = mutants(repository, "jump.py")
    assert {(m.kind, m.before, m.after) for m in found} == {
        ("sign", "row.s - row.u[0 - 1]", "row.s + (row.u[0 - 1])"),
        ("sign", NEAR, "target(row.x_s, row.s - row.u[0 - 1]) - (model.path.end)"),
        ("slot", "target", "model"),
        ("slot", "model", "target"),
        ("weight", "jnp.sqrt(model(row))", "(model(row))"),
        ("stop", "stop(near / 2)", "(near / 2)"),
        ("weight", "near / 2", "near"),
        ("sign", LAST.strip().removeprefix("return "), "jnp.sqrt(model(row)) + (stop(near / 2))"),
    }
    (stop,) = (m for m in found if m.kind == "stop")
    assert stop.source(repository) == SOURCE.replace("stop(near / 2)", "(near / 2)")


def test_a_file_is_judged_by_the_methods_and_the_tests_that_use_it():
    assert judges("plugins/lagrangian/lsd.py") == ["lsd", "tvm"]
    assert "shortcut" in judges("plugins/compositional/halves.py")
    assert "gft" in judges("core/objectives/guidance.py")
    assert [
        p.name for p in files_that_test("plugins/meanflow/mf.py") if p.name == "test_gradients.py"
    ]


@pytest.mark.parametrize(
    "status, tests, verdict",
    [(1, 0, "check"), (2, 0, "error"), (0, 1, "tests"), (0, 0, "nobody"), (0, None, "no effect")],
)
def test_the_check_judges_before_the_tests_and_the_file_is_restored(
    status, tests, verdict, repository, monkeypatch
):
    seen = []

    def run(module, root):
        text = (root / "jump.py").read_text()
        seen.append((module[0], text))
        damage = "" if tests is None else f"damaged by {text}"
        return (status, damage) if module[0] == "benchmarks.mutants" else (tests, "")

    mutant = next(m for m in mutants(repository, "jump.py") if m.kind == "stop")

    monkeypatch.setattr("benchmarks.mutants.ROOT", repository)
    monkeypatch.setattr("benchmarks.mutants._run", run)
    monkeypatch.setattr("benchmarks.mutants.judges", lambda file: ["mf"])
    monkeypatch.setattr(
        "benchmarks.mutants.files_that_test", lambda file: [repository / "test_jump.py"]
    )
    monkeypatch.setattr("benchmarks.mutants._undamaged", lambda judge: (0, ""))
    assert verdict_on(mutant, repository, MutantsConfig())["found by"] == verdict
    judge = ["benchmarks.mutants"]  # gradients, and values where those are others but right
    asked = judge if status else judge * (1 + (tests is not None)) + ["pytest"]
    assert [name for name, _ in seen] == asked
    assert all(text == mutant.source(repository) for _, text in seen if text != SOURCE)
    assert seen[0][1] != SOURCE and (repository / "jump.py").read_text() == SOURCE
