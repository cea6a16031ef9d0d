"""A sampler as one ONNX graph, by jax2onnx, and what onnxruntime makes of it.

The weights are in the graph. The number of samples is a symbol, `n`, so one file serves any number.
Steps of the sampler are a loop of the graph.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import pkgutil
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jaxtyping import Float

from core.errors import UserError, require
from core.export.function import SamplerFunction
from core.export.jump import JumpFunction
from core.export.plain import plain, primitives
from core.flow.path import Path

Function = SamplerFunction | JumpFunction
"""What is written: a whole sampler, or one jump."""
NEEDS = 'ONNX files need jax2onnx, onnx and onnxruntime: pip install "portolan[onnx]"'
OUTPUT = "samples"
OPSET = 21
"""The version of ONNX's operators: onnxruntime has it since 1.20, of which that for browsers is
some versions behind."""


def check_installed() -> None:
    """Raises `UserError` unless the packages of the extra onnx are there."""
    missing = [name for name in ("jax2onnx", "onnx", "onnxruntime") if not _found(name)]
    require(not missing, NEEDS)


def _found(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def check_function(function: Function, name: str) -> None:
    """Raises `UserError` for a sampler that draws random numbers on its way."""
    require(
        "keys" not in function.inputs,
        f"the sampler {name!r} adds noise on its way, and ONNX has no generator that repeats "
        "JAX's; use --sampler pushforward (jumps), or ddim or dpmpp-2m (of any run)",
    )


def to_onnx(function: Function, about: Mapping[str, Any]) -> bytes:
    """The ONNX file of a sampler: inputs those of `function.inputs`, output `samples`.

    `about` goes into the metadata of the file, by name: texts as they are, other values as JSON.
    Raises `UserError` where the converter lacks an operation of the map.
    """
    check_installed()
    (n,) = export.symbolic_shape("n")
    inputs, weights = function.inputs, function.weights()
    like = [jax.ShapeDtypeStruct((n, *i.shape), jnp.dtype(i.dtype)) for i in inputs.values()]

    def draw(*values):
        return function(weights, **dict(zip(inputs, values, strict=True)))

    few = plain(jax.make_jaxpr(draw)(*like))
    with _converter() as known:
        lacking = primitives(jax.make_jaxpr(few)(*like)) - known
        require(
            not lacking,
            "this sampler cannot be written as ONNX: jax2onnx has no "
            f"{', '.join(sorted(lacking))}; use --format jax",
        )
        return _converted(lambda *values: few(*values)[0], like, list(inputs), about)


def _converted(function: Any, like: list, names: list[str], about: Mapping[str, Any]) -> bytes:
    from jax2onnx import to_onnx as convert

    try:
        model = convert(
            function, like, model_name="sampler", opset=OPSET, input_names=names,
            output_names=[OUTPUT],
        )  # fmt: skip
    except Exception as error:  # a converter raises nearly anything for what it cannot do
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"jax2onnx cannot write this sampler ({why}); use --format jax") from error
    for name, value in about.items():
        text = value if isinstance(value, str) else json.dumps(value)
        model.metadata_props.add(key=name, value=text)
    model.producer_name = "portolan"
    return model.SerializeToString()


@contextlib.contextmanager
def _converter() -> Iterator[set[str]]:
    """jax2onnx with the operations of `jax.lax` alone, and their names.

    `plain` leaves no others, and all that it knows, Flax's layers among them, take ten seconds to
    import. It warns of each part that it cannot import.
    """
    loggers = [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        from jax2onnx.plugins import plugin_system
        from jax2onnx.plugins.jax import lax

        for module in pkgutil.iter_modules(lax.__path__, f"{lax.__name__}."):
            importlib.import_module(module.name)
        plugin_system._already_imported_plugins = True
        yield set(plugin_system.PLUGIN_REGISTRY)
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def run(content: bytes, inputs: Mapping[str, np.ndarray]) -> Float[np.ndarray, "n ..."]:
    """What onnxruntime makes of these inputs, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # not a line for each constant of a loop that it leaves out
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run([OUTPUT], dict(inputs))[0])


def difference(
    content: bytes, function: Function, guidance: float | None, *, n: int = 16
) -> tuple[float, float]:
    """The largest difference between the file's samples and JAX's from the same fresh noise, of `n`
    samples and of one, and the largest value of the latter."""
    weights, most, largest = function.weights(), 0.0, 0.0
    drawn = jax.jit(lambda weights, inputs: function(weights, **inputs))
    for count in (n, 1):
        inputs = fresh(function, count, guidance)
        wanted = np.asarray(drawn(weights, inputs))
        found = run(content, inputs)
        require(
            found.shape == wanted.shape,
            f"the ONNX file draws samples of shape {found.shape} in place of {wanted.shape}; use "
            "--format jax",
        )
        most = max(most, float(np.abs(found - wanted).max()))
        largest = max(largest, float(np.abs(wanted).max()))
    return most, largest


def fresh(
    function: Function, n: int, guidance: float | None, *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Inputs of `n` samples: noise of the path, classes in turn, one guidance scale; of a jump that
    from the noise to the unit time 0.6."""
    key, path, shape = jax.random.key(seed), function.field.path, function.shape
    if isinstance(path, Path):
        noise = jax.random.normal(key, (n, *shape))
    else:
        noise = jax.vmap(lambda key: path.noise(key, shape))(jax.random.split(key, n))
    given = {
        "noise": np.asarray(noise, np.float32),
        "x": np.asarray(jax.vmap(lambda z: path.start(z, path.t_max))(noise), np.float32),
        "s": np.full(n, path.t_max, np.float32),
        "t": np.full(n, path.time_of_unit(jnp.asarray(0.6)), np.float32),
        "labels": (np.arange(n) % max(function.num_classes, 1)).astype(np.int32),
        "guidance": np.full(n, 1.0 if guidance is None else guidance, np.float32),
    }
    return {name: given[name] for name in function.inputs}
