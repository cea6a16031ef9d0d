"""What a class decorator does to a method: a frozen dataclass, a family, a name of its own."""

import dataclasses

import pytest

from core.methods import Card, Plugin, register, registry
from plugins.consistency import CTM
from plugins.eulerian import EMD
from plugins.flow_matching import FM

CARD = Card("mine", rule="none", supervision="none", source="a test", cost=1)


@pytest.fixture(autouse=True)
def forgotten():
    """What a test registers is forgotten after it."""
    with registry.METHODS.scope():
        yield


def method(self, net, path, teacher, task, *, key):
    raise AssertionError


def test_a_registered_class_is_a_frozen_dataclass_of_its_fields():
    @register
    class Mine(Plugin):
        card = CARD
        share: float = 0.5
        method = method

    assert registry.find_plugin("mine") is Mine
    assert [field.name for field in dataclasses.fields(Mine)] == ["share"]
    assert Mine(share=0.25) == Mine(share=0.25) != Mine()
    with pytest.raises(dataclasses.FrozenInstanceError):
        Mine().share = 1.0


def test_a_class_that_is_a_dataclass_already_is_left_as_it_is():
    @register
    @dataclasses.dataclass(frozen=True, order=True)
    class Mine(Plugin):
        card = CARD
        share: float = 0.5
        method = method

    assert Mine(share=0.25) < Mine(share=0.5)


@pytest.mark.parametrize(
    "module, family",
    [
        ("plugins.flow_matching.fm", "flow matching"),
        ("theirs.method", "theirs"),
        ("theirs", "theirs"),
    ],
)
def test_a_family_is_by_default_the_folder_of_the_module(module, family):
    assert CARD.within(module).family == family
    assert dataclasses.replace(CARD, family="own").within(module).family == "own"


def test_families_of_this_project():
    families = [cls.card.family for cls in (FM, EMD, CTM)]
    assert families == ["flow matching", "Eulerian", "consistency"]


def test_a_class_without_a_card_of_its_own_is_refused():
    with pytest.raises(ValueError, match="Heir has no card of its own"):

        @register
        class Heir(FM):
            pass


def test_a_name_that_another_class_has_is_refused():
    with pytest.raises(ValueError, match="'fm' is taken by plugins.flow_matching.fm"):

        @register
        class Mine(Plugin):
            card = dataclasses.replace(CARD, name="fm")
            method = method
