"""Runs the apps in the process of the test, as the command line does but for its five seconds."""

import contextlib
import importlib
import io
import json
import sys

import pytest

from apps._main import launch


def no_constant(name):
    raise AssertionError(f"{name} is no JSON")


def run(app, *flags):
    """Runs an app with these flags: exit status, stdout, and its JSON where --json stands."""
    out, status = io.StringIO(), 0
    main = importlib.import_module(f"apps.{app}").main
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setenv("JAX_COMPILATION_CACHE_DIR", "")
        patch.setattr(sys, "argv", [f"apps.{app}", *map(str, flags)])
        try:
            launch(main)
        except SystemExit as stop:
            status = stop.code
    lines = out.getvalue().splitlines()
    result = json.loads(lines[-1], parse_constant=no_constant) if "--json" in flags else None
    assert not any(line.startswith("{") for line in lines[:-1])
    return status, out.getvalue(), result
