"""The script that is written beside an ONNX file. It needs NumPy and onnxruntime alone."""

from core.export.function import SamplerFunction
from core.export.noise import noise_of

_HEAD = '''"""Draws samples: `python example.py --n 16 --seed 0`. Needs numpy and onnxruntime."""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime

parser = argparse.ArgumentParser(description="Draws samples into a .npz file.")
parser.add_argument("--n", type=int, default=16)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--out", default="samples.npz")
flags = parser.parse_args()

options = onnxruntime.SessionOptions()
options.log_severity_level = 3
file = Path(__file__).resolve().parent / "sampler.onnx"
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map  # what the file says of itself

n, rng = flags.n, np.random.default_rng(flags.seed)
inputs = {
'''

_TAIL = """}
(samples,) = session.run(["samples"], inputs)
np.savez(flags.out, samples=samples, **inputs)
print(f"{about['run']}: {about['kind']} of {about['data']}, {about['steps']} step(s)")
print(f"{flags.out}: samples {samples.shape}, mean {samples.mean():.4f}, std {samples.std():.4f}")
"""


def example(function: SamplerFunction, guidance: float = 1.0) -> str:
    """The script for this sampler: its own inputs and no others."""
    shape = ", ".join(str(size) for size in function.shape)
    lines = {
        "noise": noise_of(function.field.path).code.format(shape=f"n, {shape}"),
        "labels": f"(np.arange(n) % {function.num_classes}).astype(np.int32)",
        "guidance": f"np.full(n, {guidance}, np.float32)",
    }
    return _HEAD + "".join(f'    "{name}": {lines[name]},\n' for name in function.inputs) + _TAIL
