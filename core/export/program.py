"""A sampler as a program for several platforms, by `jax.export`.

The number of samples is a symbol, so one program serves any number. The weights are arguments, so
the program is small, and the same one draws from other weights of the same shapes.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jaxtyping import Array

from core.errors import UserError, require
from core.export.function import SamplerFunction
from core.sampling import Sampler
from core.sampling.ode import AdaptiveOde, Ode

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
"""Platforms for which a program can be made, on any machine."""


def check_platforms(names: Sequence[str]) -> None:
    """Raises `UserError` unless these are platforms, each once."""
    known = ", ".join(PLATFORMS)
    require(len(set(names)) == len(names) > 0, f"--platforms names one or more, once, of {known}")
    for name in names:
        require(name in PLATFORMS, f"unknown platform {name!r}; choose from {known}")


def check_exportable(name: str, sampler: Sampler) -> None:
    """Raises `UserError` for a sampler whose solver looks at its own state from Python."""
    require(
        not isinstance(sampler, Ode | AdaptiveOde),
        f"the sampler {name!r} is Diffrax's, which asks Python whether a step went wrong, and a "
        "program of its own cannot; use --sampler ddim (euler's steps on the linear and edm "
        "paths), dpmpp-2m (order 2), or churn with --churn 0 (heun's steps)",
    )


def make_program(
    function: SamplerFunction, platforms: Sequence[str]
) -> tuple[export.Exported, dict[str, Array]]:
    """The program and the weights that it takes.

    It is called `program.call(weights, **inputs)` with the names of `function.weights()` and
    `function.inputs`. Weights of which the samples are no function, those of an auxiliary head for
    one, are left out. Raises `UserError` where a part of the map cannot be exported.
    """
    weights = function.weights()
    used = _used(_export(function, weights, platforms[:1], 1), sorted(weights))
    weights = {name: weights[name] for name in used}
    (n,) = export.symbolic_shape("n")
    return _export(function, weights, platforms, n), weights


def _export(
    function: SamplerFunction, weights: dict[str, Array], platforms: Sequence[str], n: Any
) -> export.Exported:
    like = {name: jax.ShapeDtypeStruct(w.shape, w.dtype) for name, w in weights.items()}
    inputs = {
        name: jax.ShapeDtypeStruct((n, *item.shape), jnp.dtype(item.dtype))
        for name, item in function.inputs.items()
    }

    def draw(weights, **inputs):
        return function(weights, **inputs)

    with _refusals(), _without_source_places():
        return export.export(jax.jit(draw), platforms=platforms)(like, **inputs)


def to_bytes(program: export.Exported) -> bytes:
    """The program as `jax.export.deserialize` reads it; `UserError` where it calls Python."""
    with _refusals():
        return bytes(program.serialize())


def _used(program: export.Exported, names: list[str]) -> list[str]:
    """The weights that the program keeps: those whose values matter."""
    return [names[i] for i in program.module_kept_var_idx if i < len(names)]


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """The refusal of JAX to export, in one line."""
    try:
        yield
    except (NotImplementedError, ValueError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise UserError(f"this sampler cannot be exported: {reason}") from error


@contextlib.contextmanager
def _without_source_places() -> Iterator[None]:
    """Programs without the file and line of their source: files that are given away name
    no folder of the machine that made them."""
    option = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, option)
    jax.config.update(option, 0)
    try:
        yield
    finally:
        jax.config.update(option, before)
