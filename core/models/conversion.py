"""From somebody else's tensors to a network of ours, and what is known of where it came from."""

import dataclasses
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from core.errors import UserError
from core.flow.flow_map import FlowMap
from core.flow.path import gaussian
from core.layouts.autoencoder_kl import SCALING, FoundAutoencoder
from core.layouts.found import Found
from core.layouts.table import left_out
from core.models.folder import write_arrays, write_model
from core.models.foreign import Foreign, digest_of
from core.models.kinds import SD, Given, Kind, also
from core.models.naming import form_of, place_of, title_of
from core.models.pretrained import map_of
from core.models.record import ModelRecord
from core.nets.perceptions.named import NETWORKS
from core.nets.perceptions.source import Source
from core.tensors import LazyTensor
from core.tensors.machine import shown

LATENT = 4
"""Channels of the latents of published networks: pictures have 1 or 3."""
NOT_COUNTED = ("pos_embed",)
"""Tables that are fixed: papers do not count them among the parameters."""
ODD = (ValueError, IndexError, KeyError, TypeError, ZeroDivisionError, OverflowError, MemoryError)
"""What sizes raise that no network has."""
UNKNOWN = "not known"
ARGUMENTS = ("model", "path_type", "prediction", "loss_weight", "image_size", "num_classes", "vae")
"""Flags of training scripts that are noted; others name places on the machine of their author."""
PACKAGES = ("portolan", "jax", "numpy", "safetensors", "orbax-checkpoint")


@dataclass(frozen=True)
class Converted:
    """A converted network.

    **Fields:** `found` by its layout, None for a feature network, with what the user has `given`;
    `net`; `spare` keys of the file, which it has no use for; `data_std` of EDM's preconditioning.
    """

    file: Foreign
    kind: Kind
    found: Found[Any] | FoundAutoencoder | None
    net: Any
    spare: tuple[str, ...]
    given: Given
    data_std: float = 0.5

    @property
    def used(self) -> list[str]:
        """The keys of the file that the network has."""
        spare = set(self.spare)
        return [key for key in self.file.tensors if key not in spare]

    @property
    def numbers(self) -> int:
        """How many numbers the file has of the network, without fixed tables."""
        return sum(self.file.tensors[key].size for key in self.used if key not in NOT_COUNTED)

    @property
    def title(self) -> str:
        """Its name with its size."""
        return title_of(self.kind, self.found)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of an input, 0 for a side that may be any."""
        if isinstance(self.found, Found):
            return self.found.shape
        return (0, 0, self.found.depth if self.found is not None else 3)

    @property
    def classes(self) -> int:
        """Classes, 0 for none."""
        return self.found.num_classes if isinstance(self.found, Found) else 0

    @property
    def clock(self) -> str:
        """The times that the network is given."""
        config = self.found.config if isinstance(self.found, Found) else None
        edm = isinstance(self.found, Found) and self.found.prediction == "edm"
        return "sigma" if edm else getattr(config, "clock", "unit")

    @property
    def flow_map(self) -> FlowMap | None:
        """The network as a flow map; None for other networks."""
        if not isinstance(self.found, Found):
            return None
        clock = getattr(self.found.config, "clock", "unit")
        return map_of(self.net, clock, self.found.prediction, self.data_std)

    @property
    def scaling(self) -> Mapping[str, Any]:
        """How latents are scaled, by the names of diffusers; nothing for networks of pictures."""
        return self._scaled()[0]

    @property
    def assumed(self) -> str:
        """One line of what the file does not tell."""
        before = self.found.assumed if isinstance(self.found, Found) else ""
        return also(before, self._scaled()[1])

    def _scaled(self) -> tuple[Mapping[str, Any], str]:
        """The scaling of latents, and what was assumed of it."""
        found, file = self.found, self.file
        if self.given.scaling is not None:
            return {"scaling_factor": self.given.scaling}, ""
        by_default = f"latents scaled by {SD['scaling_factor']} (--scaling)"
        if isinstance(found, FoundAutoencoder):
            said = "" if file.config is not None else by_default
            return found.scaling or SD, said  # that of diffusers, where the configuration is silent
        if not isinstance(found, Found) or found.shape[2] != LATENT:
            return {}, ""
        if file.vae is not None:
            return {name: file.vae[name] for name in SCALING if file.vae.get(name)} or SD, ""
        return self.kind.latents or {}, by_default if self.kind.latents is SD else ""

    def words(self) -> list[str]:
        """What it is, in a few words each."""
        found = self.found
        words = [self.title]
        if isinstance(found, Found):
            words.append(place_of(self.kind, found.shape))
            words.append(f"{found.num_classes:,} classes" if found.num_classes else "no classes")
        return words

    def form(self) -> str:
        """What it gives; of an autoencoder and of a feature network what it is for."""
        flow_map = self.flow_map
        if flow_map is not None and isinstance(self.found, Found):
            return form_of(self.found.prediction, gaussian(flow_map.path))
        return "an autoencoder" if self.found is not None else "features of pictures"


def converted(
    file: Foreign, kind: Kind, given: Given, progress: Callable[[int], None] = lambda _: None
) -> Converted:
    """The network of a file. `progress` gets the bytes of each tensor that was read.

    Raises `UserError`, one line, where tensors are not of such a network.
    """
    tensors = watched(file.tensors, progress)
    try:
        if kind.name in NETWORKS:
            net = NETWORKS[kind.name].build(Source(tensors, file.path.name))
            return Converted(file, kind, None, net, (), given)
        found = kind.read(file, given)
        assert found is not None
        net = found.network(tensors)
    except UserError as error:
        raise UserError(_in_our_words(str(error), file)) from None
    except ODD as error:
        why = " ".join(str(error).split())[:150] or type(error).__name__
        raise UserError(
            f"{shown(file.path.name)} has tensors that are of no {kind.title} ({why}); --list "
            "shows them"
        ) from None
    spare = tuple(left_out(found.table, file.tensors))
    return Converted(file, kind, found, net, spare, given, _data_std(file))


def _in_our_words(message: str, file: Foreign) -> str:
    """A complaint of a layout, with the file's name before it and what to do about it here."""
    name, advice = shown(file.path.name), "say whose file it is as --from"
    said = message if name in message else f"{name}: {message}"
    for other in (
        "choose another layout, or the options of the network that they are of",
        "choose another layout",
        "try another layout",
    ):
        said = said.replace(other, advice)
    return said


