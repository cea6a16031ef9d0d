"""Shared by the benchmarks: variants timed in turn, rates of matrix products, compile times."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from statistics import median, quantiles
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
from jax.experimental.compilation_cache import compilation_cache

QUICK: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
"""Options of the compiler with which it is done sooner; operations are the same."""

Seconds = dict[str, list[float]]
Sizes = Sequence[tuple[int, int, int]]


def interleaved(variants: Mapping[str, Callable[[], Any]], rounds: int, warm: int = 1) -> Seconds:
    """Seconds of each call, `rounds` of them for each variant.

    In a round every variant runs once, one after the other in their order, so that whatever slows
    the machine down for a while slows all of them. `warm` rounds before them do not count. Results
    are waited for.
    """
    seconds: Seconds = {name: [] for name in variants}
    for number in range(warm + rounds):
        for name, call in variants.items():
            began = time.perf_counter()
            jax.block_until_ready(call())
            if number >= warm:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of `one / other`."""
    return median(a / b for a, b in zip(one, other, strict=True))


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """The lower and the upper quartile; of a single value that value twice."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4)
    return low, high


def cube(side: int) -> Sizes:
    """The sizes of one product of square matrices."""
    return [(side, side, side)]


def products(sizes: Sizes, dtype: Any = jnp.float32) -> Callable[[], Any]:
    """A call that multiplies `(m, k)` by `(k, n)` for each `(m, k, n)`, as layers do it: the second
    factor is kept as `(n, k)`. Each product is taken `repeats` times within one program, so that
    small ones are not measured by the time that a call takes."""
    a_keys, b_keys = jr.split(jr.key(0), len(sizes)), jr.split(jr.key(1), len(sizes))
    pairs = [
        (jr.normal(a_key, (m, k), dtype), jr.normal(b_key, (n, k), dtype))
        for (m, k, n), a_key, b_key in zip(sizes, a_keys, b_keys)
    ]

    @partial(jax.jit, static_argnames="times")
    def program(a: jax.Array, b: jax.Array, times: int) -> jax.Array:
        def again(_: Any, c: jax.Array) -> jax.Array:
            same = b + 0 * c[0, 0]  # each product waits for the one before
            return jax.lax.dot_general(a, same, (((1,), (1,)), ((), ())))

        return jax.lax.fori_loop(0, times, again, jnp.zeros((a.shape[0], b.shape[0]), dtype))

    return lambda: [
        program(a, b, repeats(*size)) for size, (a, b) in zip(sizes, pairs, strict=True)
    ]


def repeats(m: int, k: int, n: int) -> int:
    """How often a product of these sizes is taken in one call: a billion operations or more."""
    return math.ceil(1e9 / (2.0 * m * k * n))


def rate(sizes: Sizes, seconds: Sequence[float]) -> float:
    """Operations a second of `products(sizes)`, by the median of its calls."""
    return _work(sizes) / median(seconds)


def utilisation(
    operations: float, seconds: Sequence[float], sizes: Sizes, own: Sequence[float]
) -> float:
    """The rate of a program of so many operations over that of `products(sizes)`, which took `own`:
    the median over rounds, in each of which both were timed, so that whatever slows the machine
    down for a while slows both."""
    return operations / _work(sizes) * ratio(own, seconds)


def _work(sizes: Sizes) -> float:
    return sum(2.0 * m * k * n * repeats(m, k, n) for m, k, n in sizes)


@contextmanager
def fresh_compiles() -> Iterator[None]:
    """Within it the compilation cache on disk is neither read nor written."""
    before = jax.config.jax_enable_compilation_cache  # pyright: ignore
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        compilation_cache.reset_cache()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """The result of a call, and its seconds."""
    began = time.perf_counter()
    result = call()
    return result, time.perf_counter() - began
