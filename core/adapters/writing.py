"""Adapters into files: ours, peft's, diffusers' and kohya's (`core.adapters.reading`)."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from core.adapters.factors import Adapter
from core.adapters.modules import component_of, modules_of
from core.adapters.own_file import FILE, own_bytes
from core.adapters.pairs import Pair, divided
from core.adapters.reading import SETTINGS, flat_name
from core.files import write_bytes, write_json

Keys = Literal["own", "peft", "diffusers", "kohya"]
Arrays = dict[str, np.ndarray]


def write_adapter(
    adapter: Adapter, folder: Path, keys: Keys, flow_map: Any, shape: tuple[int, ...]
) -> dict[str, int]:
    """Writes the file, or with peft's keys two, and returns their sizes.

    `flow_map` is one of the network, for examples of `shape`. Raises `UserError` where the foreign
    network has no place for a part of the adapter.
    """
    from safetensors.numpy import save

    if keys == "own":
        files = {FILE: own_bytes(adapter)}
    else:
        pairs = divided(adapter, modules_of(flow_map, shape))
        files = {FILES[keys]: _MAKERS[keys](pairs, component_of(flow_map))}
        if keys == "peft":
            write_json(folder / SETTINGS, settings_of(pairs))
    for name, (arrays, head) in files.items():
        whole = {key: np.array(array, order="C") for key, array in arrays.items()}
        write_bytes(folder / name, save(whole, head))
    written = [*files, *([SETTINGS] if keys == "peft" else [])]
    return {name: (folder / name).stat().st_size for name in written}


def settings_of(pairs: Mapping[str, Pair]) -> dict[str, Any]:
    """peft's `adapter_config.json`: rank and alpha of most modules, and of those that differ."""
    ranks = {path: pair.rank for path, pair in pairs.items()}
    alphas = {path: pair.scale * pair.rank for path, pair in pairs.items()}
    rank, alpha = (Counter(of.values()).most_common(1)[0][0] for of in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {path: one for path, one in ranks.items() if one != rank},
        "alpha_pattern": {path: one for path, one in alphas.items() if one != alpha},
        "target_modules": sorted(pairs),
        "modules_to_save": None,
        "lora_dropout": 0.0,
        "bias": "none",
        "use_rslora": False,
        "use_dora": False,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _peft(pairs: Mapping[str, Pair], component: str) -> tuple[Arrays, dict[str, str]]:
    del component
    return _matrices(pairs, "base_model.model."), {"format": "pt"}


def _diffusers(pairs: Mapping[str, Pair], component: str) -> tuple[Arrays, dict[str, str]]:
    settings = {f"{component}.{key}": value for key, value in settings_of(pairs).items()}
    head = {"format": "pt", "lora_adapter_metadata": json.dumps(settings, sort_keys=True)}
    return _matrices(pairs, f"{component}."), head


def _kohya(pairs: Mapping[str, Pair], component: str) -> tuple[Arrays, dict[str, str]]:
    del component
    arrays: Arrays = {}
    for path, pair in pairs.items():
        name, convolves = flat_name(path), pair.A.ndim == 4
        arrays[f"{name}.lora_down.weight"] = pair.A
        arrays[f"{name}.lora_up.weight"] = pair.B[:, :, None, None] if convolves else pair.B
        arrays[f"{name}.alpha"] = np.asarray(pair.scale * pair.rank, np.float32)
    settings = settings_of(pairs)
    head = {"ss_network_module": "networks.lora", "ss_network_dim": str(settings["r"])}
    return arrays, head | {"ss_network_alpha": str(settings["lora_alpha"])}


def _matrices(pairs: Mapping[str, Pair], prefix: str) -> Arrays:
    arrays: Arrays = {}
    for path, pair in pairs.items():
        B = pair.B[:, :, None, None] if pair.A.ndim == 4 else pair.B
        arrays |= {f"{prefix}{path}.lora_A.weight": pair.A, f"{prefix}{path}.lora_B.weight": B}
    return arrays


FILES = {
    "peft": "adapter_model.safetensors",
    "diffusers": "pytorch_lora_weights.safetensors",
    "kohya": "lora.safetensors",
}
_MAKERS = {"peft": _peft, "diffusers": _diffusers, "kohya": _kohya}
