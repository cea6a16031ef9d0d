"""A model folder: a network that was trained elsewhere, in our own names.

model.toml            the network, its flow map and what it was trained on (`core.models.record`)
weights.safetensors   its numbers by their place in the network
source.json           where they came from: file, SHA-256, keys, licence, versions

The folder appears as a whole. It is opened as if a stranger had written it: nothing in it is
executed, sizes are bounded before memory is taken, names, shapes and the weights' hash are checked.
"""

import dataclasses
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from core.data.spec import DataSpec
from core.errors import UserError, pick
from core.files import UNFINISHED, write_json, write_text
from core.layouts.autoencoder_kl import FoundAutoencoder
from core.layouts.found import Found, shaped
from core.layouts.table import Table, filled, names, take
from core.models.pretrained import Pretrained, PretrainedAutoencoder, map_of
from core.models.record import (
    AUTOENCODER,
    MARKER,
    ModelRecord,
    config_of,
    flags_of,
    read_record,
    toml_of,
)
from core.nets import NETS, NetworkConfig
from core.nets.autoencoder_kl import AutoencoderKLConfig
from core.tensors import LazyTensor, open_tensors, sha256

WEIGHTS, SOURCE = "weights.safetensors", "source.json"
MOST_SOURCE = 2**24
PRECISIONS = {"float32": np.float32, "float16": np.float16, "bfloat16": jnp.bfloat16}


def is_model(folder: str | Path) -> bool:
    """Whether a folder is a model folder: it has `model.toml` and not the `config.toml` of a
    run."""
    folder = Path(folder)
    return (folder / MARKER).is_file() and not (folder / "config.toml").exists()


def write_model(
    folder: str | Path,
    found: Found[Any] | FoundAutoencoder,
    net: Any,
    source: Mapping[str, Any],
    *,
    scaling: Mapping[str, Any] | None = None,
    data_std: float = 0.5,
    precision: str = "float32",
) -> None:
    """Writes a model folder, or nothing.

    **Arguments:** `found` of a layout and its `net`; `source`, the content of `source.json`, with
    its `kind` and `sha256`, and `title` and `licence` where known; `scaling` of latents; `data_std`
    of EDM's preconditioning; `precision` of the file, of `PRECISIONS`. **Raises:** `UserError`
    where something else lies in the folder (`check_place`); `OSError` where it cannot be written.
    """
    dtype = pick(PRECISIONS, precision, "precision")
    arrays = {name: np.asarray(leaf).astype(dtype, copy=False) for name, leaf in names(net).items()}

    def record(digest: str) -> ModelRecord:
        common: dict[str, Any] = {"kind": str(source["kind"]), "weights_sha256": digest}
        common |= {name: str(source.get(name, "")) for name in ("title", "licence")}
        if isinstance(found, FoundAutoencoder):
            side = found.config.factor
            flags = flags_of(AUTOENCODER, found.config)
            scale = dict(found.scaling if scaling is None else scaling)
            shape = (side, side, found.depth)
            return ModelRecord(net=flags, shape=shape, scaling=scale, **common)
        return ModelRecord(
            net=flags_of(_name_of(found.config), found.config),
            shape=found.shape,
            num_classes=found.num_classes,
            prediction=found.prediction or "",  # pyright: ignore[reportArgumentType]
            data_std=data_std,
            trained_without_null=without_null(found.config, found.num_classes),
            scaling=dict(scaling or {}),
            **common,
        )

    write_arrays(folder, arrays, record, source)


def write_arrays(
    folder: str | Path,
    arrays: Mapping[str, np.ndarray],
    record: Callable[[str], ModelRecord],
    source: Mapping[str, Any],
) -> None:
    """The same for arrays by name; `record` is that of the SHA-256 of their file."""
    from safetensors.numpy import save_file

    check_place(folder, source)
    with _as_a_whole(Path(folder)) as place:
        content = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        for name, array in arrays.items():
            content[name] = content[name].reshape(array.shape)  # it makes rows of numbers
        save_file(content, place / WEIGHTS, {"portolan": "model"})
        text = toml_of(record(sha256(place / WEIGHTS)))
        write_json(place / SOURCE, dict(source))
        write_text(place / MARKER, text)


