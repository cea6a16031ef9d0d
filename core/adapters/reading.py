"""Adapters from files: ours, peft's, diffusers' and kohya's. Safetensors alone are read.

| | keys | scale |
|---|---|---|
| peft | `base_model.model.<path>.lora_A.weight`, `.lora_B.weight` | in `adapter_config.json` |
| diffusers | `<component>.<path>.lora_A.weight`, older `.lora.down.weight` | in the head, or 1 |
| kohya | `lora_unet_<path, _ for .>.lora_down.weight`, `.lora_up.weight` | `.alpha` / r, one each |

Underscores in paths are ambiguous, so kohya's names are looked up among those that the paths of the
network give, never taken apart.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core.adapters.factors import Adapter
from core.adapters.modules import Module, modules_of
from core.adapters.own_file import FILE, is_own, own_adapter
from core.adapters.pairs import Pair, joined
from core.adapters.places import layers, network_of
from core.errors import UserError
from core.tensors import open_tensors

OTHERS = {
    "hada_": "LoHa", "lokr_": "LoKr", "dora_scale": "DoRA", "lora_magnitude_vector": "DoRA",
    "oft_": "OFT", "lora_mid": "LoCon with a middle matrix",
}  # fmt: skip
"""Marks in keys of adapters of other forms."""
ENDS = {
    ".lora_A.weight": "A", ".lora_B.weight": "B", ".lora_A.default.weight": "A",
    ".lora_B.default.weight": "B", ".lora_down.weight": "A", ".lora_up.weight": "B",
    ".lora.down.weight": "A", ".lora.up.weight": "B", ".alpha": "alpha",
}  # fmt: skip
"""Ends of keys, and what they hold."""
COMPONENTS = ("base_model.model.", "unet.", "transformer.")
FLAT = ("lora_unet_", "lora_transformer_")
FILES = (
    *(FILE, "adapter_model.safetensors", "pytorch_lora_weights.safetensors"),
    "lora.safetensors",
)
"""Files in a folder, in the order in which they are looked for."""
SETTINGS = "adapter_config.json"


def read_adapter(path: str | Path, flow_map: Any, shape: tuple[int, ...]) -> Adapter:
    """The adapter in a file or folder, for a map of examples of `shape`.

    Raises `UserError`, one line, for other files, for adapters of other forms (by their names),
    and for keys that this network has not.
    """
    path = _file(Path(path))
    arrays, head = open_tensors(path), _head(path)
    if is_own(head):
        return own_adapter(path, {name: array.read() for name, array in arrays.items()}, head)
    for mark, form in OTHERS.items():
        if any(mark in key for key in arrays):
            raise UserError(f"{path.name} is an adapter of the form {form}; LoRA alone is read")
    modules = modules_of(flow_map, shape)
    peft = any(key.startswith(COMPONENTS[0]) for key in arrays)
    settings = _settings(path, head, peft)
    _check_settings(path, settings)
    found = _by_module(path, arrays, modules)
    pairs = {place: _pair(path, place, one, settings) for place, one in found.items()}
    _, network = network_of(flow_map)
    try:
        return Adapter(joined(pairs, modules, layers(network)), name=str(path))
    except UserError as error:
        raise UserError(f"{path.name}: {error}") from None


def _file(path: Path) -> Path:
    if path.is_dir():
        there = [path / name for name in FILES if (path / name).is_file()]
        if not there:
            raise UserError(f"{path} holds no adapter ({', '.join(FILES)}); name its file")
        return there[0]
    if not path.is_file():
        raise UserError(f"no adapter {path}; name a safetensors file, or a run with an adapter")
    with path.open("rb") as stream:
        start = stream.read(9)
    if start[8:9] != b"{":
        raise UserError(f"{path.name} is no safetensors file, and adapters are read from no other")
    return path


def _head(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            return dict(file.metadata() or {})
    except SafetensorError:
        raise UserError(f"{path.name} is a damaged safetensors file; get it again") from None


def _settings(path: Path, head: Mapping[str, str], peft: bool) -> dict[str, Any]:
    """The settings that a file comes with, by peft's names; empty where there are none."""
    beside, text = path.with_name(SETTINGS), head.get("lora_adapter_metadata", "{}")
    if peft:
        if not beside.is_file():
            raise UserError(f"{path.name} has peft's keys, whose scale is in {SETTINGS} beside it")
        text = beside.read_text("utf-8", errors="replace")
    try:
        found = json.loads(text)
        assert isinstance(found, dict)
    except (ValueError, RecursionError, AssertionError):
        raise UserError(f"the settings of {path.name} are damaged; get it again") from None
    for component in COMPONENTS[1:]:
        found = {str(key).removeprefix(component): value for key, value in found.items()}
    return found


