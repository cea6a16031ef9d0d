"""The frame of every app: errors, output streams, devices, compilation cache."""

import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import plugins as plugins  # registers the methods of this project
from core.errors import explained
from core.files import finite as finite
from core.train import processes
from core.train.config import ClusterConfig
from portolan.signals import stopping
from portolan.tables import console

Main = Callable[[list[str]], dict[str, Any] | None]


LATE = "Event loop is closed"
"""What Orbax's threads raise where a write ends after the one that failed: that is said already."""


def _leave_out_late_answers() -> None:
    """Keeps `LATE` from stderr, where errors of threads are printed past all `try`."""
    show, unraisable = sys.excepthook, sys.unraisablehook
    if show.__module__ == __name__:  # done already
        return

    def shown(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if str(error) != LATE:
            show(kind, error, trace)

    def reported(found: Any) -> None:
        if str(found.exc_value) != LATE:
            unraisable(found)

    sys.excepthook, sys.unraisablehook = shown, reported


def launch(main: Main) -> None:
    """Runs an app's `main` with the command line and exits.

    A `UserError` or a failure of the machine (`core.errors.explained`) becomes one line on stderr
    and exit status 2, a signal one line and 128 + its number; other exceptions are faults of the
    program and keep their traceback, as all do where PORTOLAN_TRACEBACK is set. A result is printed
    as JSON, the last line on stdout, where the flag --json stands.
    """
    _prepare()
    _leave_out_late_answers()
    try:
        with stopping():
            result = main(sys.argv[1:])
            if result is not None:
                print_json(result)
            sys.stdout.flush()
    except KeyboardInterrupt as stop:
        number = getattr(stop, "number", signal.SIGINT)
        name = signal.Signals(number).name
        print(
            f"stopped by {name}; all files are whole, and the same command goes on or starts again "
            "from what is saved",
            file=sys.stderr,
        )
        sys.exit(128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        known = explained(error)
        if known is None or os.environ.get("PORTOLAN_TRACEBACK"):
            raise
        print(f"error: {' '.join(str(known).split())}", file=sys.stderr)
        sys.exit(2)


def join(config: ClusterConfig) -> None:
    """Joins the other processes of a run, of which the first alone prints."""
    processes.join(config)
    console.quiet = not processes.first()


def print_json(result: dict[str, Any]) -> None:
    """Prints one line of JSON on stdout, with null in place of NaN and infinity, which JSON
    lacks."""
    print(json.dumps(finite(result), allow_nan=False), flush=True)


def finished(result: dict[str, Any], failed: Sequence[str], as_json: bool) -> dict[str, Any] | None:
    """What a command of several runs gives back; exits with status 1 where some of them failed,
    after naming them."""
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        if as_json:
            print_json(result)
        sys.exit(1)
    return result if as_json else None


def _prepare() -> None:
    """Quiet libraries, and a compilation cache in the user's cache folder.

    It keeps small programs too: a command has a dozen of them, each a tenth of a second to compile.
    `JAX_COMPILATION_CACHE_DIR` names another folder; an empty value switches the cache off.
    """
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # errors are one line, of ours
    warnings.filterwarnings("ignore", module="orbax")
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "portolan" / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
