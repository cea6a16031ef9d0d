"""Checkpoints by Orbax: atomic, the last few kept, readable on another device layout."""

import shutil
from pathlib import Path
from typing import Any

import jax

from core.errors import UserError


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
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), _by_name(like)
        )
        try:
            loaded = self._manager.load_checkpointables(step, {"state": abstract, "meta": None})
        except Exception as error:
            raise UserError(
                f"checkpoint {self.folder / str(step)} is damaged or belongs to another network "
                f"({type(error).__name__}); delete that folder to go on from an earlier one, "
                "or train again with --restart"
            ) from error
        arrays = [loaded["state"][name] for name in _by_name(like)]
        return jax.tree.unflatten(jax.tree.structure(like), arrays), loaded["meta"]

    def close(self) -> None:
        """Waits until all is written."""
        self._manager.close()


def _by_name(state: Any) -> dict[str, Any]:
    """The leaves of a pytree by their place, in its order."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def delete_run(folder: Path) -> None:
    """Deletes the files of a run in its folder, and nothing else that lies there."""
    for name in ("checkpoints", "samples"):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in ("config.toml", "metrics.jsonl", "summary.json"):
        (folder / name).unlink(missing_ok=True)
