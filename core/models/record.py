"""`model.toml`: all that a model folder says of its network but the numbers.

It is read as if a stranger had written it: nothing but the fields of `ModelRecord` and of the
network's configuration may stand there, each of its type, and sizes have bounds, so that building
the network without its numbers takes neither long nor much memory.
"""

import dataclasses
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

import tomli_w

from core.errors import UserError
from core.nets import NETS, NetworkConfig
from core.nets.autoencoder_kl import AutoencoderKLConfig
from core.records import plain, typed

MARKER = "model.toml"
FORMAT = 1
"""The format of model folders that is written."""
AUTOENCODER = "autoencoder-kl"
MOST_BYTES = 2**20
MOST_SIZE = 2**20
"""The largest number among a network's sizes, and the most of a picture's side is a 64th of it."""
MOST_LOOPS = 256
"""Values that a network is built by one after another: blocks of a level, levels."""
LOOPS = ("blocks", "layers")
Prediction = Literal["", "noise", "x_0", "velocity", "edm"]


@dataclass(frozen=True)
class ModelRecord:
    """The content of `model.toml`.

    **Fields:** `kind`, the layout that it was converted from; `net`, the network's `name` and its
    flags; `shape` of an example and `num_classes`, 0 for none; `prediction` of the network
    (`core.layouts.found.Found`, "" for our velocity) and the `data_std` of EDM's preconditioning;
    `trained_without_null` where labels were never left out in training; `scaling` of latents by the
    names of diffusers; the SHA-256 of the weights.
    """

    kind: str
    net: dict
    shape: tuple[int, ...]
    weights_sha256: str
    num_classes: int = 0
    prediction: Prediction = ""
    data_std: float = 0.5
    trained_without_null: bool = False
    licence: str = ""
    title: str = ""
    scaling: dict = field(default_factory=dict)


def toml_of(record: ModelRecord) -> str:
    """The text of `model.toml`."""
    head = {"portolan": "model", "format": FORMAT}
    return tomli_w.dumps(plain({**head, **dataclasses.asdict(record)}))


def flags_of(name: str, config: Any) -> dict[str, Any]:
    """A network's name and flags, as the table `net` has them."""
    return {"name": name, **dataclasses.asdict(config)}


def read_record(folder: Path) -> ModelRecord:
    """What `model.toml` says. Raises `UserError`, one line, for a file that is none, or that says
    what there is not."""
    file = folder / MARKER
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES:,} bytes")
        tree = tomllib.loads(content.decode("utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{folder} is no model folder (no {MARKER}); make one with python -m apps.convert"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{file} is damaged ({why}); convert the model again") from None
    if tree.pop("portolan", None) != "model":
        raise UserError(f"{file} is not of Portolan, so {folder} is no model folder; name another")
    number = tree.pop("format", None)
    if type(number) is not int or not 1 <= number <= FORMAT:
        raise UserError(
            f"{file} is of format {str(number)[:20]}, and this version reads {FORMAT}; open it "
            "with a later version, or convert the model again"
        )
    return _record(tree, file)


def _record(tree: Mapping[str, Any], file: Path) -> ModelRecord:
    found = _fields(ModelRecord, tree, str(file))
    missing = [name for name in ("kind", "net", "shape", "weights_sha256") if name not in found]
    if missing:
        raise _fault(file, f"it does not say {missing[0]}")
    record = ModelRecord(**found)
    _check_bounds(found, str(file))
    shape = record.shape
    if len(shape) != 3 or min(shape) < 1 or max(shape) > MOST_SIZE // 64 or record.num_classes < 0:
        raise _fault(file, "its examples are no images")
    return record


def config_of(record: ModelRecord, file: Path) -> NetworkConfig | AutoencoderKLConfig:
    """The configuration of the network. Raises `UserError` for what is none."""
    flags = dict(record.net)
    name = flags.pop("name", None)
    kind = AutoencoderKLConfig if name == AUTOENCODER else None
    if kind is None and isinstance(name, str) and name in NETS:
        kind = NETS[name]
    if kind is None:
        raise _fault(file, f"there is no network {str(name)[:40]!r}")
    _check_bounds(flags, str(file))
    loops = [flags.get(one, 0) for one in LOOPS]
    if any(isinstance(value, int) and value > MOST_LOOPS for value in loops):
        raise _fault(file, f"its network has more than {MOST_LOOPS} blocks a level")
    try:
        return kind(**_fields(kind, flags, f"{file}: net"))
    except UserError as error:
        raise _fault(file, str(error).partition(";")[0]) from None
    except Exception as error:  # sizes that no flag would have
        raise _fault(file, f"its network cannot be built, {error}") from None


def _fields(kind: Any, tree: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a dataclass's fields. Raises `UserError` for others, or of other types."""
    hints = get_type_hints(kind)
    found: dict[str, Any] = {}
    for name, value in tree.items():
        if name not in hints:
            raise UserError(f"{where}: {str(name)[:40]!r} is nothing that this version knows")
        try:
            found[name] = typed(value, hints[name], f"{where}: {name}")
        except UserError as error:
            raise UserError(f"{str(error)[:300]}; convert the model again") from None
    return found


def _check_bounds(tree: Mapping[str, Any], where: str) -> None:
    """Raises `UserError` for numbers and texts that are no network's."""
    for name, value in tree.items():
        if isinstance(value, dict):
            _check_bounds(value, where)
            continue
        values = value if isinstance(value, tuple | list) else [value]
        long = len(values) > MOST_LOOPS or any(isinstance(v, str) and len(v) > 500 for v in values)
        if long or not all(_is_plain(one) for one in values):
            raise UserError(f"{where}: {str(name)[:40]} is far too large; convert the model again")


def _is_plain(value: Any) -> bool:
    if isinstance(value, int | float):
        return math.isfinite(value) and abs(value) <= MOST_SIZE
    return isinstance(value, str)


def _fault(file: Path, why: str) -> UserError:
    return UserError(f"{file}: {' '.join(why.split())[:200]}; convert the model again")
