"""Runs commands in children in which the K-th call that changes a file below a folder fails.

`python -m tests.faults.sweep` is the parent of such children: under the shim (`shim.c`) it forks
for each order that it reads as a line of JSON from its input. It has loaded the apps, and loads
what else an undisturbed child loaded, so that later ones need not.
"""

import contextlib
import ctypes
import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
MODES = {"kill": 1, "full": 2, "broken": 3, "short": 4}


def built(folder: Path) -> Path | None:
    """The shim as a library, or None where there is no compiler."""
    library = folder / "shim.so"
    source = Path(__file__).with_name("shim.c")
    command = ["cc", "-shared", "-fPIC", "-O1", "-w", "-o", library, source, "-ldl"]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return library


@dataclass(frozen=True)
class Ended:
    """How a child ended: its status as a shell has it, its output, and of a child that was not
    killed how many calls changed files, and a letter for each: `w` writes, `s` syncs, `d` deletes
    or truncates, `g` for all others."""

    status: int
    err: str
    calls: int
    kinds: str

    def struck(self, mode: str) -> list[int]:
        """The numbers of the calls whose failure can be another one than that of the next call:
        only a write is short, a kill at a sync finds the files that one after it does, and a full
        disk lets deletions pass."""
        same = {"kill": "s", "full": "d", "broken": "", "short": "sdg"}[mode]
        return [k for k, kind in enumerate(self.kinds, 1) if kind not in same]


class Children:
    """The parent of the children; a context manager."""

    def __init__(self, shim: Path):
        env = {**os.environ, "LD_PRELOAD": str(shim), "JAX_PLATFORMS": "cpu"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.sweep", str(shim)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.stdin.close()
        self._process.wait()

    def run(self, app: str, flags: list[str], root: Path, at: int = 0, mode: str = "kill") -> Ended:
        """Runs `apps.<app>` and waits for its end; `at` 0: nothing fails."""
        order = {"app": app, "flags": flags, "root": str(root), "at": at, "mode": MODES[mode]}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


def serve(shim: str) -> None:
    for name in ("apps.train", "apps.sample", "apps.eval", "apps.export", "apps._main"):
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(forked(shim, json.loads(line))), flush=True)


def load(names: list[str]) -> None:
    """Imports modules; one that is found only by way of another is left to the child."""
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def forked(shim: str, order: dict) -> dict:
    with tempfile.TemporaryDirectory() as place:
        out, err, kinds, modules = (
            os.path.join(place, name) for name in ("out", "err", "kinds", "modules")
        )
        child = os.fork()
        if child == 0:
            obey(shim, order, out, err, kinds, modules)
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        text = Path(err).read_text() if os.path.exists(err) else ""
        seen = Path(kinds).read_text() if os.path.exists(kinds) else ""
        if order["at"] == 0:
            load([name for name in Path(modules).read_text().split() if name not in sys.modules])
        return {"status": code, "err": text, "calls": len(seen), "kinds": seen}


def obey(shim: str, order: dict, out: str, err: str, kinds: str, modules: str) -> None:
    """In the child: runs the command and leaves."""
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
    library = ctypes.CDLL(shim)
    from apps._main import launch

    main = importlib.import_module(f"apps.{order['app']}").main
    sys.argv = [f"apps.{order['app']}", *order["flags"]]
    library.shim_arm(order["root"].encode(), order["at"], order["mode"])
    status = 0
    try:
        launch(main)
    except SystemExit as stop:
        status = stop.code or 0
    except BaseException:
        import traceback

        traceback.print_exc()
        status = 1
    sys.stderr.flush()
    library.shim_kinds.restype = ctypes.c_char_p
    seen = library.shim_kinds().decode()
    library.shim_arm(b"/nowhere", 0, 0)
    Path(kinds).write_text(seen)
    Path(modules).write_text("\n".join(name for name in sys.modules if name != "__main__"))
    os._exit(status)


if __name__ == "__main__":
    serve(sys.argv[1])
