"""A run with an adapter, opened: the weights that it stands on, and its own from a checkpoint."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from core.adapters import Adapter, adapted_shapes, adapter_of, merged
from core.adapters.adapted import is_numbers
from core.adapters.places import DEFAULT, named, network_of
from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.train.checkpoint import Checkpoints
from core.train.config import TrainConfig
from core.train.folder import read_marker

BEFORE = "ema.model."
"""What stands before the names of the map's averaged weights in a checkpoint."""


def opened_on_base(
    like: FlowMap,
    config: TrainConfig,
    folder: Path,
    checkpoints: Checkpoints,
    open_map: Callable[[Path], FlowMap],
) -> tuple[int, FlowMap, Adapter]:
    """The newest whole step, the map with the adapter merged into it, and the adapter.

    `like` is the map with shapes for arrays; `open_map` opens the run or model that the adapter
    stands on. Raises `UserError` where that is not there, or has other weights by now.
    """
    flags, place = config.adapter, base_folder(config, folder)
    given, whole = arrays_of(open_map(place)), _other_arrays(like)
    like = adapted_shapes(
        like, flags.layers or DEFAULT, rank=flags.rank, alpha=flags.alpha, rs=flags.rs
    )

    def read(step: int) -> FlowMap:
        names = {name.removeprefix(BEFORE) for name in checkpoints.names(step)}
        own = eqx.filter(like, _named_in(like, names))
        found = checkpoints.restore_part(step, {"ema": {"model": own}})["ema"]["model"]
        return eqx.combine(found, _filled(like, names, given | whole, place))

    step, flow_map = checkpoints.newest(read)
    marker, adapter = read_marker(folder), adapter_of(flow_map, str(folder))
    if marker is not None and marker.base and marker.base != adapter.base:
        raise UserError(
            f"{place} has other weights than those that the adapter of {folder} was trained on; "
            f"put them back as they were, or say in {folder}/config.toml where they are now (init)"
        )
    return step, merged(flow_map), adapter


def base_folder(config: TrainConfig, folder: Path) -> Path:
    """Where the weights lie that an adapter stands on: as the configuration says it, or beside the
    run. Raises `UserError` where they are gone."""
    written = config.init or config.teacher
    if not written:
        raise UserError(
            f"{folder} holds an adapter, and no --init says which weights it stands on; write "
            f'init = "DIR" into {folder}/config.toml'
        )
    for place in (Path(written), folder.parent / Path(written).name):
        if place.is_dir() and place.resolve() != folder.resolve():
            return place
    raise UserError(
        f"{folder} holds an adapter, and the weights that it stands on are not in {written}; put "
        f"them back, or say in {folder}/config.toml where they are now (init)"
    )


def arrays_of(flow_map: FlowMap) -> dict[str, Any]:
    """The numbers of a map by their names in its network."""
    before, _ = network_of(flow_map)
    found = jax.tree_util.tree_leaves_with_path(flow_map)
    return {named(path).removeprefix(before): leaf for path, leaf in found if is_numbers(leaf)}


def _other_arrays(like: FlowMap) -> dict[str, Any]:
    """The arrays of a map that are no numbers to be trained, by their names in its network."""
    before, _ = network_of(like)
    found = jax.tree_util.tree_leaves_with_path(eqx.filter(like, eqx.is_array))
    return {named(path).removeprefix(before): leaf for path, leaf in found if not is_numbers(leaf)}


def _named_in(like: Any, names: Collection[str]) -> Any:
    at = lambda path, leaf: is_numbers(leaf) and named(path) in names  # noqa: E731
    return jax.tree_util.tree_map_with_path(at, like)


def _filled(like: Any, names: Collection[str], given: dict[str, Any], place: Path) -> Any:
    """`like` with the numbers that are given, and None where `names` say that a checkpoint has
    them."""
    before, _ = network_of(like)

    def at(path: tuple, leaf: Any) -> Any:
        name = named(path)
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            return leaf
        if name in names:
            return None
        own = name.removeprefix(before).replace(".base.", ".")
        if own not in given or given[own].shape != leaf.shape:
            raise UserError(
                f"{place} has no {own} of shape {tuple(leaf.shape)}: it is another network than "
                "that of the adapter; name the weights that it was trained on"
            )
        return given[own]

    return jax.tree_util.tree_map_with_path(at, like)
