"""The folder of an exported sampler: written, read again, and held against the run.

sampler.bin           the program
weights.safetensors   its weights, by name
export.json           the inputs and outputs, and their order
example.py            draws samples with the three files alone
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import export
from jaxtyping import Array, Float, Key
from safetensors.numpy import load_file, save

from core.errors import UserError
from core.export.example import example
from core.export.function import KEYS, SamplerFunction
from core.export.program import to_bytes
from core.files import write_bytes, write_json, write_text
from core.flow.field import VelocityField
from core.flow.path import Path as GaussianPath
from core.sampling import Drawing, generate

PROGRAM, WEIGHTS, ABOUT, EXAMPLE = "sampler.bin", "weights.safetensors", "export.json", "example.py"


def write(
    folder: Path,
    program: export.Exported,
    weights: dict[str, Array],
    function: SamplerFunction,
    about: dict[str, Any],
) -> dict[str, int]:
    """Writes the four files and returns their sizes in bytes.

    `about` goes into `export.json` beside the description of the program; its `guidance` is the
    scale at which the example draws.
    """
    code = to_bytes(program)
    write_bytes(folder / PROGRAM, code)
    arrays = {name: np.asarray(weight, order="C") for name, weight in weights.items()}
    write_bytes(folder / WEIGHTS, save(arrays))
    described = describe(program, weights, function) | about
    write_json(folder / ABOUT, described)
    write_text(folder / EXAMPLE, example(function, about.get("guidance", 1.0)))
    return {name: (folder / name).stat().st_size for name in (PROGRAM, WEIGHTS, ABOUT, EXAMPLE)}


def describe(
    program: export.Exported, weights: dict[str, Array], function: SamplerFunction
) -> dict[str, Any]:
    """The description for a reader without this project. `arguments` is the order of the program's
    flat arguments, for those who run its StableHLO elsewhere."""
    inputs = function.inputs
    return {
        "call": f"sampler.call(weights, {', '.join(f'{name}={name}' for name in inputs)})",
        "inputs": {
            name: {"shape": ["n", *item.shape], "dtype": item.dtype, "meaning": item.meaning}
            for name, item in inputs.items()
        },
        "output": {
            "shape": ["n", *function.output_shape],
            "dtype": str(program.out_avals[0].dtype),
        },
        "weights": {
            name: {"shape": list(weights[name].shape), "dtype": str(weights[name].dtype)}
            for name in sorted(weights)
        },
        "arguments": [*sorted(weights), *sorted(inputs)],
        "platforms": list(program.platforms),
        "calling_convention": program.calling_convention_version,
    }


def read(folder: Path) -> tuple[export.Exported, dict[str, np.ndarray]]:
    """The program and its weights, as a user of the folder has them. Raises `UserError` where one
    is missing or damaged."""
    try:
        program = export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
        return program, load_file(folder / WEIGHTS)
    except Exception as error:  # readers of such files raise nearly anything for damaged bytes
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"{folder} is damaged ({why}); export it again") from None


def largest_difference(
    folder: Path,
    function: SamplerFunction,
    own: VelocityField,
    guidance: float | None,
    *,
    n: int = 16,
) -> tuple[float, float]:
    """The largest difference between samples of the folder and the run's own from the same noise,
    and the largest value of the latter.

    **Arguments:** `own`, the field of the run, which may compute in another way; `guidance`, the
    scale of all samples, or None where the program takes none.
    """
    key = jr.key(0, impl=KEYS)
    labels = np.arange(n) % function.num_classes if function.num_classes else n
    asked = None if guidance is None else (guidance, *(function.interval or (0.0, 1.0)))
    shape, drawing = function.shape, Drawing(function.sampler, function.times, asked)
    drawn = generate(own, drawing, shape, labels, key=key, batch=n).x
    wanted = np.asarray(jax.jit(jax.vmap(lambda x: function.finished(x, function.codec)))(drawn))
    key_noise, key_sampler = jax.vmap(jr.split, out_axes=1)(jr.split(jr.fold_in(key, 0), n))
    path = own.path

    def draw(key: Key[Array, ""]) -> Float[Array, "*shape"]:
        """The noise of `generate`, as the program takes it."""
        if isinstance(path, GaussianPath):
            return jr.normal(key, shape, jnp.float32)
        return path.noise(key, shape)

    inputs: dict[str, Any] = {
        "noise": jax.vmap(draw)(key_noise),
        "labels": np.asarray(labels, np.int32),
        "guidance": np.full(n, guidance or 1.0, np.float32),
        "keys": jr.key_data(key_sampler),
    }
    program, weights = read(folder)
    found = jax.jit(program.call)(weights, **{name: inputs[name] for name in function.inputs})
    return float(np.abs(np.asarray(found) - wanted).max()), float(np.abs(wanted).max())
