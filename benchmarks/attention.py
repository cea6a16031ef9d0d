"""Attention under forward mode: `python -m benchmarks.attention`.

Four programs of each implementation: the value, the value and its tangent (`jvp`), the gradient of
a loss with a stopped tangent (`stopped`, as in MeanFlow), and the gradient through a tangent
(`through`, as in LSD). Then the arithmetic of a whole transformer with each.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

from apps._main import launch
from benchmarks._timing import QUICK, interleaved
from core.methods.cost import flops, temporary
from core.nets.attention import AUTO_TOKENS, IMPLEMENTATIONS, Implementation, scan
from core.nets.attention.flash import Kernels, flash
from core.nets.dit import DiTConfig
from core.nets.layers import Dtype, Remat
from core.report.versions import versions
from core.train.cli import parse_flags
from portolan.tables import console, markdown, print_table, save

COLUMNS = ("tokens", "form", "attention", "milliseconds", "memory_mib", "forwards")
OF_A_NET = ("attention", "forward", "matching", "stopped", "through")
COUNTED = 512  # tokens at which operations are counted
NETS: tuple[Implementation, ...] = ("xla", "blockwise")  # those that the compiler can count


@dataclass(frozen=True)
class AttentionConfig:
    """Time, memory and operations of attention, its tangent and gradients of both.

    Times are medians, the implementations one after the other in each round. Memory is the amount
    that the compiled program needs beside arguments and results. `forwards` are operations over
    those of one attention forward (two products of tokens x tokens x width), loops counted in full.
    """

    tokens: tuple[int, ...] = (64, 256, 1024, 4096)
    """Numbers of tokens."""
    heads: int = 4
    """Heads of one example."""
    dim: int = 64
    """Width of a head."""
    batch: int = 1
    """Examples."""
    dtype: Dtype = "float32"
    """Of queries, keys and values."""
    attention: tuple[Implementation, ...] = ("xla", "blockwise", "pallas")
    """Implementations; pallas only where there is a GPU or TPU."""
    repeats: int = 10
    """Rounds of timings; 0: none, memory and operations only."""
    most_mib: int = 4096
    """Programs that need more memory are not run."""
    transformer: bool = True
    """Count a transformer's forward, flow matching, stopped and unstopped derivatives too."""
    remat: Remat = "none"
    """The activations that the transformer's backward pass recomputes."""
    out: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def value(f: Callable, primals: tuple, tangents: tuple) -> Any:
    return f(*primals)


def jvp(f: Callable, primals: tuple, tangents: tuple) -> Any:
    return jax.jvp(f, primals, tangents)


def stopped(f: Callable, primals: tuple, tangents: tuple) -> Any:
    def loss(*x):
        o, do = jax.jvp(f, x, tangents)
        return _mean_square(o - jax.lax.stop_gradient(o - do))

    return jax.grad(loss, (0, 1, 2))(*primals)


def through(f: Callable, primals: tuple, tangents: tuple) -> Any:
    def loss(*x):
        o, do = jax.jvp(f, x, tangents)
        return _mean_square(o - do)

    return jax.grad(loss, (0, 1, 2))(*primals)


FORMS = (value, jvp, stopped, through)


def main(argv: list[str]) -> dict[str, Any] | None:
    """Measures, prints the tables and writes them."""
    config = parse_flags(AttentionConfig, argv)
    names: list[Implementation] = [
        name for name in config.attention if name != "pallas" or has_kernels()
    ]
    forwards = {(f.__name__, name): _forwards(config, f, name) for f in FORMS for name in names}
    rows = [
        {**row, "forwards": forwards[row["form"], row["attention"]]}
        for tokens in config.tokens
        for form in FORMS
        for row in measured(config, form, names, tokens)
    ]
    result: dict[str, Any] = {"versions": versions(), "auto_tokens": AUTO_TOKENS, "rows": rows}
    print_table("Attention", COLUMNS, rows)
    page = markdown("Attention", COLUMNS, rows)
    if config.transformer:
        nets = [_of_a_net(config, name) for name in NETS if name in names]
        result["transformer"] = nets
        print_table("A transformer of 64 tokens, in forward passes", OF_A_NET, nets)
        page += "\n" + markdown("A transformer of 64 tokens, in forward passes", OF_A_NET, nets)
    if len(names) < len(config.attention):
        console.print("pallas is left out: no GPU or TPU")
    if config.out:
        save(config.out, result, page)
    return result if config.json else None


