"""A budget of compiled programs for each quick test.

Compiling is most of what the tests cost: a program takes 50 ms however little it does, and every
operation outside `jax.jit` is a program of its own for each new shape. A quick test that compiles
more than `BUDGET` fails; `@pytest.mark.programs(n)` gives one that needs more its own number. Tests
marked `slow` or `long` have no budget.

A program counts whether it is compiled or read from the cache on disk, but not when an earlier
test of the same process left it in memory: a test counts most when it runs alone. So measure with

    python -m pytest -n 0 --alone --programs 20 tests/flow

which empties that memory before each test and lists the twenty tests that compile most. Fixtures
of one function count as part of the test, those that several tests share do not.
`tests/compiling.py` has what keeps the number small.
"""

import jax
import pytest

BUDGET = 24
COMPILED = "/jax/core/compile/backend_compile_duration"  # of a program read from the disk too


class Programs:
    """Counts the programs of each test and fails those above their budget."""

    def __init__(self, config: pytest.Config):
        self.alone = config.getoption("alone")
        self.shown = config.getoption("programs")
        self.total = 0
        self.shared = 0  # by fixtures that several tests share
        self.counts: list[tuple[int, str]] = []
        jax.monitoring.register_event_duration_secs_listener(self.listen)

    def listen(self, event: str, duration: float, **_: object) -> None:
        self.total += event == COMPILED

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        before = self.total
        result = yield
        if fixturedef.scope != "function":
            self.shared += self.total - before
        return result

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        if self.alone:
            jax.clear_caches()
        self.total = self.shared = 0
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item):
        result = yield
        count, allowed = self.total - self.shared, budget(item)
        item.user_properties.append(("programs", count))
        if count > allowed:
            pytest.fail(
                f"compiled {count} programs, {allowed} allowed: draw with NumPy and call what is "
                "tested by once() (tests/compiling.py), or mark @pytest.mark.programs(n)",
                pytrace=False,
            )
        return result

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            counts = [value for name, value in report.user_properties if name == "programs"]
            self.counts.extend((count, report.nodeid) for count in counts)

    def pytest_terminal_summary(self, terminalreporter):
        if self.shown:
            total = sum(count for count, _ in self.counts)
            terminalreporter.section(f"{total} compiled programs in {len(self.counts)} tests")
            for count, name in sorted(self.counts, reverse=True)[: self.shown]:
                terminalreporter.write_line(f"{count:5d} {name}")


def budget(item: pytest.Item) -> float:
    """How many programs a test may compile."""
    marked = item.get_closest_marker("programs")
    if marked:
        return marked.args[0]
    free = any(item.get_closest_marker(name) for name in ("slow", "long"))
    return float("inf") if free else BUDGET


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("compiled programs")
    group.addoption(
        "--programs", type=int, default=0, metavar="N", help="list the N tests that compile most"
    )
    group.addoption(
        "--alone", action="store_true", help="forget all programs before each test, to count them"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Programs(config))
