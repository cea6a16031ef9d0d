"""The set of a test, by what it was measured to cost.

`tests/costs.json` holds the CPU seconds of each test that took `KEPT` or more, with its child
processes and with programs that no cache had. A test above `SLOW` is in the slow set and one above
`LONG` in the long one, without a word in its file. The markers `slow` and `long` put a test there
even if it costs less; `quick` keeps it in the quick set, and `ci` out of the long one, whatever it
costs: for the few that guard what everything else stands on.

`make costs` measures all tests and writes the file, `make costs ARGS="tests/flow -m 'not long'"`
those of a folder. What a fixture costs that several tests share counts for none of them.
"""

import json
import resource
from pathlib import Path

import pytest

KEPT, SLOW, LONG = 0.5, 0.5, 0.7
FILE = Path(__file__).with_name("costs.json")
ALL = pytest.StashKey[set]()


def seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    both = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class Costs:
    """Measures each test, and writes the file at the end."""

    def __init__(self):
        self.began = self.shared = 0.0
        self.found: dict[str, float] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        before = seconds()
        result = yield
        if fixturedef.scope != "function":
            self.shared += seconds() - before
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item):
        del item
        self.began, self.shared = seconds(), 0.0

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        try:
            return (yield)
        finally:
            item.user_properties.append(("cost", seconds() - self.began - self.shared))

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            costs = [value for name, value in report.user_properties if name == "cost"]
            self.found.update({report.nodeid: cost for cost in costs})

    def pytest_sessionfinish(self, session):
        if hasattr(session.config, "workerinput"):
            return
        # Tests that were not run keep what they had, unless the whole suite lacks them by now.
        before = {test: cost for test, cost in measured().items() if test not in self.found}
        if whole(session.config):
            there = session.config.stash.get(ALL, set())
            before = {test: cost for test, cost in before.items() if not there or test in there}
        costs = {test: round(cost, 1) for test, cost in (before | self.found).items()}
        kept = {test: cost for test, cost in sorted(costs.items()) if cost >= KEPT}
        FILE.write_text(json.dumps(kept, indent=0) + "\n")


def measured() -> dict[str, float]:
    """CPU seconds by test."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def whole(config: pytest.Config) -> bool:
    """Whether all test files are collected."""
    return config.args == config.getini("testpaths")


@pytest.hookimpl(tryfirst=True)  # before -m looks at the markers
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    costs = measured()
    config.stash[ALL] = {item.nodeid for item in items}
    for item in items:
        cost = costs.get(item.nodeid, 0.0)
        if cost > SLOW and not item.get_closest_marker("quick"):
            item.add_marker("slow" if cost <= LONG or item.get_closest_marker("ci") else "long")
    # What takes longest begins first, so that no process is left alone with it at the end.
    items.sort(key=lambda item: item.get_closest_marker("ci") is None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", action="store_true", help="write what tests cost to costs.json")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("costs"):
        config.pluginmanager.register(Costs())
