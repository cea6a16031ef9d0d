"""Checkpoints by Orbax: atomic, the last few kept, readable on another device layout."""

import shutil
from pathlib import Path
from typing import Any

import jax

from core.errors import UserError
from core.train.tracking import ID

RETIRED = ".modulation.weight"
"""The end of the names of arrays that only checkpoints of version 0.1 have, of networks with
context tokens: they multiplied zeros, so a run goes on without them as it would have with them."""


class Checkpoints:
    """The checkpoints of one run folder, by step.

    Each holds the arrays of the training state, by the name of their place in it, and a small dict
    (the data iterator's position). A part of a network that is absent leaves no trace, so a run can
    be opened by later code that has more optional parts.
    A checkpoint appears under its name only when it is complete.
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

    def save(self, step: int, state: Any, meta: dict[str, Any]) -> None:
        """Saves a state (a pytree of arrays) and `meta` (plain values) as step `step`.

        A step that is there already is left as it is.
        """
        if self.latest() != step:
            self._manager.save_checkpointables(step, {"state": _by_name(state), "meta": meta})

    def restore(self, step: int, like: Any) -> tuple[Any, dict[str, Any]]:
        """The state and meta of a step, in the structure, types and placement of `like`.

        Raises `UserError` where the files are damaged or belong to another network.
        """
        wanted = _by_name(like)
        others = self._names_or_none(step).difference(wanted)
        retired = bool(others) and all(name.endswith(RETIRED) for name in others)
        loaded = self._load(step, {"state": wanted, "meta": None}, partial=retired)
        return _in_place_of(like, loaded["state"]), loaded["meta"]

    def restore_part(self, step: int, like: Any) -> Any:
        """A part of the state of a step: the arrays that `like` names, and no others are read.

        `like` has arrays or their shapes, which then go to this process's first device. Raises
        `UserError` as `restore`.
        """
        loaded = self._load(step, {"state": _by_name(like)}, partial=True)
        return _in_place_of(like, loaded["state"])

    def names(self, step: int) -> tuple[str, ...]:
        """The names of the arrays of a step's state."""
        return tuple(self._manager.checkpointables_metadata(step).metadata["state"])

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
                return self._manager.load_checkpointables(step, jax.tree.map(_abstract, like))
        except Exception as error:
            raise UserError(self._fault(step, like["state"], error)) from error

    def _fault(self, step: int, wanted: dict[str, Any], error: Exception) -> str:
        """Why a step does not load, and what to do, which destroys nothing."""
        what = f"checkpoint {self.folder / str(step)}"
        other = self._difference(step, wanted)
        if other is not None:
            return (
                f"{what} is whole, and of another network ({other}): the settings or the data are "
                "others by now; open it with those that it was trained with"
            )
        return (
            f"{what} cannot be read ({type(error).__name__}): files in it are damaged or missing; "
            f"put them back from a copy, or move {self.folder / str(step)} elsewhere to go on from "
            "an earlier one"
        )

    def _difference(self, step: int, wanted: dict[str, Any]) -> str | None:
        """The first array that a step has in another shape or not at all; None where all fit, or
        where the list of its arrays cannot be read."""
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
        return None

    def close(self) -> None:
        """Waits until all is written."""
        self._manager.close()


def _by_name(state: Any) -> dict[str, Any]:
    """The leaves of a pytree by their place, in its order."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    """The shape of an array and where it is to be placed."""
    place = leaf.sharding or jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place)


def _in_place_of(like: Any, arrays: dict[str, Any]) -> Any:
    """The arrays in the structure of `like`."""
    found = [arrays[name] for name in _by_name(like)]
    return jax.tree.unflatten(jax.tree.structure(like), found)


def delete_run(folder: Path) -> None:
    """Deletes the files of a run in its folder, and nothing else that lies there."""
    for name in ("checkpoints", "samples"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("config.toml", "data.toml", "metrics.jsonl", "summary.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / ID).unlink(missing_ok=True)  # what starts again is another run there too
