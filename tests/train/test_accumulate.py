"""Gradients in pieces are those of the whole batch."""

import jax
import numpy as np
import pytest

import plugins as plugins
from core.errors import UserError
from core.train.build import build
from core.train.cli import parse
from core.train.trainer import Trainer

pytestmark = pytest.mark.slow

TINY = "--data digits --net mlp --net.width 8 --net.depth 1 --optim.warmup 0 --steps 2 --dispatch 2"
POINTS = TINY.replace("digits", "two-moons --data.n 64")


def trained(flags, pieces):
    config = parse([*flags.split(), "--accumulate", str(pieces)])
    trainer = Trainer(config, build(config))
    (part,) = trainer.run()
    return part.metrics, jax.tree.leaves(trainer.state.ema)


@pytest.mark.parametrize(
    "flags",
    [
        f"{POINTS} --plugin mf --plugin.diagonal 0.75 --batch 48",  # kinds of 36 and 12 rows
        f"{POINTS} --plugin imm --batch 32 --plugin.group 4",  # groups of rows
    ],
)
def test_a_step_in_pieces_is_the_step_of_the_whole_batch(flags):
    whole, weights = trained(flags, 1)
    pieces, others = trained(flags, 4)
    assert pieces == pytest.approx(whole, rel=1e-5)
    assert whole["grad_norm"] > 0.01
    for one, other in zip(weights, others, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    "flags, pieces, message",
    [
        ("--plugin drift", 2, "compares the rows of the whole batch"),
        ("--plugin mf --plugin.diagonal 0.75", 16, "16 does not divide the 24 rows of .*diagonal"),
    ],
)
def test_what_cannot_be_taken_in_pieces_is_refused(flags, pieces, message):
    config = parse(f"{POINTS} --batch 32 {flags} --accumulate {pieces}".split())
    with pytest.raises(UserError, match=message):
        Trainer(config, build(config))
