"""Pairs of noise and its end under a teacher's ODE: what reflow trains on."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Key

from core.condition import Condition
from core.data.dataset import Dataset
from core.solve import Adaptive, Fixed
from core.teacher import Teacher

CHUNK = 1024


def teacher_pairs(
    data: Dataset, teacher: Teacher, count: int, method: Fixed | Adaptive, *, key: Key[Array, ""]
) -> Dataset:
    """`count` examples `x_0 = F_teacher(x_T)` with the noise they came from, as a data set.

    The start is `sigma(t_max) z`; labels are drawn from those of the data. The examples are network
    values (`levels` is None). The same key gives the same pairs.
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
        x_0, z = _solve_chunk(teacher, keys, label, data.shape, method)
        ends.append(np.asarray(x_0))
        noises.append(np.asarray(z))
    return dataclasses.replace(
        data,
        examples=np.concatenate(ends)[:count],
        noise=np.concatenate(noises)[:count],
        labels=labels,
        levels=None,
        source=None,
    )


@eqx.filter_jit
def _solve_chunk(teacher, keys, label, shape, method):
    path = teacher.path
    ends = jnp.asarray(path.t_max), jnp.asarray(path.t_min)

    def one(key, label):
        z = path.noise(key, shape)
        cond = None if label is None else Condition(label=label)
        start = path.sigma(ends[0]) * z
        return teacher.flow(start, *ends, cond, method=method), z

    return jax.vmap(one)(keys, label)
