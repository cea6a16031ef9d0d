"""diffusers' autoencoder from foreign tensors equals a plain restatement of it."""

import numpy as np
import pytest

from core.errors import UserError
from core.layouts import autoencoder_kl, unfilled
from core.nets.autoencoder_kl import AutoencoderKLConfig
from tests.compiling import once
from tests.layouts import diffusers_networks as plain

ERROR = 2.2e-6
SIZES, LAYERS, LATENT, GROUPS = (8, 16), 1, 2, 4
CONFIG = {
    "_class_name": "AutoencoderKL", "norm_num_groups": GROUPS, "act_fn": "silu",
    "down_block_types": ["DownEncoderBlock2D"] * 2, "scaling_factor": 0.18215,
}  # fmt: skip


def made(rng, old=False):
    return plain.autoencoder(rng, SIZES, LAYERS, LATENT, old=old)


@pytest.mark.slow
@pytest.mark.parametrize("old", [False, True], ids=["names", "old-names"])
def test_moments_and_images_are_those_of_the_file(old, rng):
    tensors = made(rng, old)
    if old:  # log variances beyond both bounds
        tensors["quant_conv.bias"][LATENT:] += np.float32([-40, 30])
    found = autoencoder_kl.options_of(tensors, CONFIG)
    net = found.network(tensors)
    x = rng.normal(size=(6, 10, 3)).astype(np.float32)
    z = rng.normal(size=(3, 4, LATENT)).astype(np.float32)
    run = once(lambda net, x, z: (*net.moments(x), net.encode(x)[1], net.decode(z)))
    mean, log_variance, std, image = run(net, x, z)
    how = SIZES, LAYERS, GROUPS
    expected = (*plain.encoded(tensors, x, *how), plain.decoded(tensors, z, *how))
    for ours, theirs in zip((mean, log_variance, image), expected):
        assert ours.shape == theirs.shape
        assert np.abs(ours - theirs).max() < ERROR
    np.testing.assert_allclose(std, np.exp(log_variance.astype(float) / 2), rtol=1e-5)
    assert not old or set(log_variance.flat) == {-30, 20}


def test_there_and_back_is_exact(rng):
    for old in (False, True):
        tensors = made(rng, old)
        found = autoencoder_kl.options_of(tensors, CONFIG)
        back = unfilled(found.network(tensors), found.table)
        assert back.keys() == tensors.keys()
        assert all(np.array_equal(back[name], value) for name, value in tensors.items())


def test_options_follow_from_shapes(rng):
    found = autoencoder_kl.options_of(made(rng), CONFIG)
    assert found.config == AutoencoderKLConfig(SIZES, LAYERS, GROUPS, LATENT)
    assert found.depth == 3 and found.scaling == {"scaling_factor": 0.18215}


def test_what_is_not_of_the_network_is_named(rng):
    tensors = made(rng)
    found = autoencoder_kl.options_of(tensors, CONFIG)
    with pytest.raises(UserError, match=r"not used: encoder\.more"):
        found.network(tensors | {"encoder.more": np.zeros(3, np.float32)})
    del tensors["decoder.conv_in.bias"]
    with pytest.raises(UserError, match=r"missing: decoder\.conv_in\.bias"):
        found.network(tensors)
    with pytest.raises(UserError, match="config.json is of UNet2DModel, not of AutoencoderKL"):
        autoencoder_kl.options_of(tensors, CONFIG | {"_class_name": "UNet2DModel"})
    with pytest.raises(UserError, match="act_fn = 'relu' is not supported; 'silu' is"):
        autoencoder_kl.options_of(tensors, CONFIG | {"act_fn": "relu"})
    with pytest.raises(UserError, match="'AttnDownEncoderBlock2D' is not supported"):
        autoencoder_kl.options_of(
            tensors, CONFIG | {"down_block_types": ["AttnDownEncoderBlock2D"]}
        )
