"""The script that is written beside an exported sampler. It must import nothing of this project."""

from core.export.function import SamplerFunction
from core.export.noise import noise_of

_HEAD = '''"""Draws samples: `python example.py --n 16 --seed 0`.

Needs jax, numpy, safetensors, and flatbuffers, with which jax reads the program.
"""

import argparse
from pathlib import Path

import jax
import numpy as np
from jax import export
from safetensors.numpy import load_file

folder = Path(__file__).resolve().parent
parser = argparse.ArgumentParser(description="Draws samples into a .npz file.")
parser.add_argument("--n", type=int, default=16)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="samples.npz")
flags = parser.parse_args()

sampler = export.deserialize(bytearray((folder / "sampler.bin").read_bytes()))
weights = jax.device_put(load_file(folder / "weights.safetensors"))
draw = jax.jit(sampler.call)  # compiles once for each number of samples

n, rng = flags.n, np.random.default_rng(flags.seed)
inputs = {
'''

_TAIL = """}
samples = np.asarray(draw(weights, **inputs))
np.savez(flags.out, samples=samples, **inputs)
print(f"{flags.out}: samples {samples.shape}, mean {samples.mean():.4f}, std {samples.std():.4f}")
"""


def example(function: SamplerFunction, guidance: float = 1.0) -> str:
    """The script for this sampler: its own inputs and no others."""
    shape = ", ".join(str(size) for size in function.shape)
    lines = {
        "noise": noise_of(function.field.path).code.format(shape=f"n, {shape}"),
        "labels": f"np.arange(n, dtype=np.int32) % {function.num_classes}",
        "guidance": f"np.full(n, {guidance}, np.float32)",
        "keys": "rng.integers(0, 2**32, (n, 2), np.uint32)",
    }
    return _HEAD + "".join(f'    "{name}": {lines[name]},\n' for name in function.inputs) + _TAIL
