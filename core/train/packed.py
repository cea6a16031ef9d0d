"""A run folder with the averaged weights of its map alone, in the place of checkpoints.

config.toml           as the run has it
data.toml             as the run has it, and source.toml where it has one
run.json              the marker of a run folder
weights.safetensors   the weights by their place in the map, in the precision of the file; the step
"""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from core.data.codec import FILE as CODEC
from core.errors import UserError, pick
from core.files import write_bytes
from core.flow.flow_map import FlowMap
from core.train import toml
from core.train.config import AdapterConfig
from core.train.folder import Marker, code, mark, version
from core.train.sums import sums_of, wrong

if TYPE_CHECKING:
    from core.train.run import Run

FILE = "weights.safetensors"
PRECISIONS = {"float32": jnp.float32, "float16": jnp.float16, "bfloat16": jnp.bfloat16}


def pack(run: "Run", folder: Path, precision: str) -> None:
    """Writes the folder. Raises `UserError` for a precision that there is not."""
    from safetensors.numpy import save

    dtype = pick(PRECISIONS, precision, "precision")
    arrays = {name: np.asarray(leaf.astype(dtype)) for name, leaf in _by_name(run.flow_map).items()}
    about = {"step": str(run.step), "sums": json.dumps(sums_of(arrays))}
    write_bytes(folder / FILE, save(arrays, about))
    mark(folder, Marker(version=version(), code=code()))
    toml.write_record(run.spec, folder / "data.toml")
    if Path(run.spec.codec.path).is_file():
        write_bytes(folder / CODEC, Path(run.spec.codec.path).read_bytes())
    if run.starts_spec is not None:
        toml.write_record(run.starts_spec, folder / "source.toml")
    # The weights of an adapter are merged into the map, and it stands on nothing else.
    whole = dataclasses.replace(run.config, adapter=AdapterConfig())
    toml.write(whole, folder / "config.toml")


def unpack(like: FlowMap, folder: Path) -> tuple[FlowMap, int]:
    """The map with the weights of a folder, in its own precision, and their step.

    `like` may have shapes in the place of arrays. Raises `UserError` for a damaged file, and for
    weights of another network.
    """
    from safetensors import safe_open

    try:
        with safe_open(folder / FILE, "flax") as file:
            about = file.metadata() or {}
            step = int(about.get("step", 0))
            arrays = {name: file.get_tensor(name) for name in file.keys()}
            bad = wrong(arrays, json.loads(about.get("sums", "{}")))
    except Exception as error:  # its readers raise nearly anything for damaged bytes
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{folder / FILE} is damaged ({why}); copy it again") from None
    if bad is not None:
        raise UserError(f"{folder / FILE} is damaged ({bad} has not its checksum); copy it again")
    wanted = _by_name(like)
    shapes = {name: leaf.shape for name, leaf in wanted.items()}
    if shapes != {name: array.shape for name, array in arrays.items()}:
        raise UserError(f"{folder / FILE} has the weights of another network than config.toml says")
    leaves = [arrays[name].astype(leaf.dtype) for name, leaf in wanted.items()]
    kept, static = eqx.partition(like, _is_trained)
    return eqx.combine(jax.tree.unflatten(jax.tree.structure(kept), leaves), static), step


def _by_name(tree: Any) -> dict[str, Any]:
    """The trained arrays by their place, in order."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, _is_trained))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _is_trained(leaf: Any) -> bool:
    arrays = isinstance(leaf, jax.Array | jax.ShapeDtypeStruct)
    return arrays and jnp.issubdtype(leaf.dtype, jnp.inexact)
