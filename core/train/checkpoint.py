"""Checkpoints by Orbax: atomic, the last few kept, readable on another device layout."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax

from core.errors import UserError, explained, warn
from core.train import processes
from core.train.sums import sum_of_values, sums_of, wrong

Found = TypeVar("Found")

RETIRED = ".modulation.weight"
"""The end of the names of arrays that only checkpoints of version 0.1 have, of networks with
context tokens: they multiplied zeros, so a run goes on without them as it would have with them."""


class Damaged(UserError):
    """A checkpoint whose files are damaged or missing, where an earlier one may be whole."""


class Checkpoints:
    """The checkpoints of one run folder, by step.

    Each holds the arrays of the training state, by the name of their place in it, and a small dict
    (the data iterator's position). A part of a network that is absent leaves no trace, so a run can
    be opened by later code that has more optional parts.
    A checkpoint appears under its name only when it is complete. It keeps a checksum of each array
    (`core.train.sums`), which is compared whenever the array is read.
    """

    def __init__(self, folder: Path, keep: int = 2):
        """Opens `folder/checkpoints`, which is made when the first checkpoint is saved."""
        from orbax.checkpoint import v1 as ocp

        self.folder = folder / "checkpoints"
        policies = ocp.training.preservation_policies
        self._manager = ocp.training.Checkpointer(
            self.folder.absolute(),  # pyright: ignore[reportArgumentType]
            preservation_policy=policies.LatestN(keep),  # pyright: ignore[reportArgumentType]
        )

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        newest = self._manager.latest
        return None if newest is None else newest.step

    def steps(self) -> tuple[int, ...]:
        """The steps of all complete checkpoints, the oldest first."""
        return tuple(one.step for one in self._manager.checkpoints)

    def newest(self, read: Callable[[int], Found]) -> tuple[int, Found]:
        """What `read(step)` gives for the newest step that is whole, and that step; a line says
        which ones are not. Raises `Damaged` where none is whole. With several processes all must
        call it, and none takes a step that another cannot read."""
        faults: list[str] = []
        for step in reversed(self.steps()):
            found = fault = None
            try:
                found = read(step)
            except Damaged as error:
                fault = str(error)
            if not processes.greatest(fault is not None):
                for one in faults:
                    warn(f"{one.partition('; ')[0]}: step {step} is taken in its place")
                return step, found  # pyright: ignore[reportReturnType]
            faults.append(fault or f"{self._at(step)}: another process cannot read it")
        raise Damaged(faults[0] if faults else f"no checkpoint in {self.folder}")

    def set_aside(self, after: int) -> None:
        """Moves the checkpoints of later steps to `damaged/` beside the folder, so that training
        can save those steps once more; nothing is deleted."""
        later = [step for step in self.steps() if step > after]
        if later and processes.first():
            for step in later:
                place = self.folder.parent / "damaged"
                place.mkdir(exist_ok=True)
                names = [str(step), *(f"{step}-{k}" for k in range(1, 1000))]
                free = next(name for name in names if not (place / name).exists())
                self._at(step).rename(place / free)
        processes.wait("set damaged checkpoints aside")
        if later:
            self._manager.reload()

    def _at(self, step: int) -> Path:
        return self.folder / str(step)

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves a state (a pytree of arrays) and `meta` (plain values) as step `step`.

        A step that is there already is left as it is.
        """
        if self.latest() != step:
            named = by_name(state)
            sums = {"state": sums_of(named), "meta": sum_of_values(meta)}
            try:
                self._manager.save_checkpointables(
                    step, {"state": named, "meta": meta}, custom_metadata={"sums": sums}
                )
            except jax.errors.JaxRuntimeError:  # another process is gone
                raise
            except Exception as error:
                raise UserError(self._unsaved(step, error)) from error

    def _unsaved(self, step: int, error: Exception) -> str:
        known, last = explained(error), self.latest()
        why = known or f"{type(error).__name__}: {str(error)[:300]}; check the disk"
        kept = (
            "there is none before it" if last is None else f"the last whole one is of step {last}"
        )
        return f"the checkpoint of step {step} cannot be saved, {kept}: {why}"

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """The state and meta of a step, in the structure, types and placement of `like`.

        Raises `UserError` where the files are damaged or belong to another network.
        """
        wanted = by_name(like)
        others = self._names_or_none(step).difference(wanted)
        retired = bool(others) and all(name.endswith(RETIRED) for name in others)
        loaded = self._load(step, {"state": wanted, "meta": None}, partial=retired)
        sums = self._sums(step)
        if sums and sum_of_values(loaded["meta"]) != sums.get("meta"):
            raise Damaged(self._damaged(step, "the position in the data has not its checksum"))
        return _in_place_of(like, loaded["state"]), loaded["meta"]

    def restore_part(self, step: int, like: Any) -> Any:
        """A part of the state of a step: the arrays that `like` names, and no others are read.

        `like` has arrays or their shapes, which then go to this process's first device. Raises
        `UserError` as `restore`.
        """
        loaded = self._load(step, {"state": by_name(like)}, partial=True)
        return _in_place_of(like, loaded["state"])

    def names(self, step: int) -> tuple[str, ...]:
        """The names of the arrays of a step's state. Raises `Damaged` where they cannot be read."""
        try:
            return tuple(self._manager.checkpointables_metadata(step).metadata["state"])
        except Exception as error:
            raise Damaged(self._damaged(step, type(error).__name__)) from error

    def verify(self, step: int) -> str:
        """Reads everything of a step and says how it was compared. Raises `Damaged`."""
        try:
            loaded = self._manager.load_checkpointables(step)
            state: dict[str, Any] = dict(loaded["state"])
        except Exception as error:
            raise Damaged(self._damaged(step, type(error).__name__)) from error
        sums = self._sums(step)
        if sums is None:
            return "read; an older version kept no checksums"
        bad = wrong(state, sums["state"])
        missing = sorted(set(sums["state"]) ^ set(state))
        if bad is not None or missing:
            raise Damaged(self._damaged(step, f"{bad or missing[0]} has not its checksum"))
        if sum_of_values(loaded["meta"]) != sums.get("meta"):
            raise Damaged(self._damaged(step, "the position in the data has not its checksum"))
        return "verified"

    def _names_or_none(self, step: int) -> set[str]:
        """`names`; none where the files are damaged, of which loading then says more."""
        try:
            return set(self.names(step))
        except Exception:
            return set()

    def _load(self, step: int, like: dict[str, Any], *, partial: bool) -> dict[str, Any]:
        """The leaves of `like` that the checkpoint holds; with `partial` it may hold others too."""
        from orbax.checkpoint import v1 as ocp

        context = ocp.Context()
        context.pytree.loading.partial_load = partial
        try:
            with context:
                loaded = self._manager.load_checkpointables(step, jax.tree.map(_abstract, like))
        except Exception as error:
            raise self._fault(step, like["state"], error, partial) from error
        sums = self._sums(step)
        bad = wrong(loaded["state"], sums["state"]) if sums else None
        if bad is not None:
            raise Damaged(self._damaged(step, f"{bad} has not its checksum"))
        return loaded

    def sums(self, step: int) -> dict[str, str]:
        """The checksums of the arrays of a step; empty where an older version saved it."""
        return (self._sums(step) or {}).get("state", {})

    def _sums(self, step: int) -> dict[str, Any] | None:
        """The checksums of a step; None where an older version saved it, which kept none."""
        try:
            kept = self._manager.metadata(step).custom_metadata
        except Exception as error:
            raise Damaged(self._damaged(step, type(error).__name__)) from error
        sums = kept.get("sums") if isinstance(kept, dict) else None
        if sums is None:
            return None
        if not isinstance(sums, dict) or not isinstance(sums.get("state"), dict):
            raise Damaged(self._damaged(step, "its checksums are damaged"))
        return sums

    def _fault(
        self, step: int, wanted: dict[str, Any], error: Exception, partial: bool
    ) -> UserError:
        """Why a step does not load, and what to do, which destroys nothing."""
        other = self._difference(step, wanted, partial)
        if other is not None:
            return UserError(
                f"checkpoint {self._at(step)} is whole, and of another network ({other}): the "
                "settings or the data are others by now; open it with those that it was trained "
                "with"
            )
        if isinstance(error, MemoryError | PermissionError):
            return explained(error) or UserError(str(error))
        return Damaged(self._damaged(step, type(error).__name__))

    def _damaged(self, step: int, why: str) -> str:
        return (
            f"checkpoint {self._at(step)} cannot be read ({why}): files in it are damaged or "
            f"missing; put them back from a copy, or move {self._at(step)} elsewhere to go on from "
            "an earlier one"
        )

    def _difference(self, step: int, wanted: dict[str, Any], partial: bool) -> str | None:
        """The first array that a step has in another shape or not at all, or, unless `partial`, has
        beside the others; None where all fit, or where the list of its arrays cannot be read."""
        try:
            there = self._manager.checkpointables_metadata(step).metadata["state"]
            shapes = {name: tuple(found.shape) for name, found in there.items()}
        except Exception:
            return None
        for name, leaf in wanted.items():
            if name not in shapes:
                return f"it has no {name}"
            if shapes[name] != leaf.shape:
                return f"{name} has shape {shapes[name]} there, {leaf.shape} here"
        more = [name for name in shapes if name not in wanted]
        return f"it has {more[0]} too" if more and not partial else None

    def close(self) -> None:
        """Waits until all is written. Raises `UserError` where it cannot be."""
        try:
            self._manager.close()
        except jax.errors.JaxRuntimeError:  # another process is gone
            raise
        except Exception as error:
            known = explained(error) or f"{str(error)[:300]}; check the disk"
            raise UserError(
                f"the last checkpoint in {self.folder} is not saved: {known}"
            ) from error


def by_name(state: Any) -> dict[str, Any]:
    """The leaves of a pytree by their place, in its order."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array and where it is to be placed."""
    place = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def _in_place_of(like: Any, arrays: dict[str, Any]) -> Any:
    """The arrays in the structure of `like`."""
    found = [arrays[name] for name in by_name(like)]
    return jax.tree.unflatten(jax.tree.structure(like), found)
