"""Dropout: off without a key, right in the mean, one mask in all of a row's loss."""

import dataclasses

import jax
import jax.random as jr
import numpy as np
import pytest

from core.errors import UserError
from core.flow.flow_map import AverageVelocityMap
from core.flow.path import LinearPath
from core.methods.warm_start import warm_started
from core.nets import DiTConfig, EDM2UNetConfig, EDMUNetConfig, MLPConfig, UNetConfig
from core.nets.dropout import has_dropout, thinned, with_masks
from tests.compiling import once
from tests.nets.randomised import randomised

SMALL = {"width": 8, "depth": 2, "heads": 2}
LEVELS = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (), "dropout": 0.4}
NETS = {
    "mlp": (MLPConfig(width=8, depth=3, dropout=0.4), (3,)),
    "dit": (DiTConfig(patch=2, dropout=0.4, **SMALL), (4, 4, 1)),
    "series": (DiTConfig(patch=2, dropout=0.4, encoder_depth=1, **SMALL), (8, 2)),
    "unet": (
        UNetConfig(channels=8, multipliers=(1, 2), blocks=1, attention=(), dropout=0.4), (4, 4, 1),
    ),
    "edm-unet": (EDMUNetConfig(**LEVELS), (4, 4, 1)),
    "edm2-unet": (EDM2UNetConfig(**LEVELS), (4, 4, 1)),
}  # fmt: skip
TIMES = np.float32(0.8), np.float32(0.3)


@pytest.mark.parametrize(
    "name",
    [
        "mlp",
        pytest.param("dit", marks=pytest.mark.slow),
        pytest.param("series", marks=pytest.mark.slow),
        *(pytest.param(f"{kind}unet", marks=pytest.mark.long) for kind in ("", "edm-", "edm2-")),
    ],
)
def test_nothing_is_dropped_without_a_key_and_a_key_is_one_mask(name, normal):
    """Two evaluations under one key have the same mask; so has the derivative of one."""
    config, shape = NETS[name]
    net = randomised(config, shape, 0, jr.key(0))
    plain = randomised(dataclasses.replace(config, dropout=0.0), shape, 0, jr.key(0))
    x, v = normal(*shape), normal(*shape)

    def look(x, v, *times):
        one, other = (with_masks(net, jr.key(k)) for k in (1, 2))
        slope = jax.jvp(lambda x: one(x, *times), (x,), (v,))[1]
        h = 1e-2
        quotient = (one(x + h * v, *times) - one(x - h * v, *times)) / (2 * h)
        return net(x, *times), plain(x, *times), one(x, *times), other(x, *times), slope, quotient

    off, same, one, other, slope, quotient = once(look)(x, v, *TIMES)
    assert np.array_equal(off, same) and has_dropout(net) and not has_dropout(plain)
    assert np.abs(one - off).max() > 1e-3 and np.abs(one - other).max() > 1e-3
    np.testing.assert_allclose(slope, quotient, rtol=0.05, atol=0.02 * np.abs(slope).max())


def test_the_mean_over_masks_is_the_number_itself(normal):
    x = normal(5)
    keys = jr.split(jr.key(0), 4000)
    drawn = once(lambda keys, x: jax.vmap(lambda key: thinned(x, 0.25, key))(keys))(keys, x)
    assert abs((drawn == 0).mean() - 0.25) < 0.02
    error = np.abs(x).max() * (0.25 / 0.75 / 4000) ** 0.5
    np.testing.assert_allclose(drawn.mean(0), x, atol=5 * error)


def test_layers_have_masks_of_their_own():
    config, shape = NETS["dit"]
    found = with_masks(randomised(config, shape, 0, jr.key(0)), jr.key(3))
    keys = np.asarray(jr.key_data(found.dropout.keys(4)))
    assert len(np.unique(keys, axis=0)) == 4
    assert not np.array_equal(keys, jr.key_data(found.dropout.keys(4, 1)))


def test_weights_go_from_a_network_without_to_one_with_dropout():
    config, shape = NETS["mlp"]
    student, source = (
        AverageVelocityMap(net=randomised(flags, shape, 0, jr.key(k)), path=LinearPath())
        for k, flags in enumerate((config, dataclasses.replace(config, dropout=0.0)))
    )
    found = warm_started(source, student)
    assert found is not None and has_dropout(found)
    assert np.array_equal(found.net.hidden[0].weight, source.net.hidden[0].weight)


@pytest.mark.parametrize(
    "config", [MLPConfig, DiTConfig, UNetConfig, EDMUNetConfig, EDM2UNetConfig]
)
@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_share_outside_of_its_range_is_refused(config, rate):
    with pytest.raises(UserError, match=r"--net.dropout must be in \[0, 1\), got"):
        config(dropout=rate)
