"""The cases of `benchmarks.gpu`: each a function of the sizes that returns one line."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from benchmarks import attention, dispatch
from benchmarks._steps import CompiledStep, training_step
from benchmarks._timing import (
    cube,
    fresh_compiles,
    interleaved,
    products,
    rate,
    timed,
    utilisation,
)
from benchmarks.mesh import SIZES
from benchmarks.sample import latency
from core.data import Dataset
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.methods.cost import Bench
from core.methods.plugin import Plugin
from core.methods.registry import find_plugin
from core.nets.attention import Implementation
from core.nets.dit import DiTConfig
from core.nets.layers import Remat
from core.objectives.objective import Batch
from core.train.cli import parse

Line = dict[str, Any]
METHODS = ("fm", "mf-whole", "mf-split", "exact", "difference", "lsd")
TOKENS = (64, 256, 1024, 4096)


@dataclass(frozen=True)
class Sizes:
    """How large things are: those of the task, or tiny ones with which every case can be run
    anywhere."""

    tiny: bool = False
    rounds: int = 10

    @property
    def shape(self) -> tuple[int, int, int]:
        """One latent; patches of 2 make 256 tokens of it, or 4."""
        return (4, 4, 1) if self.tiny else (32, 32, 4)

    @property
    def classes(self) -> int:
        """Of ImageNet."""
        return 3 if self.tiny else 1000

    @property
    def square(self) -> int:
        """Side of the product that the utilisation is of."""
        return 64 if self.tiny else 8192

    def batch(self, net: str) -> int:
        """Examples of a step."""
        return 4 if self.tiny else {"B": 256, "XL": 64}[net]

    def transformer(self, net: str, remat: Remat = "dots", unroll: int = 1) -> DiTConfig:
        """DiT-B or DiT-XL in bfloat16."""
        width, depth, heads = (8, 2, 2) if self.tiny else SIZES[net]
        flags = DiTConfig(width=width, depth=depth, heads=heads, dtype="bfloat16")
        return replace(flags, remat=remat, unroll=unroll)

    def bench(self, flags: DiTConfig, batch: int) -> Bench:
        """A network with these flags and a batch of noise."""
        net = flags.build(self.shape, self.classes, key=jr.key(0))
        label = jnp.arange(batch) % self.classes
        given = Batch(jr.normal(jr.key(1), (batch, *self.shape)), label)
        return Bench(net, net, given, 1, self.classes)

    def operations(self, flags: DiTConfig) -> float:
        """Of one forward pass of one example, `L N (24 d^2 + 4 N d)`."""
        tokens, width = math.prod(self.shape[:2]) // flags.patch**2, flags.width
        return float(flags.depth * tokens * (24 * width**2 + 4 * tokens * width))


def method(name: str) -> tuple[Plugin, float]:
    """A method with its flags, and its forward-pass equivalents by count."""
    if name in ("exact", "difference"):
        kind = find_plugin("gcm-vu")
        return replace(kind.preset("image"), derivative=name), kind.card.cost  # pyright: ignore
    kind = find_plugin(name.split("-")[0])
    if name.endswith("-whole"):
        return kind.whole(), kind.card.whole_cost or math.nan
    return kind.preset("image"), kind.card.cost


def step(sizes: Sizes, net: str, name: str) -> Line:
    """One method's training step: images a second, memory, utilisation of a bf16 product."""
    plugin, fpe = method(name)
    flags, batch = sizes.transformer(net), sizes.batch(net)
    bench = sizes.bench(flags, batch)
    made, seconds = timed(lambda: training_step(bench.method(plugin), bench.batch))
    square = cube(sizes.square)
    found = interleaved({"product": products(square, jnp.bfloat16), "step": made}, sizes.rounds)
    images = batch / median(found["step"])
    operations = fpe * sizes.operations(flags) * batch
    used = utilisation(operations, found["step"], square, found["product"])
    return {
        "parameters": made.parameters,
        "batch": batch,
        "fpe": fpe,
        "forward_gflop": sizes.operations(flags) / 1e9,
        "images_per_second": round(images, 2),
        "seconds_per_kimg": round(1000 / images, 4),
        "product_tflops": round(rate(square, found["product"]) / 1e12, 2),
        "utilisation": round(used, 4),
        "compile_seconds": round(seconds, 2),
        **memory(made),
    }


