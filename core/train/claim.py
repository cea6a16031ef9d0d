"""A run folder is claimed once: made, or found to hold the same run."""

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

from core.data.codec import FILE as CODEC
from core.data.record import change, conflict
from core.data.spec import DataSpec
from core.errors import UserError, warn
from core.files import check_links, write_bytes
from core.train import packed, processes, toml
from core.train.config import LoopConfig
from core.train.folder import (
    FORMAT,
    Marker,
    check_free,
    code,
    delete_run,
    mark,
    read_marker,
    version,
)
from core.train.own_teacher import MARK, source_print
from core.train.run import DATA_FILE, OWN, SOURCE, kept_spec, newest, read_config

PLACES = ("path", "labels")
"""Flags of a data set that say where it lies."""
BASES = ("init",)
"""Flags that say where the weights lie that an adapter stands on."""


def claim(
    config: LoopConfig,
    spec: DataSpec | None = None,
    starts: DataSpec | None = None,
    base: str = "",
) -> Path:
    """Makes the run folder, or finds the same run there, and writes `run.json`, `data.toml` and
    `config.toml`, in this order: a folder with the last is a run.

    `spec` says what the data are; without it, the run opens only where its data do. `starts` says
    what stands at t = 1 in the place of noise, for `source.toml`; `base` is the fingerprint of the
    weights that an adapter stands on, for `run.json`.
    Flags that do not shape the parameters (`toml.NOT_SHAPING`) may differ from the run's, with
    --extend the number of steps, and the place of the data where their fingerprint is the same.
    The `data.toml` of a run stays as it was written first, and its `config.toml` but for the number
    of steps and the place of the data. Raises `UserError` as `extended_from`, where the folder
    cannot be written, where it holds something else or a run of another configuration or of data
    that its network does not fit, and where another teacher or version of Portolan would go on
    without --changed; nothing is changed then. Of several processes the first writes, once all have
    looked.
    """
    extended_from(config)
    folder = Path(config.folder)
    check_links(folder, OWN)
    written = folder / "config.toml"
    there = written.exists() and not config.restart
    marker, now = read_marker(folder), _marker_of(config, base)
    if there:
        then = kept_spec(folder)
        same_base = marker is not None and marker.base != "" and marker.base == base
        _check_same(config, written, then is not None and _is_same(then, spec), same_base)
        if then is not None and spec is not None:
            _check_data(then, spec, folder)
        if marker is not None:
            _check_origin(marker, now, folder, config.changed)
    else:
        check_free(folder, config.restart)
    processes.wait("looked at the run folder")
    if processes.first():
        _write(config, spec, starts, folder, marker if there else None, now)
    processes.wait("claimed the run folder")
    return folder


def _marker_of(config: LoopConfig, base: str) -> Marker:
    """The marker of a run that begins now."""
    teacher = getattr(config, "teacher", None)
    taught = "" if teacher in (None, "exact") else _print_of(str(teacher))
    return Marker(FORMAT, version(), code(), taught, base)


def _print_of(teacher: str) -> str:
    """Of a teacher's weights, or of the source of the user's own."""
    return source_print(teacher) if teacher.startswith(MARK) else weights_print(Path(teacher))


def weights_print(folder: Path) -> str:
    """16 hexadecimal digits that depend on the averaged weights of a run's map, or on those of a
    model folder; empty where a run of an older version keeps no checksums."""
    found = hashlib.blake2b(digest_size=8)
    opened = newest(folder, 2)
    if opened is not None:
        checkpoints, step = opened
        sums = checkpoints.sums(step)
        checkpoints.close()
        own = {name: one for name, one in sums.items() if name.startswith("ema.model")}
        found.update(repr(sorted(own.items())).encode())
        marker = read_marker(folder)
        found.update((marker.base if marker else "").encode())  # of an adapter
        return found.hexdigest() if own else ""
    if (folder / packed.FILE).exists():
        with (folder / packed.FILE).open("rb") as file:
            while part := file.read(2**24):
                found.update(part)
        return found.hexdigest()
    return ""


def _check_origin(then: Marker, now: Marker, folder: Path, accepted: bool) -> None:
    """Raises `UserError` where a run would go on with another teacher or version of Portolan, and
    says where it does, or where sources are others."""
    found = None
    if then.teacher and now.teacher and then.teacher != now.teacher:
        found = "its teacher has other weights by now, or its python: module another source"
    elif then.base and now.base and then.base != now.base:
        found = "the weights that its adapter stands on are others by now"
    elif then.version and then.version != now.version:
        found = f"it was begun with Portolan {then.version}, and this is {now.version}"
    if found is not None:
        go_on_changed(folder, found, accepted)
    elif then.code and then.code != now.code:
        warn(f"{folder} goes on with other sources of core or plugins than it began with")


