"""EDM2's network from foreign tensors equals a plain restatement of it."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.layouts import edm, edm2, unfilled
from core.nets.edm2_unet import EDM2UNetConfig, renormalised
from tests.compiling import once
from tests.layouts import edm2_networks as plain

ERROR = 1.2e-6
SIGMAS = np.float32([0.002, 0.7, 80.0])


def found_in(tensors, **how):
    """What the layout finds, with heads of a few channels."""
    options = {"class_name": "Precond"}
    return edm2.options_of(tensors, options, head_channels=plain.HEAD, **how)


def network_of(tensors, **how):
    found = found_in(tensors, **how)
    return found.network(tensors)


@pytest.mark.slow
def test_network_and_denoiser_are_those_of_the_file(rng):
    tensors = plain.made(rng)
    net = network_of(tensors)
    labels = np.int32([2, plain.CLASSES, 0])
    x = rng.normal(size=(3, plain.SIZE, plain.SIZE, 2)).astype(np.float32)
    noisy = x * np.sqrt(SIGMAS**2 + 0.25)[:, None, None, None]
    noises = np.log(SIGMAS) / 4

    @once
    def run(net):
        def one(x, noisy, noise, unit, label):
            cond = Condition(label)
            F = net.body(x, net.embed(noise, cond))
            return F, edm.edm_map(net).net(noisy, unit, unit, cond)

        return jax.vmap(one)(x, noisy, noises, SIGMAS / (1 + SIGMAS), labels)

    F, D = run(net)
    for n, (sigma, label) in enumerate(zip(SIGMAS.astype(float), [2, None, 0])):
        expected = plain.network(tensors, x[n], noises[n].astype(float), label)
        clean = plain.preconditioned(tensors, noisy[n].astype(float), sigma, label)
        assert np.abs(F[n] - expected).max() < ERROR
        assert np.abs(D[n] - clean).max() < ERROR


def test_folded_and_raw_weights_are_the_effective_ones(rng):
    """Of each layer, as torch uses it; a folded one is stored so, a raw one normalised in use."""
    tensors = plain.made(rng)
    raw, folded = network_of(tensors), network_of(tensors, folded=True)
    assert folded.config.folded and folded.noise.folded and not raw.noise.folded
    for name, part in (
        ("unet.emb_noise", "noise"),
        ("unet.emb_label", "label"),
    ):
        expected = plain.effective(tensors[f"{name}.weight"].astype(float))
        np.testing.assert_allclose(getattr(folded, part).weight, expected, atol=2e-7)
    expected = plain.effective(tensors["unet.out_conv.weight"].astype(float)).transpose(2, 3, 1, 0)
    np.testing.assert_allclose(folded.output.weight, expected, atol=2e-7)
    used, stored, rows = once(
        lambda net: (
            net.output.normalised(),
            (again := renormalised(net).output.weight),
            (again**2).sum((0, 1, 2)),
        )
    )(raw)
    np.testing.assert_allclose(used, expected, atol=2e-7)
    np.testing.assert_allclose(rows, np.prod(expected.shape[:3]), rtol=1e-3)
    assert stored.shape == expected.shape


def test_there_and_back_is_exact(rng):
    tensors = plain.made(rng)
    found = found_in(tensors)
    back = unfilled(found.network(tensors), found.table)
    kept = {name for name in tensors if "logvar" not in name}
    assert set(back) == kept
    assert all(np.array_equal(back[name], tensors[name]) for name in kept)


def test_options_follow_from_names_and_shapes(rng):
    found = edm2.options_of(plain.made(rng, (1, 2, 3), 2, (8, 4), 16, 4))
    assert found.config == EDM2UNetConfig(
        channels=8, multipliers=(1, 2, 3), blocks=2, attention=(8, 4), trained_without_null=True
    )
    assert (found.shape, found.num_classes) == ((16, 16, 4), plain.CLASSES)


def test_what_is_not_of_the_network_is_named(rng):
    tensors = plain.made(rng)
    found = found_in(tensors)
    with pytest.raises(UserError, match=r"not used: unet\.more"):
        found.network(tensors | {"unet.more": tensors["unet.out_gain"]})
    del tensors["unet.emb_noise.weight"]
    with pytest.raises(UserError, match=r"missing: unet\.emb_noise\.weight"):
        found.network(tensors)
    with pytest.raises(UserError, match="^EDMPrecond is not supported; Precond is$"):
        edm2.options_of(tensors, {"class_name": "EDMPrecond"})
