"""The defaults of a method by kind of data: what is printed, and what the pages say."""

import dataclasses
from pathlib import Path

import pytest

from apps.plugins import main
from core.errors import UserError
from core.methods import by_kind, plugins
from core.methods.presets import KINDS, defaults
from plugins.meanflow import MF

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