def memory(made: CompiledStep) -> Line:
    """By the compiler, and the most that the process has had."""
    stats = jax.devices()[0].memory_stats() or {}
    peak = stats.get("peak_bytes_in_use")
    return {
        "temporary_mib": round(made.memory_mib, 2),
        "state_mib": round(made.state_mib, 2),
        "peak_mib": None if peak is None else round(peak / 2**20, 2),
    }


def attend(sizes: Sizes, tokens: int) -> Line:
    """Attention under forward mode, implementation by implementation."""
    if sizes.tiny:
        flags = attention.AttentionConfig(heads=1, dim=4, dtype="bfloat16", repeats=sizes.rounds)
        tokens //= 16
    else:
        flags = attention.AttentionConfig(
            heads=12, batch=16384 // tokens, dtype="bfloat16", repeats=sizes.rounds, most_mib=40960
        )
    names: list[Implementation] = ["xla", "blockwise"]
    if attention.has_kernels():
        names.append("pallas")
    rows, failed = [], {}
    for form in (attention.jvp, attention.stopped):
        compiled: list[Implementation] = []
        for name in names:
            try:
                attention.measured(replace(flags, repeats=0), form, [name], tokens)
                compiled.append(name)
            except Exception as error:  # a kernel that this device's compiler does not take
                failed[f"{form.__name__} {name}"] = str(error).partition("\n")[0][:200]
        rows += attention.measured(flags, form, compiled, tokens)
    return {"batch": flags.batch, "heads": flags.heads, "dim": flags.dim, "rows": rows} | (
        {"failed": failed} if failed else {}
    )


def unroll(sizes: Sizes) -> Line:
    """Blocks in a step of the layer loop: one, two, all. Compile times without the cache."""
    depth = sizes.transformer("B").depth
    return _variants(sizes, {n: {"unroll": n} for n in sorted({1, 2, depth})})


def remat(sizes: Sizes) -> Line:
    """The activations that the backward pass recomputes."""
    return _variants(sizes, {name: {"remat": name} for name in ("none", "dots", "full")})


def _variants(sizes: Sizes, changes: dict[Any, dict[str, Any]]) -> Line:
    """The mf step of DiT-B with changed flags, in turn."""
    plugin, batch = method("mf-split")[0], min(64, sizes.batch("B"))
    steps, compiled = {}, {}
    for name, change in changes.items():
        bench = sizes.bench(sizes.transformer("B", **change), batch)
        made = partial(training_step, bench.method(plugin), bench.batch)
        with fresh_compiles():
            steps[str(name)], compiled[str(name)] = timed(made)
    found = interleaved(steps, sizes.rounds)
    rows = [
        {
            "variant": name,
            "milliseconds": round(1e3 * median(found[name]), 3),
            "compile_seconds": round(compiled[name], 2),
            "temporary_mib": round(made.memory_mib, 2),
        }
        for name, made in steps.items()
    ]
    return {"batch": batch, "rows": rows}


def of_dispatch(sizes: Sizes, what: str) -> Line:
    """Steps a dispatch, of an mlp on points, of the main job, of a U-Net on 32 x 32 x 3."""
    counts, data = ((1, 2) if sizes.tiny else (1, 10, 100)), None
    small = ["--net.width", "8", "--net.depth", "1", "--batch", "8"] if sizes.tiny else []
    if what == "mlp":
        run = parse(["--plugin", "mf", "--data", "eight-gaussians", *small])
    elif what == "digits":
        run = parse(["--plugin", "imf", "--data", "digits", *small])
    else:
        flags = "--net.channels 4 --net.multipliers 1 --net.attention 1 --batch 4"
        flags = flags if sizes.tiny else "--net.channels 128 --net.multipliers 1 2 2 2 --batch 128"
        run = parse(["--plugin", "imf", "--data", "arrays", "--net", "unet", *flags.split()])
        data = _noise((4, 4, 3) if sizes.tiny else (32, 32, 3))
    return {"rows": dispatch.measured(what, run, counts, max(counts), sizes.rounds, data)}


def _noise(shape: tuple[int, ...]) -> Dataset:
    images = np.random.default_rng(0).integers(0, 256, (1024, *shape), np.uint8)
    return Dataset(name="noise", kind="image", shape=shape, examples=images, levels=255)


