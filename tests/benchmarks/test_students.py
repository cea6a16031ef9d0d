"""Every method that learns from a published network starts as it: before the first step the
student's velocity is the teacher's, to rounding."""

import pytest

from benchmarks.students import NETS, difference, guidable, starting
from core.methods.registry import find_plugin, plugins

pytestmark = pytest.mark.programs(200)  # whole runs are built

ROUNDING = {"sit": 2e-6, "edm": 2e-5, "dit": 2e-4}
"""Of the largest velocity, in float32. DiT's angles go up to 1000 radians, each rounded to 3e-5;
where EDM's own map divides by the noise level its rounding grows."""
METHODS = list(starting())


def test_all_methods_with_a_teacher_start_from_it():
    taught = {name: plugin for name, plugin in plugins().items() if plugin.needs_teacher}
    assert METHODS == [name for name, plugin in taught.items() if not plugin.tokens]


@pytest.mark.long
@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", METHODS)
def test_a_student_is_its_teacher_before_the_first_step(name, net):
    assert difference(name, net) < ROUNDING[net]
    if guidable(find_plugin(name)):
        assert difference(name, net, guided=True) < ROUNDING[net]


@pytest.mark.slow
@pytest.mark.parametrize("name, net", [("scd", "edm"), ("ctm", "sit"), ("dmd", "dit")])
def test_a_student_on_another_path_is_its_teacher(name, net):
    assert difference(name, net, "trig") < 10 * ROUNDING[net]
