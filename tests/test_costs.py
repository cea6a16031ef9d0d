"""The file of costs is of the tests that there are."""

import pytest

from tests.costs import ALL, measured, whole


def test_costs_are_of_tests_that_exist(request):
    """A test under a new name would be in the quick set whatever it costs."""
    if not whole(request.config):
        pytest.skip("only some of the tests were collected")
    gone = sorted(measured().keys() - request.config.stash[ALL])
    assert not gone, f"run `make costs` or give these their new names in tests/costs.json: {gone}"