def check_place(folder: str | Path, source: Mapping[str, Any]) -> None:
    """Raises `UserError` unless a folder is missing, empty, or of the same source."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; name a folder with --out")
    if not folder.exists() or not any(folder.iterdir()):
        return
    other = f"{folder} holds something else, and nothing in it was touched; name another --out"
    if not is_model(folder):
        raise UserError(other)
    try:
        there = _read_source(folder)
    except UserError:
        raise UserError(other) from None
    if any(there.get(name) != source.get(name) for name in ("kind", "sha256")):
        raise UserError(
            f"{folder} is the model of another file ({str(there.get('file'))[:80]}), and nothing "
            "in it was touched; name another --out"
        )


@contextmanager
def _as_a_whole(folder: Path) -> Iterator[Path]:
    """A folder beside the one to write, whose files become those of that one in the end."""
    made = [each for each in folder.parents if not each.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    place = folder.parent / (UNFINISHED + secrets.token_hex(6))
    try:
        place.mkdir()
        yield place
        if folder.exists():
            for name in (WEIGHTS, SOURCE, MARKER):  # what says that it is one comes last
                os.replace(place / name, folder / name)
        else:
            os.rename(place, folder)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for each in made:
            with suppress(OSError):  # where nothing was written
                each.rmdir()


def open_model(
    folder: str | Path, *, attention: str | None = None, dtype: str | None = None
) -> Pretrained:
    """The network of a model folder; `attention` names another implementation, where there is a
    choice, and `dtype` another precision to compute in.

    Raises `UserError`, one line, for a folder that is none, or whose files are damaged or not of
    one another.
    """
    folder = Path(folder)
    record = read_record(folder)
    config: Any = _network_config(folder, record)
    other = {"attention": attention, "dtype": dtype}
    config = dataclasses.replace(config, **{k: v for k, v in other.items() if v})
    net = _filled(folder, record, config)
    clock, prediction = getattr(config, "clock", "unit"), record.prediction or None
    return Pretrained(
        folder=folder,
        kind=record.kind,
        title=record.title,
        net=net,
        net_name=record.net["name"],
        net_flags=config,
        flow_map=map_of(net, clock, prediction, record.data_std),
        prediction=prediction,
        clock=clock,
        spec=spec_of(record),
        trained_without_null=record.trained_without_null,
        scaling=record.scaling,
        licence=record.licence,
        source=_read_source(folder),
    )


def open_autoencoder(folder: str | Path) -> PretrainedAutoencoder:
    """The autoencoder of a model folder. Raises `UserError` as `open_model`, and for a folder of
    another network."""
    folder = Path(folder)
    record = read_record(folder)
    config = config_of(record, folder / MARKER) if record.net.get("name") == AUTOENCODER else None
    if not isinstance(config, AutoencoderKLConfig):
        raise UserError(
            f"{folder} holds a network of kind {record.kind[:40]} and no autoencoder; convert one "
            "with python -m apps.convert --from autoencoder-kl"
        )
    return PretrainedAutoencoder(
        folder=folder,
        file=folder / WEIGHTS,
        net=_filled(folder, record, config),
        config=config,
        depth=record.shape[2],
        scaling=record.scaling,
        licence=record.licence,
        source=_read_source(folder),
    )


def spec_of(record: ModelRecord) -> DataSpec:
    """The description of what the network was trained on."""
    return DataSpec(record.kind, "image", record.shape, record.num_classes)


def without_null(config: Any, classes: int) -> bool:
    """Whether a network has labels that were never left out in training."""
    said = getattr(config, "trained_without_null", None)
    return bool(classes) and bool(not getattr(config, "null_class", True) if said is None else said)


def _network_config(folder: Path, record: ModelRecord) -> NetworkConfig:
    name = record.net.get("name")
    if name == AUTOENCODER:
        raise UserError(
            f"{folder} holds an autoencoder and no flow map; give it to "
            f"python -m apps.latents --vae {folder}"
        )
    if name in FEATURES:
        raise UserError(
            f"{folder} holds feature network {name} and no flow map; give it to "
            f"python -m apps.eval --features {name}={folder}"
        )
    config = config_of(record, folder / MARKER)
    assert isinstance(config, NetworkConfig)
    return config


FEATURES = ("inception", "dinov2")


def _filled(folder: Path, record: ModelRecord, config: Any) -> Any:
    """The network with the numbers of the folder."""
    file, marker = folder / WEIGHTS, folder / MARKER
    if not file.is_file():
        raise UserError(f"{folder} has no {WEIGHTS}; convert the model again")
    if sha256(file) != record.weights_sha256:
        raise UserError(f"{file} is damaged or of another model; convert the model again")
    tensors = open_tensors(file)
    _check_table(record, config, file, tensors)

    def build(key: jax.Array) -> Any:
        if isinstance(config, NetworkConfig):
            return config.build(record.shape, record.num_classes, key=key)
        return config.build(record.shape, key=key)

    try:
        skeleton = shaped(build)
    except Exception as error:  # of sizes that do not go together
        why = " ".join(str(error).partition(";")[0].split())[:200]
        raise UserError(f"{marker}: no such network ({why}); convert the model again") from None
    identity = Table({name: take(name) for name in names(skeleton)})
    try:
        return filled(skeleton, identity, tensors)
    except UserError as error:
        why = str(error).rpartition(";")[0].removeprefix("the weights are not of this network: ")
        raise UserError(
            f"{file} is not of the network in {MARKER} ({why[:300]}); convert the model again"
        ) from None


def _check_table(
    record: ModelRecord, config: Any, file: Path, tensors: Mapping[str, LazyTensor]
) -> None:
    """Raises `UserError` for a network whose position table would be made larger than the file's:
    that one array is made before the shapes are compared."""
    if getattr(config, "positions", "") != "stored":
        return
    high, wide, _ = record.shape
    rows = (high // config.patch) * (wide // config.patch)
    there = tensors["positions"].shape if "positions" in tensors else ()
    if there != (rows, config.width):
        raise UserError(f"{file} has positions {there}, not those of {MARKER}; convert it again")


def _read_source(folder: Path) -> dict[str, Any]:
    file = folder / SOURCE
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_SOURCE + 1)
        found = json.loads(content) if len(content) <= MOST_SOURCE else None
    except (OSError, ValueError, RecursionError) as error:
        why = type(error).__name__
        raise UserError(f"{file} cannot be read ({why}); convert the model again") from None
    if not isinstance(found, dict):
        raise UserError(f"{file} is not as it was written; convert the model again")
    return found


def _name_of(config: Any) -> str:
    return next(name for name, kind in NETS.items() if kind is type(config))
