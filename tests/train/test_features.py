"""Encoders of features: what they show, how they are trained, kept and opened."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import plugins as plugins
from core.errors import UserError
from core.metrics import extract
from core.nets.encoder import EncoderConfig
from core.nets.perception import Identity
from core.objectives.objective import Batch
from core.objectives.pretext import MaskedReconstruction
from core.train.build import build
from core.train.checkpoint import Checkpoints
from core.train.claim import claim
from core.train.cli import parse
from core.train.features import (
    build_features,
    open_perception,
    parse_features,
)
from core.train.named_features import open_features
from core.train.trainer import Trainer
from tests.compiling import once

TINY = [
    "--data", "digits", "--encoder.width", "4", "--encoder.levels", "2", "--batch", "16",
    "--steps", "6", "--dispatch", "2", "--ema", "0.5", "--optim.warmup", "0",
]  # fmt: skip


def train(folder, *flags, stops=()):
    """Trains in pieces, each with a trainer of its own, as a killed run does."""
    config = parse_features([*TINY, *flags, "--run", str(folder)])
    claim(config)
    for stop in (*stops, config.steps):
        trainer, checkpoints = Trainer(config, build_features(config)), Checkpoints(folder)
        latest = checkpoints.latest()
        if latest is not None:
            trainer.restore(checkpoints, latest)
        for dispatch in trainer.run():
            if dispatch.step >= stop:
                break
        trainer.save(checkpoints)
        checkpoints.close()
    return trainer


def arrays(tree):
    leaves = jax.tree.leaves(eqx.filter(tree, eqx.is_array))
    return [np.asarray(jr.key_data(a) if jnp.issubdtype(a.dtype, jax.dtypes.prng_key) else a)
            for a in leaves]  # fmt: skip


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A run of tiny features on digits, and its trainer."""
    folder = tmp_path_factory.mktemp("runs") / "features"
    return folder, train(folder)


@pytest.mark.slow
def test_a_run_in_pieces_ends_where_one_in_one_piece_does(tmp_path, digits):
    whole, pieces = digits[1], train(tmp_path / "pieces", stops=(2, 4))
    assert len(arrays(whole.state)) > 20
    assert all(map(np.array_equal, arrays(whole.state), arrays(pieces.state)))


@pytest.mark.slow
def test_what_is_opened_is_what_was_trained(digits):
    folder, trainer = digits
    encoder = open_perception(str(folder), (8, 8, 1))
    assert all(map(np.array_equal, arrays(encoder), arrays(trainer.averaged()["model"].encoder)))
    fresh = build_features(trainer.config).model.encoder
    assert not all(map(np.array_equal, arrays(encoder), arrays(fresh)))


@pytest.mark.slow
def test_maps_go_from_fine_to_coarse_after_the_raw_values(getkey):
    for shape, expected in {
        (8, 8, 1): [(1, 64), (64, 4), (16, 8), (4, 16)],
        (28, 28, 1): [(1, 784), (196, 4), (49, 8)],  # 14 places a side, then 7, which is odd
        (32, 32, 3): [(1, 3072), (64, 4), (16, 8), (4, 16)],
        (7, 9, 1): [(1, 63), (63, 4)],
    }.items():
        model = EncoderConfig(width=4).autoencoder(shape, key=getkey())
        x = jr.normal(getkey(), shape)
        maps = model.encoder.maps(x)
        assert [one.shape for one in maps] == expected
        np.testing.assert_array_equal(maps[0][0], x.reshape(-1))
        assert model.encoder.vector(x).shape == (model.encoder.dim,)
        assert model(x).shape == shape


def test_a_place_of_the_finest_map_sees_its_surroundings_only(getkey):
    """Two convolutions of 3 x 3: what is more than 2 pixels away has no part."""
    encoder = EncoderConfig(width=4, levels=1).autoencoder((8, 8, 1), key=getkey()).encoder
    place = lambda x: encoder.maps(x)[1].reshape(8, 8, 4)[3, 4]  # noqa: E731
    slope = once(jax.jacobian(place))(np.zeros((8, 8, 1), np.float32))
    reached = np.abs(slope[..., 0]).sum(axis=0) > 0
    expected = np.zeros((8, 8), bool)
    expected[1:6, 2:7] = True
    assert (reached == expected).all()


