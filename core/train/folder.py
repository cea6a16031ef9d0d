"""The folder of a run: the marker that says so, its one writer, and the versions of its format."""

import contextlib
import functools
import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.errors import UserError, require, warn
from core.files import clear_unfinished, write_json
from core.train import processes
from core.train.tracking import ID

MARKER = "run.json"
FORMAT = 1
"""The format of run folders that is written. Older ones are read through `MIGRATIONS`."""
LOCK = ".lock"


class BeingWritten(UserError):
    """Another process writes the folder."""


@dataclass(frozen=True)
class Marker:
    """The content of `run.json`: the format, the version and sources of Portolan that began the
    run, and the fingerprints of its teacher's weights and of those that its adapter stands on,
    empty where there are none."""

    format: int = FORMAT
    version: str = ""
    code: str = ""
    teacher: str = ""
    base: str = ""


def mark(folder: Path, marker: Marker) -> None:
    """Writes `run.json`."""
    write_json(folder / MARKER, {"portolan": "run", **vars(marker)})


def read_marker(folder: Path) -> Marker | None:
    """The marker of a folder; None where there is none, as in runs before there were markers.

    Raises `UserError` for one of a later format, which names the version that wrote it.
    """
    path = folder / MARKER
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}); put it back from a copy"
        ) from None
    if not isinstance(found, dict) or found.get("portolan") != "run":
        raise UserError(f"{path} is not of Portolan, so {folder} is no run folder; name another")
    number = found.get("format")
    if not isinstance(number, int) or number < 1:
        raise UserError(f"{path} names no format; put it back from a copy")
    texts = {key: str(found.get(key, "")) for key in ("version", "code", "teacher", "base")}
    if number > FORMAT:
        raise UserError(
            f"{folder} was written by Portolan {texts['version']} in format {number}, and this "
            f"version reads formats up to {FORMAT}; the run is whole: open it with that version "
            "or a later one"
        )
    return Marker(number, **texts)


def _without_logging(tree: dict[str, Any]) -> dict[str, Any]:
    """From format 0 to 1: where a run logs is said by each call."""
    return {key: value for key, value in tree.items() if key != "wandb"}


MIGRATIONS: tuple[Callable[[dict[str, Any]], dict[str, Any]], ...] = (_without_logging,)
"""Entry k takes the configuration of a run of format k to format k + 1."""
assert len(MIGRATIONS) == FORMAT


def migrated(tree: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The configuration in a folder's `config.toml` as the present format has it."""
    marker = read_marker(folder)
    for step in MIGRATIONS[0 if marker is None else marker.format :]:
        tree = step(tree)
    return tree


def version() -> str:
    """The version of Portolan."""
    try:
        return importlib.metadata.version("portolan")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


@functools.cache
def code() -> str:
    """16 hexadecimal digits that depend on the sources of core and of the methods."""
    found, root = hashlib.blake2b(digest_size=8), Path(__file__).parents[2]
    for room in ("core", "plugins"):
        for file in sorted((root / room).rglob("*.py")):
            found.update(str(file.relative_to(root)).encode())
            found.update(file.read_bytes())
    return found.hexdigest()


_PICTURES = re.compile(r"(step_\d+|final_\d+)\.png|examples\.npz")
_STEPS = re.compile(r"\d+|.*\.orbax-checkpoint-tmp.*")
_FILES = ("metrics.jsonl", "summary.json", "cell.json", "config.toml", "data.toml", "source.toml")


def remains(folder: Path) -> str | None:
    """The first entry of a folder that has the name of one of a run's, or None."""
    names = ("checkpoints", "samples", *_FILES)
    return next((name for name in names if (folder / name).exists()), None)


def delete_run(folder: Path) -> None:
    """Deletes what a run has written in its folder, and nothing else that lies there.

    The checkpoints go first and the marker stays, so that this can be repeated where it was
    interrupted. Raises `OSError` where something cannot be deleted.
    """
    for place, ours in (("checkpoints", _STEPS), ("damaged", _STEPS), ("samples", _PICTURES)):
        if not (folder / place).is_dir():
            continue
        for entry in sorted((folder / place).iterdir()):
            if not ours.fullmatch(entry.name):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        with contextlib.suppress(OSError):  # files of others stay
            (folder / place).rmdir()
    (folder / ID).unlink(missing_ok=True)  # what starts again is another run there too
    for name in _FILES:
        (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    """Inside, no other process of this kind writes the folder, which is made where it is missing.

    The lock is one of the system's, so it ends with its process, however that ends; on network file
    systems it holds as far as theirs do. Of several processes of one run the first has it. Raises
    `UserError`, which says who writes, where somebody else does, and where the folder cannot be
    written.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        fault = None
        if processes.first():
            try:
                stack.enter_context(_locked(folder))
            except UserError as error:
                fault = error
        if processes.greatest(fault is not None):
            raise fault or UserError(f"the first process cannot write the run folder {folder}")
        yield


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        number = _open_locked(path)
    except OSError as error:
        raise UserError(
            f"cannot write run folder {folder} ({error.strerror or error}); name another with --run"
        ) from None
    try:
        clear_unfinished(folder)
        yield
    finally:
        if number is not None:
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(number)
        for each in made:
            with contextlib.suppress(OSError):  # where nothing was written
                each.rmdir()


def _open_locked(path: Path) -> int | None:
    """The number of the locked file; None where the system has no locks."""
    try:
        import fcntl
    except ImportError:
        return None
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        number = os.open(path, flags, 0o644)
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            holder = os.read(number, 200).decode("utf-8", "replace").strip() or "another process"
            os.close(number)
            raise BeingWritten(
                f"{path.parent} is being written by {holder}; wait for it or stop it, or name "
                "another folder"
            ) from None
        except OSError as error:
            os.close(number)
            warn(f"{path.parent} cannot be locked ({error.strerror}); let one process write it")
            return None
        if _is(number, path):
            os.ftruncate(number, 0)
            os.write(number, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return number
        os.close(number)  # the last holder deleted it in between


def is_written(folder: Path) -> bool:
    """Whether a process writes the folder, by its lock. The file of a process of this machine that
    was killed stays, and does not count; nothing is locked to find out."""
    try:
        said = (folder / LOCK).read_text("utf-8", "replace")
    except OSError:
        return False
    found = re.fullmatch(r"process (\d{1,9}) on (.+)\n", said)
    if found is None or found[2] != socket.gethostname():
        return True
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it is there, and somebody else's
    return True


def _is(number: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(number), path.stat())
    except FileNotFoundError:
        return False


def check_free(folder: Path, restart: bool) -> None:
    """Raises `UserError` where a run cannot begin in a folder because of what lies there.

    Without the marker of a run nothing in it is deleted or mixed with a new run.
    """
    if read_marker(folder) is not None:
        return
    found = remains(folder)
    instead = "nothing in it was touched: move that elsewhere, or name another folder with --run"
    if restart:
        require(
            found is None,
            f"--restart deletes what a run wrote, and no {MARKER} says that {folder} holds a run "
            f"of Portolan ({found} lies there; runs before version 0.2 have none); {instead}",
        )
    require(
        found in (None, "config.toml", "data.toml", "source.toml"),
        f"{folder} is no run folder and holds {found} of something else; {instead}",
    )
