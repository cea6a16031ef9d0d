"""What a command imports before it does any work."""

import json
import subprocess
import sys
import textwrap

import pytest

HEAVY = (
    "PIL",
    "blackjax",
    "diffrax",
    "grain",
    "jax.experimental.pallas",
    "lineax",
    "matplotlib",
    "optax",
    "optimistix",
    "orbax",
    "scipy",
    "sklearn",
    "wandb",
)
"""Libraries that take a tenth of a second or more, or bring such along: imported where used."""
MOST = 1025
"""Modules of other packages, of which JAX and Equinox alone are 823."""
NOT_COUNTED = ("apps", "core", "filelock", "plugins", "portolan")
"""Our own files, which are short and grow with the methods, and what JAX takes along where another
package has brought it."""

PROGRAM = """
    import json, sys

    def imported(work):
        try:
            work()
        except SystemExit as end:
            assert not end.code
        return sorted(sys.modules)

    def help():
        from apps import train
        train.main(["--help"])

    def table():
        from apps import plugins
        plugins.main([])

    print(json.dumps([imported(help), imported(table)]))
"""


@pytest.mark.quick
def test_help_and_the_table_of_methods_import_no_heavy_library():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)], capture_output=True, text=True, check=True
    )
    of_help, of_table = json.loads(done.stdout.splitlines()[-1])
    assert {"jax", "apps.train", "plugins.meanflow.imf"} <= set(of_help)
    for modules in (of_help, of_table):
        assert [name for name in modules if name in HEAVY] == []
        others = [name for name in modules if name.partition(".")[0] not in NOT_COUNTED]
        assert len(others) <= MOST