def go_on_changed(folder: Path, found: str, accepted: bool) -> None:
    """Says that a run goes on although something changed. Raises `UserError` unless that is
    `accepted`."""
    if not accepted:
        raise UserError(
            f"{folder} would not go on as it began: {found}; put that back as it was, or go on all "
            "the same with --changed"
        )
    warn(f"{folder} goes on changed: {found}")


def _is_same(then: DataSpec, now: DataSpec | None) -> bool:
    """Whether two descriptions are certainly of the same data."""
    return now is not None and then.fingerprint != "" and then == now


def _check_data(then: DataSpec, now: DataSpec, folder: Path) -> None:
    """Raises `UserError` where the run in a folder cannot go on with the data as they are now."""
    found = conflict(then, now)
    if found is not None:
        raise UserError(
            f"the data are no longer those that {folder} was trained on: {found}; the run is "
            "whole: put the data back as they were, or start another run with --run"
        )


def changed_data(folder: Path, now: DataSpec, file: str = DATA_FILE) -> str | None:
    """One line on how the data differ from those that a run began with, where it can go on all the
    same; None where they do not, or where there is no run yet. `file` has what they were."""
    then, what = kept_spec(folder, file), "data" if file == DATA_FILE else "examples at t = 1"
    found = None if then is None else change(then, now)
    return None if found is None else f"the {what} are others than {folder} began with: {found}"


def extended_from(config: LoopConfig) -> int | None:
    """The steps that a run has so far which --extend is to give more; None without that flag.

    Asked before `claim`, which writes the new number. Raises `UserError` where there is no run that
    can go on, or for fewer steps than it has.
    """
    if not config.extend:
        return None
    if config.restart:
        raise UserError("--extend goes on with a run and --restart deletes it; give one of them")
    folder = Path(config.folder)
    if not (folder / "config.toml").exists():
        raise UserError(
            f"no run in {folder} to extend; name its folder with --run, or start one there "
            "without --extend"
        )
    if (folder / packed.FILE).exists() and not (folder / "checkpoints").is_dir():
        raise UserError(
            f"{folder} holds weights alone, so training cannot go on; start another run from them "
            f"with --init {folder}"
        )
    before = int(toml.read(folder / "config.toml").get("steps", config.steps))
    if config.steps < before:
        raise UserError(
            f"{folder} has {before} steps already; --extend needs a larger --steps, got "
            f"{config.steps}"
        )
    return before


def _check_same(config: LoopConfig, written: Path, same_data: bool, same_base: bool) -> None:
    """Raises `UserError` where this file of a run is of another configuration.

    Where the data are certainly the same, it does not matter where they lie; nor where the weights
    do that an adapter stands on.
    """
    there, asked = toml.shaping(as_now(written)), toml.shaping(toml.to_dict(config))
    if same_base:
        there |= {place: asked[place] for place in BASES if place in asked and place in there}
    if same_data:
        there["data"] = there["data"] | {
            place: asked["data"][place] for place in PLACES if place in asked["data"]
        }
    same_steps = there | {"steps": asked["steps"]}
    other = toml.difference(same_steps if config.extend else there, asked)
    if other is None:
        return
    longer = same_steps == asked and asked["steps"] > there.get("steps", 0)
    raise UserError(
        f"run folder {written.parent} holds another run ({other}); name another folder with --run"
        f"{', or make this one longer with --extend' if longer else ''} (--restart would delete it)"
    )


def as_now(written: Path) -> dict[str, Any]:
    """The configuration in this file, with the defaults of settings that are younger than it."""
    tree = toml.read(written)
    try:
        return toml.to_dict(read_config(written.parent)) if "plugin" in tree else tree
    except UserError:
        return tree


def _write(
    config: LoopConfig,
    spec: DataSpec | None,
    starts: DataSpec | None,
    folder: Path,
    marker: Marker | None,
    now: Marker,
) -> None:
    """Makes the folder, empties it with --restart, and writes what it holds from the start."""
    written, there = folder / "config.toml", (folder / "config.toml").exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
        if there and not config.restart:
            if marker is None or marker.format < FORMAT or _says_else(written, config):
                toml.write(config, written)
                mark(folder, marker or now)
            return
        if config.restart:
            delete_run(folder)
        mark(folder, now)
        if spec is not None:
            toml.write_record(spec, folder / "data.toml")
            if spec.codec and Path(spec.codec.path).is_file():
                write_bytes(folder / CODEC, Path(spec.codec.path).read_bytes())
        if starts is not None:
            toml.write_record(starts, folder / SOURCE)
        toml.write(config, written)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(
            f"cannot write run folder {folder} ({reason}); name another with --run"
        ) from None


def _says_else(written: Path, config: LoopConfig) -> bool:
    """Whether what shapes the run is another in this file: the steps, or the place of the data."""
    return toml.shaping(as_now(written)) != toml.shaping(toml.to_dict(config))
