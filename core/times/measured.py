"""Pairs of times where a trained map was measured to be wrong."""

import json
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, Key

from core.errors import UserError
from core.times.pairs import TimeSampler


class Measured(TimeSampler):
    """Pairs near the nodes `(units[i], units[j])`, in the shares of a table, `i < j`.

    The node is drawn from evenly spaced levels, one a row, so that `n` rows have the shares to
    within one row each; then both times move by up to half a distance of neighbouring nodes, and
    stay within [0, 1] and in order. `units` decrease from 1 to 0, evenly.
    """

    units: tuple[float, ...] = eqx.field(static=True)
    shares: tuple[tuple[float, ...], ...] = eqx.field(static=True)

    def __call__(
        self, key: Key[Array, ""], n: int, progress: Array
    ) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
        del progress
        key_level, key_move = jr.split(key)
        units, table = np.asarray(self.units, np.float32), np.triu(self.shares, 1)
        levels = (jnp.arange(n) + jr.uniform(key_level, (n,))) / n
        ends = np.cumsum(table) / np.sum(table)
        node = jnp.searchsorted(jnp.asarray(ends, jnp.float32), levels, side="right")
        node = jnp.minimum(node, int(np.flatnonzero(table)[-1]))
        moves = (jr.uniform(key_move, (2, n)) - 0.5) / (len(units) - 1)
        places = jnp.stack(jnp.divmod(node, len(units)))
        a, b = jnp.clip(jnp.asarray(units)[places] + moves, 0.0, 1.0)
        return jnp.maximum(a, b), jnp.minimum(a, b)


def measured(file: str) -> Measured:
    """Pairs in the shares of what each jump costs at the data end, by the certificate of a run
    (`apps.inspect --certify`). Raises `UserError` where the file is not one."""
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        units = tuple(float(one) for one in found["units"])
        table = np.array([[one or 0.0 for one in row] for row in found["tables"]["end"]], float)
        even = np.allclose(units, np.linspace(1, 0, len(units)), atol=1e-6)
        if not even or table.shape != 2 * (len(units),) or not np.triu(table, 1).sum() > 0:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"--plugin.measured {file}: no certificate; python -m apps.inspect --run RUN --certify "
            "writes RUN/certificate.json"
        ) from None
    return Measured(units, tuple(tuple(row) for row in table.tolist()))
