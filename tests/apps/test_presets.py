"""The defaults of a method by kind of data: what is printed, and what the pages say."""

import dataclasses
import functools
import json
from pathlib import Path

import pytest

from apps.plugins import PluginsConfig, main, recipes
from core.errors import UserError
from core.methods import Recipe, by_kind, plugins
from core.methods.presets import KINDS, defaults
from core.train.recipe import recipe
from plugins.meanflow import IMF, MF

PAGES = Path(__file__).parents[2] / "docs" / "methods"
FAMILIES = sorted({plugin.card.family for plugin in plugins().values()})


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_of_a_family_has_the_table_of_its_defaults(family, capsys):
    main(["--presets", family])
    page = PAGES / f"{family.lower().replace(' ', '_')}.md"
    heading, *rows = capsys.readouterr().out.splitlines()
    assert heading == "| method | flag | points | small images | images |"
    text = page.read_text().split("## Defaults by kind of data")[1]
    assert [line for line in text.splitlines() if line.startswith("|")] == [heading, *rows]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_page_of_a_family_has_the_table_of_its_recipes(family, capsys):
    """And nothing where there is neither a figure nor a published recipe."""
    recipes((family,), PluginsConfig(recipes=family))
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = (PAGES / f"{family.lower().replace(' ', '_')}.md").read_text()
    text = page.partition("## Recipes\n")[2].partition("\n## ")[0]
    assert not printed or [line for line in text.splitlines() if line.startswith("|")] == printed


@functools.cache
def measured(source):
    """The means of a comparison by method, metric and evaluations."""
    found = json.loads((PAGES.parent / "results" / f"{source}.json").read_text())["methods"]
    return {each["plugin"]: each["quality"] for each in found}


RECIPES = [
    (name, each) for name, plugin in plugins().items() for each in vars(plugin).get("recipes", ())
]


def test_the_figures_of_recipes_are_those_that_were_measured():
    assert len(RECIPES) >= 50
    for name, each in [(name, each) for name, each in RECIPES if each.source]:
        quality = measured(each.source)[name]["w2" if each.kind == "points" else "frechet"]
        for count, figure in (("1", each.one), ("4", each.four)):
            known = quality.get(count, {}).get("mean")
            assert (figure is None) == (known is None), (name, each.kind, count)
            assert figure is None or figure == pytest.approx(known, rel=5.1e-3), (name, each.kind)


def test_a_recipe_changes_what_its_kind_of_data_trains_with_and_nothing_else(monkeypatch):
    before = {kind: recipe(MF, "digits", None, kind=kind) for kind in KINDS}
    own = Recipe("small-image", "digits", 100, flags={"optim.rate": 0.5, "ema": 0.25})
    monkeypatch.setattr(MF, "recipes", (own,))
    after = {kind: recipe(MF, "digits", None, kind=kind) for kind in KINDS}
    assert [kind for kind in KINDS if before[kind] != after[kind]] == ["small-image"]
    assert after["small-image"].optim.rate == 0.5 and after["small-image"].ema == 0.25
    assert after["small-image"].optim.b2 == before["small-image"].optim.b2
    assert recipe(IMF, "digits", None, kind="small-image").optim.rate == 3e-3


@pytest.mark.parametrize(
    "more, message",
    [
        ({"flags": {"plugin.full": 0.0}}, "not plugin.full"),
        ({"one": 0.5}, "needs its source"),
        ({"source": "x"}, "needs its source"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(more, message):
    with pytest.raises(ValueError, match=message):
        Recipe("points", "checkerboard", 100, **more)


def test_the_recipes_of_a_method_are_printed_with_what_its_paper_takes():
    found = main(["mf", "--json"])
    assert [row["data"] for row in found["recipes"]] == ["checkerboard", "digits"]
    assert {row["file"] for row in found["published"]} == {
        "`mf-cifar10.toml`", "`mf-imagenet256.toml`",
    }  # fmt: skip


def test_the_table_of_a_method_has_what_it_trains_with(capsys):
    rows = main(["--presets", "mf", "--json"])["presets"]
    power = next(row for row in rows if row["flag"] == "`--plugin.power`")
    assert [power[kind] for kind in ("points", "small images", "images")] == ["0.0", "0.0", "1.0"]
    assert [MF.preset(kind).power for kind in ("points", "small-image", "image")] == [0, 0, 1]
    assert capsys.readouterr().out.count("\n") == 2 + len(rows)


def test_an_unknown_method_or_family_is_named():
    with pytest.raises(UserError, match="no method or family 'mean'; families: Eulerian"):
        main(["--presets", "mean"])


@dataclasses.dataclass(frozen=True)
class Base:
    a: float = by_kind(1.0, points=2.0, small_image=3.0)
    b: int = 4


@dataclasses.dataclass(frozen=True)
class Heir(Base):
    a: float = by_kind(5.0, small_image=6.0)
    b: int = by_kind(4, points=0)


def test_a_field_declared_again_decides_for_all_kinds():
    assert [defaults(Base, kind) for kind in KINDS] == [{"a": 2.0}, {"a": 3.0}, {}]
    assert [defaults(Heir, kind) for kind in KINDS] == [{"b": 0}, {"a": 6.0}, {}]
    assert (Base(), Heir()) == (Base(1.0, 4), Heir(5.0, 4))