def test_only_hidden_pixels_count(normal):
    """A network that adds 1 to what it sees is off everywhere, but only what is hidden counts."""
    objective = MaskedReconstruction(patch=2, share=0.4)
    players = {"model": lambda x: x + 1}

    def loss_and_masks(x):
        key, step = jr.key(1), jnp.zeros((), jnp.int32)
        losses, _, _ = objective(players, players, None, Batch(x), key, step)
        masks = [objective.mask((6, 7, 3), k) for k in jr.split(key, 5)]
        return losses["model"], jnp.stack(masks)

    x = normal(5, 6, 7, 3)
    loss, masks = once(loss_and_masks)(x)
    assert masks.shape == (5, 6, 7, 1) and 0.2 < masks.mean() < 0.6
    assert (masks[:, ::2, :6:2] == masks[:, 1::2, 1::2]).all()  # whole patches
    hidden = np.broadcast_to(masks, x.shape)
    np.testing.assert_allclose(loss, np.mean((1 - x[hidden]) ** 2), rtol=1e-5)


@pytest.mark.slow
def test_a_classifier_learns_from_the_labels(tmp_path):
    trainer = train(
        tmp_path / "run", "--task", "classifier", "--steps", "100", "--optim.rate", "0.01"
    )
    data = trainer.built.held_out
    logits = jax.vmap(trainer.averaged()["model"])(data.decode(data.examples))
    assert float(np.mean(np.argmax(np.asarray(logits), axis=1) == data.labels)) > 0.4


def test_every_tenth_example_is_left_out():
    built = build_features(parse_features(TINY))
    assert (len(built.training), len(built.held_out)) == (1618, 179)
    both = np.concatenate([built.training.examples, built.held_out.examples])
    whole = built.dataset.examples
    assert sorted(map(bytes, both)) == sorted(map(bytes, whole))
    assert (built.held_out.labels == built.dataset.labels[9::10]).all()


@pytest.mark.slow
def test_a_metric_looks_at_the_vector(digits):
    folder = str(digits[0])
    features = open_features(folder, (8, 8, 1))
    assert features.name == folder
    x = np.random.default_rng(0).normal(size=(300, 8, 8, 1)).astype(np.float32)
    encoder = open_perception(folder, (8, 8, 1))
    expected = once(jax.vmap(encoder.vector))(x[[0, 270]])
    np.testing.assert_allclose(extract(features, x)[[0, 270]], expected, atol=1e-5)
    assert open_features("pooled", (8, 8, 1)).name == "pooled"


@pytest.mark.slow
def test_drift_trains_through_features_which_stay_as_they_are(digits, tmp_path):
    flags = [
        "--plugin", "drift", "--data", "digits", "--plugin.features", str(digits[0]),
        "--plugin.group", "4", "--plugin.positives", "4", "--net.width", "16", "--net.depth", "1",
        "--batch", "8", "--steps", "2", "--dispatch", "1", "--run", str(tmp_path / "drift"),
    ]  # fmt: skip
    config = parse(flags)
    trainer = Trainer(config, build(config))
    metrics = [dispatch.metrics for dispatch in trainer.run()][-1]
    assert {"energy/raw/0.05", "energy/map2/0.2", "spread/std1"} <= set(metrics)
    assert metrics["grad_norm"] > 0
    claim(config)
    checkpoints = Checkpoints(tmp_path / "drift")
    trainer.save(checkpoints)
    again = Trainer(config, build(config))
    again.restore(checkpoints, 2)
    checkpoints.close()
    queue = again.state.carry["classes"]
    assert int(queue.count.sum()) == 16  # two batches, kept with the state
    assert all(map(np.array_equal, arrays(trainer.state), arrays(again.state)))


def test_identity_needs_no_run():
    assert isinstance(open_perception("identity", (2,)), Identity)


@pytest.mark.slow
def test_features_of_another_shape_are_refused_in_one_line(digits):
    with pytest.raises(UserError, match=r"of shape \(8, 8, 1\), not \(28, 28, 1\)"):
        open_perception(str(digits[0]), (28, 28, 1))


def test_what_is_no_encoder_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match=r"no features in nowhere \(no config.toml\)"):
        open_perception("nowhere", (8, 8, 1))
    with pytest.raises(UserError, match="unknown feature set or folder of features 'pixel'"):
        open_features("pixel", (8, 8, 1))
    with pytest.raises(UserError, match="did you mean 'efficientnet-lite0'"):
        open_features("efficientnet-lite", (8, 8, 1))
    claim(parse(["--data", "digits", "--run", str(tmp_path / "map")]))
    with pytest.raises(UserError, match="is a run of apps.train and holds no features"):
        open_perception(str(tmp_path / "map"), (8, 8, 1))
    claim(parse_features([*TINY, "--run", str(tmp_path / "fresh")]))
    with pytest.raises(UserError, match="have no checkpoint yet"):
        open_perception(str(tmp_path / "fresh"), (8, 8, 1))


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--data", "checkerboard"], "features are for images"),
        (["--hidden", "1"], "--hidden must be between 0 and 1"),
        (["--encoder.levels", "0"], "start at 1"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line(flags, message):
    with pytest.raises(UserError, match=message):
        build_features(parse_features(flags))
