"""Adapters in files of our own: `<layer>.A` and `<layer>.B` by our names, the rest in the head."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from core.adapters.factors import Adapter, Factors
from core.errors import UserError

FILE = "adapter.safetensors"
KIND = "portolan.adapter"


def own_bytes(adapter: Adapter) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and the head of a file."""
    arrays = dict(adapter.whole)
    for name, factors in adapter.layers.items():
        arrays |= {f"{name}.A": factors.A, f"{name}.B": factors.B}
    scales = {name: factors.scale for name, factors in adapter.layers.items()}
    return arrays, {"format": KIND, "base": adapter.base, "scales": json.dumps(scales)}


def is_own(head: Mapping[str, str]) -> bool:
    """Whether a file with this head is one of ours."""
    return head.get("format") == KIND


def own_adapter(path: Path, arrays: Mapping[str, np.ndarray], head: Mapping[str, str]) -> Adapter:
    """The adapter of a file. Raises `UserError` where its head is not as we write it."""
    try:
        scales = {str(k): float(v) for k, v in json.loads(head["scales"]).items()}
        layers = {k: Factors(arrays[f"{k}.A"], arrays[f"{k}.B"], v) for k, v in scales.items()}
    except (KeyError, ValueError, TypeError, AttributeError):
        raise UserError(f"{path.name} is no adapter as we write it; get it again") from None
    used = {f"{name}.{part}" for name in layers for part in "AB"}
    whole = {name: values for name, values in arrays.items() if name not in used}
    return Adapter(layers, whole, str(head.get("base", "")), str(path))
