"""EDM's networks from foreign tensors equal a plain restatement of them."""

import jax
import numpy as np
import pytest

from core.errors import UserError
from core.flow.condition import Condition
from core.layouts import edm, unfilled
from core.nets.edm_unet import EDMUNetConfig
from core.tensors.edm_pickle import open_edm
from tests.compiling import once
from tests.layouts import edm_networks as plain
from tests.tensors import edm_files
from tests.tensors.torch_files import plain as fields

ERRORS = {"ddpm++": 2e-6, "adm": 2e-6, "ncsn++": 2e-5}
SIGMAS = np.float32([0.002, 0.7, 80.0])


def found_in(tensors):
    """What the layout finds, with heads of a few channels."""
    return edm.options_of(tensors, {"class_name": "EDMPrecond"}, head_channels=plain.HEAD)


@pytest.mark.slow
@pytest.mark.parametrize("variant", ERRORS)
def test_network_and_denoiser_are_those_of_the_file(variant, rng):
    tensors = plain.made(rng, variant)
    found = found_in(tensors)
    net = found.network(tensors)
    labels = np.int32([2, plain.CLASSES, 0])
    x = rng.normal(size=(3, plain.SIZE, plain.SIZE, 2)).astype(np.float32)
    units = SIGMAS / (1 + SIGMAS)
    noisy = x * np.sqrt(SIGMAS**2 + 0.25)[:, None, None, None]
    noises = np.log(SIGMAS) / 4

    @once
    def run(net):
        def one(x, noisy, noise, unit, sigma, label):
            cond, flow_map = Condition(label), edm.edm_map(net)
            F = net.body(x, net.embed(noise, cond))
            D = flow_map.net(noisy, unit, unit, cond)
            return F, D, flow_map.velocity(noisy, sigma, cond)

        return jax.vmap(one)(x, noisy, noises, units, SIGMAS, labels)

    F, D, v = run(net)
    for n, (sigma, label) in enumerate(zip(SIGMAS.astype(float), [2, None, 0])):
        expected = plain.network(tensors, variant, x[n], noises[n].astype(float), label)
        clean = plain.preconditioned(tensors, variant, noisy[n].astype(float), sigma, label)
        assert np.abs(F[n] - expected).max() < ERRORS[variant]
        assert np.abs(D[n] - clean).max() < ERRORS[variant]
        slope = (noisy[n] - clean) / sigma
        assert np.abs(v[n] - slope).max() < 2 * ERRORS[variant] / min(sigma, 1)


@pytest.mark.parametrize("variant", ERRORS)
def test_there_and_back_is_exact(variant, rng):
    tensors = plain.made(rng, variant)
    found = found_in(tensors)
    back = unfilled(found.network(tensors), found.table)
    kept = {n for n in tensors if "resample_filter" not in n and "map_augment" not in n}
    assert set(back) == kept
    assert all(np.array_equal(back[name], tensors[name]) for name in kept)


def test_options_follow_from_names_and_shapes(rng):
    tensors = plain.made(rng, "ncsn++", (1, 2, 1), 2, (4,), 16, 3)
    found = edm.options_of({n.removeprefix("model."): t for n, t in tensors.items()})
    assert found.config == EDMUNetConfig(
        variant="ncsn++", channels=8, multipliers=(1, 2, 1), blocks=2, attention=(4,),
        trained_without_null=True,
    )  # fmt: skip
    assert (found.shape, found.num_classes) == ((16, 16, 3), plain.CLASSES)


def test_what_is_not_of_the_network_is_named(rng):
    tensors = plain.made(rng, "ddpm++")
    found = edm.options_of(tensors)
    with pytest.raises(UserError, match=r"not used: model\.enc\.more"):
        found.network(tensors | {"model.enc.more": tensors["model.map_layer0.bias"]})
    del tensors["model.enc.8x8_block0.affine.bias"]
    with pytest.raises(UserError, match=r"missing: model\.enc\.8x8_block0\.affine\.bias"):
        found.network(tensors)
    with pytest.raises(UserError, match="have no enc.32x32_conv.weight; they have blocks.0.attn"):
        edm.options_of({"blocks.0.attn": np.zeros(3)})


@pytest.mark.parametrize("name", ["VPPrecond", "VEPrecond", "iDDPMPrecond"])
def test_other_preconditioning_is_refused_by_its_name(name):
    with pytest.raises(UserError, match=f"^{name} is not supported; EDMPrecond is$"):
        edm.options_of({}, {"class_name": name})


def test_another_filter_is_refused(rng):
    tensors = plain.made(rng, "ddpm++")
    name = "model.enc.4x4_down.conv0.resample_filter"
    with pytest.raises(UserError, match="another filter than"):
        edm.options_of(tensors | {name: np.full((1, 1, 4, 4), 1 / 16)})


def test_a_pickle_becomes_the_network_of_its_tensors(rng, tmp_path, monkeypatch):
    """From the file as EDM writes it, whose source text would leave a trace."""
    monkeypatch.chdir(tmp_path)
    tensors = plain.made(rng, "ddpm++")
    kinds = {"": "EDMPrecond", "model.": "SongUNet"}
    for name, ok in (("good.pkl", True), ("other.pkl", False)):
        kinds[""] = "EDMPrecond" if ok else "VPPrecond"
        entries = fields(ema=edm_files.of_tensors(kinds, tensors))
        (tmp_path / name).write_bytes(edm_files.file(entries))
    options, read = open_edm(tmp_path / "good.pkl")
    assert options["model.class_name"] == "SongUNet" and set(read) == set(tensors)
    found = edm.options_of(read, options)
    back = unfilled(found.network(read), found.table)
    assert all(np.array_equal(back[name], tensors[name]) for name in back) and len(back) > 90
    with pytest.raises(UserError, match="^VPPrecond is not supported; EDMPrecond is$"):
        edm.options_of(*open_edm(tmp_path / "other.pkl")[::-1])
    assert len(list(tmp_path.iterdir())) == 2