def measured(
    config: AttentionConfig, form: Callable, names: list[Implementation], tokens: int
) -> list[dict[str, Any]]:
    """A row for each implementation."""
    programs = {name: _compiled(config, form, IMPLEMENTATIONS[name], tokens) for name in names}
    memory = {name: temporary(program) / 2**20 for name, program in programs.items()}
    inputs = _inputs(config, tokens)
    run = {
        name: partial(program, *inputs)
        for name, program in programs.items()
        if memory[name] <= config.most_mib
    }
    seconds = interleaved(run, config.repeats) if config.repeats else {}
    return [
        {
            "tokens": tokens,
            "form": form.__name__,
            "attention": name,
            "milliseconds": round(1e3 * median(seconds[name]), 2) if name in seconds else None,
            "memory_mib": round(memory[name], 2),
        }
        for name in names
    ]


def _compiled(config: AttentionConfig, form: Callable, f: Callable, tokens: int):
    whole = jax.vmap(partial(form, f))
    shapes = jax.eval_shape(lambda: _inputs(config, tokens))
    return jax.jit(whole).lower(*shapes).compile()


def _inputs(config: AttentionConfig, tokens: int):
    shape = config.batch, tokens, config.heads, config.dim
    six = [jr.normal(key, shape, config.dtype) for key in jr.split(jr.key(0), 6)]
    return tuple(six[:3]), tuple(six[3:])


def _forwards(config: AttentionConfig, form: Callable, name: Implementation) -> float | None:
    """Operations over those of the two products of a forward pass; None: cannot be counted.

    The compiler counts the body of a loop once. Of two programs with blocks of a half and a
    quarter of the keys the difference is a quarter of all bodies, so two more make the whole.
    """
    unit = 4 * COUNTED**2 * config.dim * config.heads * config.batch

    def count(f: Callable) -> float:
        return flops(_compiled(config, form, f, COUNTED)) / unit

    if name == "xla":
        return round(count(IMPLEMENTATIONS[name]), 2)
    if name != "blockwise":
        return None
    half, quarter = (count(partial(flash, kernels=_blocks(COUNTED // n))) for n in (2, 4))
    return round(half + 2 * (half - quarter), 2)


def _blocks(block: int) -> Kernels:
    return Kernels(partial(scan.value, block=block), partial(scan.tangent, block=block))


def _of_a_net(config: AttentionConfig, name: Implementation) -> dict[str, Any]:
    """Operations of losses and their gradients over a forward pass, layers scanned.

    The layers' body is counted once in each, and 64 tokens are one block of keys.
    """
    flags = DiTConfig(width=192, depth=6, heads=3, remat=config.remat, attention=name)
    shape = (16, 16, 1)
    net = eqx.filter_eval_shape(lambda key: flags.build(shape, 0, key=key), jr.key(0))
    x, s, t = (jax.ShapeDtypeStruct((8, *dims), jnp.float32) for dims in (shape, (), ()))

    def count(f: Callable) -> float:
        batched = jax.vmap(f, (None, 0, 0, 0))
        mean = jax.value_and_grad(lambda net, *x: batched(net, *x).mean())
        step = batched if f is _forward else mean
        return flops(jax.jit(step, compiler_options=QUICK).lower(net, x, s, t).compile())

    unit = count(_forward)
    losses = {
        "matching": lambda net, x, s, t: _mean_square(net(x, s, s) - jnp.cos(x)),
        "stopped": partial(_flow_map_loss, stop=jax.lax.stop_gradient),
        "through": partial(_flow_map_loss, stop=lambda x: x),
    }
    costs = {loss: round(count(f) / unit, 3) for loss, f in losses.items()}
    return {"attention": name, "forward": 1, **costs}


def _forward(net, x, s, t):
    return net(x, s, t)


def _flow_map_loss(net, x, s, t, stop: Callable):
    V, dV_ds = jax.jvp(lambda x, s: net(x, s, t), (x, s), (jnp.sin(x), jnp.ones_like(s)))
    return _mean_square(V - stop(jnp.cos(x) - (s - t) * dV_ds))


def _mean_square(x):
    return jnp.square(x.astype(jnp.float32)).mean()


def has_kernels() -> bool:
    """Whether there is a device for the kernels."""
    return jax.default_backend() in ("gpu", "tpu")


if __name__ == "__main__":
    launch(main)
