"""Runs made without training them."""

import importlib

import equinox as eqx
import jax.random as jr

from core.train.checkpoint import Checkpoints
from core.train.claim import claim
from core.train.cli import parse
from core.train.teachers import build_run
from core.train.trainer import Trainer
from tests.nets.randomised import noise

importlib.import_module("plugins")


def make_run(folder, *flags, drawn=0) -> Trainer:
    """A run at step 0 whose averaged weights are noise, so that all of them matter to samples, and
    differ from the weights that are trained. No training step is compiled."""
    config = parse([*map(str, flags), "--run", str(folder)])
    built = build_run(config)
    trainer = Trainer(config, built)
    weights = noise(trainer.state.ema, jr.key(drawn), 0.3)
    trainer.state = eqx.tree_at(lambda state: state.ema, trainer.state, weights)
    folder = claim(config, built.dataset.spec, base=built.base())
    checkpoints = Checkpoints(folder, config.keep)
    trainer.save(checkpoints)
    checkpoints.close()
    return trainer