def precision(sizes: Sizes) -> Line:
    """float32 products at the default precision and at the highest: time, error against float64;
    and the error of a difference quotient of a network at both."""
    side = 64 if sizes.tiny else 4096
    a, b = (jr.normal(key, (side, side)) for key in jr.split(jr.key(0)))
    top = 32
    exact = np.asarray(a[:top], np.float64) @ np.asarray(b, np.float64)
    programs = {
        name: partial(jax.jit(partial(jnp.dot, precision=name)), a, b)
        for name in ("default", "highest")
    }
    found = interleaved(programs, sizes.rounds)
    rows = [
        {
            "precision": name,
            "milliseconds": round(1e3 * median(found[name]), 4),
            "tflops": round(2.0 * side**3 / median(found[name]) / 1e12, 3),
            "relative_error": _error(np.asarray(call()[:top], np.float64), exact),
        }
        for name, call in programs.items()
    ]
    return {"side": side, "rows": rows, "quotients": quotients(sizes)}


def quotients(sizes: Sizes) -> list[Line]:
    """The relative error of difference quotients along a tangent, in a float32 transformer whose
    zero layers have been filled, against the exact derivative at the highest precision. Step 0 is
    the exact derivative at each precision."""
    width, depth = (8, 1) if sizes.tiny else (192, 6)
    flags = DiTConfig(width=width, depth=depth, heads=2)
    net = flags.build(sizes.shape, 0, key=jr.key(0))
    arrays, static = eqx.partition(net, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)

    def fill(number: int, leaf: jax.Array) -> jax.Array:
        return leaf + 0.1 * jr.normal(jr.fold_in(jr.key(1), number), leaf.shape)

    fill_all = jax.jit(lambda given: [fill(*item) for item in enumerate(given)])
    filled = tree.unflatten(fill_all(leaves))
    x, d = (jr.normal(key, sizes.shape) for key in jr.split(jr.key(2)))

    @partial(jax.jit, static_argnames="matmul")
    def at(arrays: Any, x: jax.Array, s: jax.Array, matmul: str) -> jax.Array:
        with jax.default_matmul_precision(matmul):
            return eqx.combine(arrays, static)(x, s, jnp.asarray(0.2))

    def exact(matmul: str) -> np.ndarray:
        f = partial(at, filled, matmul=matmul)
        return np.asarray(jax.jvp(f, (x, time), (d, jnp.ones(())))[1], np.float64)

    def quotient(matmul: str, step: float) -> np.ndarray:
        near, far = (np.asarray(at(filled, x + h * d, time + h, matmul)) for h in (0.0, step))
        return (far - near).astype(np.float64) / step

    time, rows = jnp.asarray(0.7), []
    for matmul in ("default", "highest"):
        found = {step: quotient(matmul, step) for step in (1e-1, 1e-2, 1e-3)} | {0.0: exact(matmul)}
        rows += [
            {"precision": matmul, "step": step, "relative_error": _error(value, exact("highest"))}
            for step, value in found.items()
        ]
    return rows


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(f"{np.linalg.norm(found - exact) / np.linalg.norm(exact):.3g}")


def of_latency(sizes: Sizes, net: str) -> Line:
    """One sample in one evaluation, bf16."""
    flags = sizes.transformer(net)
    made = flags.build(sizes.shape, sizes.classes, key=jr.key(0))
    flow_map = AverageVelocityMap(net=made, path=LinearPath())
    calls = sizes.rounds * (1 if sizes.tiny else 20)
    return {"calls": calls, "rows": latency(flow_map, sizes.shape, sizes.classes, calls)}


CASES: dict[str, Callable[[Sizes], Line]] = {
    **{
        f"step/{net}/{name}": partial(step, net=net, name=name)
        for net in ("B", "XL")
        for name in METHODS
    },
    **{f"attention/{tokens}": partial(attend, tokens=tokens) for tokens in TOKENS},
    "unroll": unroll,
    "remat": remat,
    **{f"dispatch/{what}": partial(of_dispatch, what=what) for what in ("mlp", "digits", "unet")},
    "precision": precision,
    **{f"latency/{net}": partial(of_latency, net=net) for net in ("B", "XL")},
}
"""Every case by its name."""
