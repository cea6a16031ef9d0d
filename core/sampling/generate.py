"""Many samples from noise, in batches."""

from collections.abc import Callable
from dataclasses import dataclass

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Int, Key

from core.errors import NotFinite
from core.flow.condition import Condition
from core.flow.field import VelocityField
from core.sampling.drawing import Drawing

SMALL = 1, 16
"""Sizes of batches that hold few samples, each a program of its own."""


@dataclass(frozen=True)
class Samples:
    """Samples and their cost.

    **Fields:** `x`, one example a row; `counts`, the network evaluations of each.
    """

    x: Float[np.ndarray, " n *shape"]
    counts: Int[np.ndarray, " n"]

    @property
    def nfe(self) -> int | float:
        """Network evaluations a sample: their number, or its mean where samples differ."""
        same = bool(np.all(self.counts == self.counts[0]))
        return int(self.counts[0]) if same else round(float(self.counts.mean()), 2)


def generate(
    field: VelocityField,
    drawing: Drawing,
    shape: tuple[int, ...],
    labels: Int[np.ndarray, " n"] | int,
    *,
    key: Key[Array, ""],
    batch: int = 256,
    first: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Samples:
    """Samples from noise, or from `drawing.starts`, in batches of one size, so that one program
    serves any number of samples; up to 16 of them, and one alone, have programs that are as much
    smaller.

    The start is that of the path, `sigma(times[0]) z`, with noise or a start for `z`; the first
    samples of a key are the same for any number, to rounding. **Arguments:** `labels` one a sample,
    or the number of unconditional samples; `first`, the number of the first sample of a part of a
    longer row of samples, a multiple of `batch`: parts drawn one by one are equal to the row drawn
    at once, bit for bit; `progress` is called with the number of samples after each batch. Raises
    `NotFinite` where a sample is not finite.
    """
    n = labels if isinstance(labels, int) else len(labels)
    if first is None:
        batch = next(size for size in (*SMALL, batch) if min(n, batch) <= size <= batch)
    elif first % batch:
        raise ValueError(f"a part begins at a multiple of {batch}, got {first}")
    parts, counts = [], []
    for i, start in enumerate(range(0, n, batch), (first or 0) // batch):
        count = min(batch, n - start)
        index = np.minimum(np.arange(start, start + batch), n - 1)
        label = None if isinstance(labels, int) else jnp.asarray(labels[index])
        given = _some(drawing.starts, index + (first or 0))
        guidance = None if drawing.guidance is None else jnp.asarray(drawing.guidance)
        out = _generate_batch(
            field,
            drawing.sampler,
            jnp.asarray(drawing.times),
            shape,
            label,
            guidance,
            given,
            key=key,
            number=jnp.asarray(i),
            batch=batch,
        )
        parts.append(np.asarray(out.x)[:count])
        counts.append(np.asarray(out.nfe)[:count] * field.evaluations)
        if progress is not None:
            progress(count)
    x = np.concatenate(parts)
    bad = int(np.sum(~np.isfinite(x).reshape(n, -1).all(axis=1)))
    if bad:
        raise NotFinite(
            f"{bad:,} of {n:,} samples are not finite; train the map by apps.train with a "
            "lower --optim.rate, or draw with another sampler, more steps or a lower guidance scale"
        )
    return Samples(x, np.concatenate(counts))


def _some(starts: np.ndarray | None, index: np.ndarray) -> Array | None:
    return None if starts is None else jnp.asarray(starts[index % len(starts)])


@eqx.filter_jit
def _generate_batch(field, sampler, times, shape, label, guidance, starts, *, key, number, batch):
    # In here these are part of one program; outside each would be a program of its own.
    keys = jr.split(jr.fold_in(key, number), batch)

    def one(key, label, start):
        key_noise, key_sampler = jr.split(key)
        known = label is not None or guidance is not None
        cond = Condition(label, guidance) if known else None
        path = field.path
        z = path.noise(key_noise, shape) if start is None else start
        x = path.start(z, times[0])
        return sampler(field, x, times, cond, key=key_sampler)

    return jax.vmap(one)(keys, label, starts)
