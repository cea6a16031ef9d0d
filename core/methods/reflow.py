"""Pairs of noise and its end under a teacher's ODE: the training data of reflow."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key

from core.data.dataset import Dataset
from core.errors import require
from core.flow.condition import Condition
from core.flow.solve import AdaptiveSteps, FixedSteps
from core.flow.teacher import Teacher
from core.methods.plugin import DataContext, Progress
from core.methods.row_plugin import RowPlugin, needed
from core.objectives.objective import FlowMatching, Term

CHUNK = 1024


@dataclass(frozen=True)
class PairsPlugin(RowPlugin):
    """A method that trains on a teacher's pairs, made by Diffrax before the training."""

    needs_teacher = True
    guidable = False

    pairs: int = 32_768
    """Pairs that the teacher makes before the training."""
    solver: Literal["euler", "heun", "midpoint", "dopri5"] = "heun"
    """Diffrax solver of the teacher's ODE."""
    solver_steps: int = 32
    """Its steps; heun evaluates the teacher twice a step."""
    discard: float = 0.0
    """Share of the pairs that is left out: those whose ends lie farthest apart."""

    def __post_init__(self):
        super().__post_init__()
        require(0 <= self.discard < 1, f"--plugin.discard must be in [0, 1), got {self.discard}")

    def diagonal_term(self, teacher: Teacher) -> Term:
        del teacher  # it made the pairs, whose velocity the diagonal regresses
        return FlowMatching()

    def dataset(self, data: Dataset, making: DataContext) -> Dataset:
        stepping = FixedSteps(self.solver, self.solver_steps)
        teacher, key = needed(making.teacher, self.card.name), making.key
        pairs = teacher_pairs(
            data, teacher, self.pairs, stepping, key=key, progress=making.progress
        )
        return nearest_pairs(pairs, 1 - self.discard)


def teacher_pairs(
    data: Dataset,
    teacher: Teacher,
    count: int,
    stepping: FixedSteps | AdaptiveSteps,
    *,
    key: Key[Array, ""],
    progress: Progress | None = None,
) -> Dataset:
    """`count` examples `x_0 = F_teacher(x_T)` with the noise they came from, as a data set.

    The start is `sigma(t_max) z`; labels are drawn from those of the data. The examples are network
    values (`levels` is None). The same key gives the same pairs. `progress(done, of)` is called as
    they are made.
    """
    key_label, key_noise = jr.split(key)
    labels = None
    if data.labels is not None:
        chosen = jr.choice(key_label, jnp.asarray(data.labels), (count,))
        labels = np.asarray(chosen, np.int32)
    ends, noises = [], []
    for start in range(0, count, CHUNK):
        index = np.minimum(np.arange(start, start + CHUNK), count - 1)
        keys = jax.vmap(lambda i: jr.fold_in(key_noise, i))(jnp.arange(start, start + CHUNK))
        label = None if labels is None else jnp.asarray(labels[index])
        x_0, z = _solve_chunk(teacher, keys, label, data.shape, stepping)
        ends.append(np.asarray(x_0))
        noises.append(np.asarray(z))
        if progress is not None:
            progress(min(start + CHUNK, count), count)
    return dataclasses.replace(
        data,
        examples=np.concatenate(ends)[:count],
        noise=np.concatenate(noises)[:count],
        labels=labels,
        levels=None,
        source=None,
    )


def nearest_pairs(pairs: Dataset, share: float) -> Dataset:
    """The pairs with the smallest `|x_0 - z|`, a share of all, in their old order.

    Source: rectified MeanFlow (arXiv 2511.23342), which leaves out the farthest 10 %.
    """
    if share >= 1:
        return pairs
    assert pairs.noise is not None
    apart = (np.asarray(pairs.examples) - pairs.noise).reshape(len(pairs), -1)
    kept = np.sort(np.argsort(np.linalg.norm(apart, axis=1))[: round(share * len(pairs))])
    labels = None if pairs.labels is None else pairs.labels[kept]
    examples = np.asarray(pairs.examples)[kept]
    return dataclasses.replace(pairs, examples=examples, noise=pairs.noise[kept], labels=labels)


@eqx.filter_jit
def _solve_chunk(teacher, keys, label, shape, stepping):
    path = teacher.path
    ends = jnp.asarray(path.t_max), jnp.asarray(path.t_min)

    def one(key, label):
        z = path.noise(key, shape)
        cond = None if label is None else Condition(label=label)
        start = path.sigma(ends[0]) * z
        return teacher.flow(start, *ends, cond, stepping=stepping), z

    return jax.vmap(one)(keys, label)