def _check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Raises `UserError` for an adapter of another form than LoRA."""
    form = settings.get("peft_type", "LORA")
    fault = None if form == "LORA" else str(form)
    if settings.get("use_dora"):
        fault = "DoRA"
    if settings.get("bias", "none") != "none":
        fault = f"LoRA with biases (bias = {settings['bias']!r})"
    if settings.get("fan_in_fan_out"):
        fault = "LoRA of transposed layers (fan_in_fan_out)"
    if fault is not None:
        raise UserError(f"{path.name} is an adapter of the form {fault}; LoRA alone is read")


def _by_module(
    path: Path, arrays: Mapping[str, Any], modules: Mapping[str, Module]
) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each module: `A`, `B` and maybe `alpha`."""
    flat = _flat(modules)
    found: dict[str, dict[str, np.ndarray]] = {}
    unknown = []
    for key, array in arrays.items():
        end = next((end for end in ENDS if key.endswith(end)), "")
        place = _place(key.removesuffix(end), modules, flat) if end else None
        if place is None:
            unknown.append(key)
        else:
            found.setdefault(place, {})[ENDS[end]] = np.asarray(array.read(), np.float32)
    if unknown or not found:
        some = ", ".join(unknown[:5]) or "nothing"
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        there = ", ".join(list(modules)[:3])
        raise UserError(
            f"{path.name} has {some}{more}, and this network no such layers; it has {there} ..."
        )
    return found


def _place(stem: str, modules: Mapping[str, Module], flat: Mapping[str, str]) -> str | None:
    """The module that a key without its end is of."""
    names = [stem, *(stem.removeprefix(c) for c in COMPONENTS if stem.startswith(c))]
    for name in names:
        if name in modules:
            return name
    return flat.get(stem)


def _flat(modules: Iterable[str]) -> dict[str, str]:
    """kohya's names of modules; those that two have are left out."""
    found: dict[str, list[str]] = {}
    for module in modules:
        for prefix in FLAT:
            found.setdefault(flat_name(module, prefix), []).append(module)
    return {name: places[0] for name, places in found.items() if len(places) == 1}


def flat_name(module: str, prefix: str = FLAT[0]) -> str:
    """kohya's name of a module."""
    return prefix + module.replace(".", "_")


def _pair(
    path: Path, place: str, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> Pair:
    if "A" not in arrays or "B" not in arrays:
        raise UserError(f"{path.name} has one of the two matrices of {place} alone; get it again")
    A, B = arrays["A"], arrays["B"]
    if A.ndim == 4 and A.shape[2:] == (1, 1):
        A = A[:, :, 0, 0]
    B = B[:, :, 0, 0] if B.ndim == 4 and B.shape[2:] == (1, 1) else B
    if A.ndim not in (2, 4) or B.ndim != 2 or len(A) != B.shape[1] or not len(A):
        raise UserError(f"{path.name}: the matrices of {place} have shapes {A.shape}, {B.shape}")
    rank = len(A)
    alpha = _alpha(place, rank, arrays, settings)
    scale = alpha / math.sqrt(rank) if settings.get("use_rslora") else alpha / rank
    if not math.isfinite(scale):
        raise UserError(f"{path.name}: the scale of {place} is no finite number; get it again")
    return Pair(A, B, scale)


def _alpha(
    place: str, rank: int, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]
) -> float:
    """`alpha` of a module: its own, that of a pattern, that of all, or the rank."""
    if "alpha" in arrays:
        return float(arrays["alpha"].reshape(-1)[0]) if arrays["alpha"].size == 1 else math.nan
    patterns = settings.get("alpha_pattern") or {}
    for pattern, value in patterns.items() if isinstance(patterns, dict) else ():
        if place == pattern or re.fullmatch(rf"(?:.*\.)?{re.escape(str(pattern))}", place):
            return _number(value)
    given = settings.get("lora_alpha")
    return float(rank) if given is None else _number(given)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
