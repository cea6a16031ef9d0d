"""The frame of every app: errors, output streams, devices, compilation cache."""

import json
import logging
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plugins as plugins  # registers the methods of this project
from core.errors import UserError
from core.files import finite as finite
from core.train import processes
from core.train.config import ClusterConfig
from portolan.tables import console

Main = Callable[[list[str]], dict[str, Any] | None]


def launch(main: Main) -> None:
    """Runs an app's `main` with the command line and exits.

    A `UserError` becomes one line on stderr and exit status 2. A result is printed as JSON, the
    last line on stdout, where the flag --json stands.
    """
    _prepare()
    try:
        result = main(sys.argv[1:])
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    if result is not None:
        print_json(result)


def join(config: ClusterConfig) -> None:
    """Joins the other processes of a run, of which the first alone prints."""
    processes.join(config)
    console.quiet = not processes.first()


def print_json(result: dict[str, Any]) -> None:
    """Prints one line of JSON on stdout, with null in place of NaN and infinity, which JSON
    lacks."""
    print(json.dumps(finite(result), allow_nan=False), flush=True)


def _prepare() -> None:
    """Quiet libraries, and a compilation cache in the user's cache folder.

    It keeps small programs too: a command has a dozen of them, each a tenth of a second to compile.
    `JAX_COMPILATION_CACHE_DIR` names another folder; an empty value switches the cache off.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="orbax")
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
        jax.config.update("jax_compilation_cache_dir", str(home / "portolan" / "jax"))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