def _data_std(file: Foreign) -> float:
    said = (file.options or {}).get("sigma_data", 0.5)
    return float(said) if isinstance(said, int | float) and 0 < said < 1e3 else 0.5


def watched(
    tensors: Mapping[str, LazyTensor], progress: Callable[[int], None]
) -> dict[str, LazyTensor]:
    """The same tensors, of which each tells how many bytes it had when it was read."""

    def seen(one: LazyTensor) -> LazyTensor:
        def load() -> np.ndarray:
            values = one.load()
            progress(values.nbytes)
            return values

        return dataclasses.replace(one, load=load)

    return {name: seen(one) for name, one in tensors.items()}


def source_of(
    done: Converted, hashes: Mapping[str, str], licence: str | None = None
) -> dict[str, Any]:
    """The content of `source.json`, from the hash of each file."""
    source = {
        "kind": done.kind.name,
        "title": done.title,
        "file": shown(done.file.path.name),
        "files": dict(hashes),
        "sha256": digest_of(hashes),
        "bytes": done.file.size,
        "weights": done.file.which,
        "keys": len(done.used),
        "numbers": done.numbers,
        "left_out": list(done.spare),
        "licence": licence or done.kind.licence or UNKNOWN,
        "assumed": done.assumed,
        "versions": {"python": platform.python_version()} | _versions(),
    }
    said = {key: done.file.arguments[key] for key in ARGUMENTS if key in done.file.arguments}
    if said:
        source["arguments"] = said
    if done.kind.name == "meanflow":
        source["guidance"] = "as trained: it is part of the weights, and no input"
    return source


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def precision_of(done: Converted) -> str:
    """The precision of the file, where all its numbers have one of 16 bits."""
    kinds = {done.file.tensors[key].kind for key in done.used if done.file.tensors[key].size > 1}
    return kinds.pop() if len(kinds) == 1 and kinds <= {"float16", "bfloat16"} else "float32"


def write(done: Converted, folder: str | Path, source: Mapping[str, Any], precision: str) -> None:
    """Writes the model folder. Raises `UserError` and `OSError` as `core.models.write_model`."""
    if done.found is None:
        arrays = {key: np.asarray(one) for key, one in done.file.tensors.items()}

        def record(digest: str) -> ModelRecord:
            return ModelRecord(
                done.kind.name,
                {"name": done.kind.name},
                (1, 1, 3),
                digest,
                title=str(source["title"]),
                licence=str(source["licence"]),
            )

        write_arrays(folder, arrays, record, source)
        return
    write_model(
        folder,
        done.found,
        done.net,
        source,
        scaling=done.scaling,
        data_std=done.data_std,
        precision=precision,
    )
