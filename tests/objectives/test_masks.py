"""Dropout in a loss: each row has one mask, in all evaluations of the trained map alone."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.nets import MLPConfig
from core.objectives.objective import Batch, RowKind, Term
from core.objectives.rows import RowObjective
from core.times.distributions import Uniform
from core.times.pairs import Diagonal
from tests.compiling import device, once
from tests.nets.randomised import randomised
from tests.objectives.terms import STEP


class Twice(Term):
    """The trained map against itself."""

    def __call__(self, model, target, row):
        one, other = (model.average_velocity(row.x_s, row.s, row.t, row.cond) for _ in range(2))
        return one - other


class Target(Term):
    """The trained map against the target's, which has the same parameters."""

    def __call__(self, model, target, row):
        return model.average_velocity(row.x_s, row.s, row.t) - target.average_velocity(
            row.x_s, row.s, row.t
        )


class Alike(Term):
    """The trained map at one point, whatever the row."""

    def __call__(self, model, target, row):
        one = jnp.ones_like(row.s)
        return model.average_velocity(jnp.ones_like(row.x_s), one, 0 * one)


def losses(term, net, x):
    kinds = (RowKind(name="rows", share=1.0, times=Diagonal(Uniform()), term=term),)
    objective = RowObjective(path=LinearPath(), kinds=kinds, steps=10)
    players = {"model": AverageVelocityMap(net=net, path=LinearPath())}

    def call(x, key):
        loss, _, metrics = objective(players, players, None, Batch(x), key, STEP)
        return loss["model"]

    return jax.vmap(call, in_axes=(None, 0))(x, jr.split(jr.key(0), 3))


def test_a_row_has_one_mask_and_its_target_none(normal):
    net = randomised(MLPConfig(width=8, depth=2, dropout=0.5), (3,), 0, jr.key(0))
    plain = randomised(MLPConfig(width=8, depth=2), (3,), 0, jr.key(0))
    x = device(normal(16, 3))

    def look(x):
        first = losses(Twice(), net, x), losses(Target(), net, x), losses(Target(), plain, x)
        return *first, losses(Alike(), net, x), losses(Alike(), plain, x)

    twice, target, without, alike, still = once(look)(x)
    assert np.array_equal(twice, np.zeros(3)) and np.array_equal(without, np.zeros(3))
    assert (target > 1e-3).all()
    assert len(np.unique(alike)) == 3 and len(np.unique(still)) == 1  # each key draws its own
