"""Mirrored pictures and dropout: drawn by the key of the step, so a resumed run repeats them."""

import dataclasses

import jax
import jax.random as jr
import numpy as np
import pytest

from core.data import Dataset
from core.objectives.objective import Batch
from core.train.augment import augmentation, mirror_some, pairs_mirrored
from core.train.build import build
from core.train.checkpoint import Checkpoints
from core.train.cli import parse
from core.train.gather import AUGMENT
from core.train.trainer import Trainer
from tests.compiling import device, once
from tests.train.test_trainer import same

X = np.arange(400 * 2 * 3, dtype=np.float32).reshape(400, 2, 3, 1)


def test_about_half_are_mirrored_left_to_right_and_the_others_as_they_were():
    draws = [once(mirror_some)(X, jr.key(k)) for k in (0, 0, 1)]
    turned = [np.all(found == X[:, :, ::-1], axis=(1, 2, 3)) for found in draws]
    kept = np.all(draws[0] == X, axis=(1, 2, 3))
    assert np.array_equal(kept, ~turned[0]) and 150 < turned[0].sum() < 250
    assert np.array_equal(turned[0], turned[1]) and not np.array_equal(turned[0], turned[2])


def test_both_images_of_a_pair_are_mirrored_or_neither():
    batch = once(pairs_mirrored)(Batch(device(X), z=device(X + 1)), jr.key(0))
    assert np.array_equal(batch.z, batch.x_0 + 1) and not np.array_equal(batch.x_0, X)


def test_the_key_of_mirrors_is_none_that_the_step_splits_off():
    key = jr.key(3)
    mine = np.asarray(jr.key_data(jr.fold_in(key, AUGMENT)))
    for count in (2, 3, 4, 64):
        assert not (np.asarray(jax.random.key_data(jr.split(key, count))) == mine).all(1).any()


def test_only_pictures_whose_noise_is_drawn_are_mirrored():
    data = Dataset(name="i", kind="image", shape=(2, 3, 1), examples=X, flip=True)
    assert augmentation(data) is not None
    assert augmentation(dataclasses.replace(data, noise=X)) is None
    assert augmentation(dataclasses.replace(data, flip=False)) is None
    assert augmentation(dataclasses.replace(data, paired=True)) is pairs_mirrored


@pytest.mark.slow
@pytest.mark.programs(100)
@pytest.mark.parametrize("flag", [["--data.flip"], ["--net.dropout", "0.4"]])
def test_a_resumed_run_draws_as_one_that_was_not_stopped(tmp_path, flag):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", rng.integers(0, 256, (24, 4, 4, 1), dtype=np.uint8))
    flags = [
        "--plugin", "fm", "--data", "arrays", "--data.path", str(tmp_path / "x.npy"),
        "--net.width", "8", "--net.depth", "1", "--net.heads", "1", "--net.patch", "2",
        "--batch", "8", "--steps", "4", "--dispatch", "1",
    ]  # fmt: skip

    def trainer(*more):
        config = parse([*flags, *more])
        return Trainer(config, build(config))

    whole, plain = trainer(*flag), trainer()
    checkpoints = Checkpoints(tmp_path / "run", 2)
    for part in whole.run():
        if part.step == 2:
            whole.save(checkpoints)
    resumed = trainer(*flag)
    resumed.restore(checkpoints, 2)
    checkpoints.close()
    list(resumed.run()), list(plain.run())
    assert same(whole.state, resumed.state)
    assert not same(whole.state, plain.state)
