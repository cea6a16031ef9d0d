"""diffusers' U-Net from foreign tensors equals a plain restatement of it."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.layouts import diffusers_unet, unfilled
from tests.compiling import once
from tests.layouts import diffusers_networks as plain

ERROR = 5e-6
SIZE, CLASSES = 8, 3
DDPM = {
    "_class_name": "UNet2DModel", "sample_size": SIZE, "block_out_channels": [8, 16],
    "layers_per_block": 1, "down_block_types": ["DownBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "UpBlock2D"], "downsample_type": "conv",
    "upsample_type": "conv", "downsample_padding": 0, "attention_head_dim": None,
    "norm_num_groups": 4, "attn_norm_num_groups": None, "norm_eps": 1e-6,
    "resnet_time_scale_shift": "default", "flip_sin_to_cos": False, "freq_shift": 1,
    "mid_block_scale_factor": 1, "num_class_embeds": None,
}  # fmt: skip
ADM = DDPM | {
    "down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"],
    "up_block_types": ["AttnUpBlock2D", "ResnetUpsampleBlock2D"],
    "downsample_type": "resnet", "upsample_type": "resnet", "attention_head_dim": 4,
    "norm_eps": 1e-5, "resnet_time_scale_shift": "scale_shift", "flip_sin_to_cos": True,
    "freq_shift": 0, "num_class_embeds": CLASSES,
}  # fmt: skip
CASES = {
    "ddpm": DDPM,
    "adm": ADM,
    "adm-normed": ADM | {"attn_norm_num_groups": 2},
    "around": DDPM | {"downsample_padding": 1, "attention_head_dim": 8},
}
STEPS = [0.0, 37.25, 999.0]
LABELS = [2, None, 0]


def made(rng, config):
    return plain.unet(rng, config, config["num_class_embeds"] or 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_network_is_that_of_the_file(name, rng):
    config = CASES[name]
    tensors = made(rng, config)
    found = diffusers_unet.options_of(tensors, config)
    net = found.network(tensors)
    x = rng.normal(size=(3, SIZE, SIZE, 2)).astype(np.float32)
    labels = np.int32([CLASSES if label is None else label for label in LABELS])

    @once
    def run(net):
        def one(x, step, label):
            return net.body(x, net.embed(step, Condition(label)))

        return jax.vmap(one)(x, np.float32(STEPS), labels)

    ours = run(net)
    for n, step in enumerate(STEPS):
        label = LABELS[n] if found.num_classes else None
        expected = plain.run_unet(tensors, config, x[n], step, label)
        assert np.abs(ours[n] - expected).max() < ERROR


@pytest.mark.parametrize("name", CASES)
def test_there_and_back_is_exact(name, rng):
    tensors = made(rng, CASES[name])
    found = diffusers_unet.options_of(tensors, CASES[name])
    back = unfilled(found.network(tensors), found.table)
    assert back.keys() == tensors.keys()
    assert all(np.array_equal(back[name], value) for name, value in tensors.items())
    assert found.shape == (SIZE, SIZE, 2)


def test_what_is_not_of_the_network_is_named(rng):
    tensors = made(rng, DDPM)
    found = diffusers_unet.options_of(tensors, DDPM)
    with pytest.raises(UserError, match="not used: more"):
        found.network(tensors | {"more": np.zeros(3, np.float32)})
    del tensors["up_blocks.1.resnets.0.conv_shortcut.weight"]
    with pytest.raises(UserError, match=r"missing: up_blocks\.1\.resnets\.0\.conv_shortcut"):
        found.network(tensors)


REFUSED = {
    "down_block_types": ["SkipDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnSkipUpBlock2D"],
    "time_embedding_type": "fourier",
    "class_embed_type": "timestep",
    "downsample_type": "fir",
    "resnet_time_scale_shift": "spatial",
    "act_fn": "mish",
    "freq_shift": 2,
}


@pytest.mark.parametrize("option", REFUSED)
def test_options_that_are_not_known_are_refused_by_name(option, rng):
    with pytest.raises(UserError, match=f"{option} .*not supported") as error:
        diffusers_unet.options_of(made(rng, DDPM), DDPM | {option: REFUSED[option]})
    value = REFUSED[option]
    wrong = next(one for one in value if "Skip" in one) if isinstance(value, list) else value
    assert repr(wrong) in str(error.value)
