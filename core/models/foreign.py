"""What somebody else's file or folder holds, before it is known of which network it is."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.models.record import MARKER
from core.tensors import LazyTensor, Record, open_tensors, open_tree, sha256
from core.tensors.edm_pickle import is_edm, open_edm
from core.tensors.machine import shown
from core.tensors.orbax_folder import orbax_folder
from core.tensors.sharded import ENDING, sharded

CONFIG, SCHEDULER, PIPELINE = "config.json", "scheduler_config.json", "model_index.json"
WEIGHTS = (
    "diffusion_pytorch_model.safetensors",
    f"diffusion_pytorch_model{ENDING}",
    "diffusion_pytorch_model.fp16.safetensors",
    f"diffusion_pytorch_model.fp16{ENDING}",
    "model.safetensors",
    "diffusion_pytorch_model.bin",
)
"""Weights in a folder of diffusers, the first that is there."""
COMPONENTS = ("transformer", "unet")
"""Networks in a pipeline of diffusers, the first that is there."""
MOST_BYTES = 2**24
ENDINGS = (".safetensors", ".pt", ".pth", ".pkl", ".msgpack", ".npz", ".bin")


@dataclass(frozen=True)
class Foreign:
    """Tensors of a file or folder, and what else it says.

    **Fields:** `path` as given; `which` of its sets the tensors are, "" where there is one; `files`
    with the weights; `options` of a pickle of EDM's; `config` and `scheduler` of diffusers,
    and the configuration of the `vae` in the same pipeline; `arguments` of the script that trained
    it.
    """

    path: Path
    tensors: Mapping[str, LazyTensor]
    which: str
    files: tuple[Path, ...]
    options: Mapping[str, Any] | None = None
    config: Mapping[str, Any] | None = None
    scheduler: Mapping[str, Any] | None = None
    vae: Mapping[str, Any] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of the files with the weights."""
        return sum(file.stat().st_size for file in self.files)

    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file, by its name in the folder."""
        return {_name(file, self.path): sha256(file) for file in self.files}


def digest_of(hashes: Mapping[str, str]) -> str:
    """One SHA-256 of several files: that of the file, where there is one."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def open_foreign(path: str | Path, which: str | None = None, *, vae: bool = False) -> Foreign:
    """Opens a file of tensors, a folder of diffusers or one of Orbax; nothing in it is executed.

    **Arguments:** `which` of several sets, "ema" or "model"; `vae` takes the autoencoder of a
    pipeline. **Raises:** `UserError`, one line, for what is none of them.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"no file or folder {path}; name one with --file")
    if path.is_dir():
        return _of_folder(path, which, vae)
    if path.suffix == ".json" and not path.name.endswith(ENDING):
        raise UserError(f"{path} has no weights; name its folder, or the file of weights")
    return _of_file(path, which)


def _of_folder(path: Path, which: str | None, vae: bool) -> Foreign:
    if (path / MARKER).is_file():
        raise UserError(f"{path} is a model folder already; it is a teacher or a run as it is")
    if (path / PIPELINE).is_file() and not (path / CONFIG).is_file():
        names = ("vae",) if vae else COMPONENTS
        there = [name for name in names if (path / name / CONFIG).is_file()]
        if not there:
            raise UserError(f"{path} is a pipeline without {' or '.join(names)}; name a component")
        return _of_folder(path / there[0], which, vae)
    if (path / CONFIG).is_file():
        files = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not files:
            raise UserError(f"{path} has {CONFIG} and no weights ({WEIGHTS[0]}); name their file")
        return _of_file(files[0], which)
    orbax = orbax_folder(path)
    if orbax is not None:
        tensors = open_tensors(path, which)
        files = tuple(sorted(one for one in orbax.rglob("*") if one.is_file()))
        return Foreign(path, tensors, tensors.which, files)
    files = sorted(one for one in path.iterdir() if one.is_file() and one.name.endswith(ENDINGS))
    if len(files) != 1:
        raise UserError(
            f"{path} has {len(files) or 'no'} files of weights, no {CONFIG} of diffusers and no "
            "_METADATA of Orbax; name the file that is meant with --file"
        )
    return _of_file(files[0], which)


def _of_file(file: Path, which: str | None) -> Foreign:
    beside = _beside(file)
    if file.name.endswith(ENDING):
        tensors = open_tensors(file, which)
        return Foreign(file, tensors, "", tuple(sharded(file)[1]), **beside)
    if file.stat().st_size >= 4 and is_edm(file):
        options, found = open_edm(file, which or "ema")
        return Foreign(file, found, which or "ema", (file,), options)
    tensors = open_tensors(file, which)
    arguments = _arguments(file) if tensors.which else {}
    return Foreign(file, tensors, tensors.which, (file,), arguments=arguments, **beside)


def _beside(file: Path) -> dict[str, Any]:
    """diffusers' configurations of a network and of its scheduler, that lie beside its file, or in
    the pipeline that the network is a part of."""
    config = read_json(file.parent / CONFIG)
    if config is None or "_class_name" not in config:
        return {}
    places = [file.parent / SCHEDULER, file.parent / "scheduler" / SCHEDULER]
    pipeline, vae = file.parent.absolute().parent, None
    if (pipeline / PIPELINE).is_file():
        places.append(pipeline / "scheduler" / SCHEDULER)
        vae = read_json(pipeline / "vae" / CONFIG)
    found = (read_json(place) for place in places)
    scheduler = next((one for one in found if one is not None), None)
    return {"config": config, "scheduler": scheduler, "vae": vae}


def read_json(file: Path) -> dict[str, Any] | None:
    """The dictionary of a JSON file; None where there is no file. Raises `UserError` for one that
    is none."""
    if not file.is_file():
        return None
    found: Any = None
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) <= MOST_BYTES:
            found = json.loads(content)
    except (ValueError, OSError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"{file} is no JSON of options; get it again")
    return found


def _arguments(file: Path) -> dict[str, Any]:
    """The flags of the training script, which SiT and DiT keep beside their weights."""
    with file.open("rb") as stream:
        start = stream.read(2)
    if start not in (b"PK", b"\x80\x02"):
        return {}
    tree = open_tree(file)
    found = tree.get("args") if isinstance(tree, dict) else None
    state = found.state if isinstance(found, Record) else found
    if not isinstance(state, dict):
        return {}
    plain = (str, int, float, bool)
    texts = {str(key): value for key, value in state.items() if isinstance(value, plain)}
    return {key: shown(one) if isinstance(one, str) else one for key, one in texts.items()}


def _name(file: Path, path: Path) -> str:
    """The name of a file, in the folder that was given."""
    inside = path.is_dir() and file.is_relative_to(path)
    return str(file.relative_to(path)) if inside else file.name
