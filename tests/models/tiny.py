"""Small model folders with random numbers, as `apps.convert` writes them."""

import numpy as np

from core.layouts import autoencoder_kl, dit, edm, imf, meanflow, sit
from core.models import write_model
from tests.layouts import dit_files, edm_networks, imf_files
from tests.layouts.test_autoencoder_kl import CONFIG
from tests.layouts.test_autoencoder_kl import made as autoencoder

HEADS, CHANNELS = dit_files.HEADS, dit_files.CHANNELS


def _sit(**how):
    tensors = dit_files.torch_dit(CHANNELS)
    return sit.options_of(tensors, heads=HEADS, **how), tensors


def _dit():
    tensors = dit_files.torch_dit(2 * CHANNELS)
    return dit.options_of(tensors, heads=HEADS, null_class=True), tensors


def _meanflow():
    tensors = dit_files.flax_meanflow()
    return meanflow.options_of(tensors, heads=HEADS, side=dit_files.SIDE, null_class=True), tensors


def _imf():
    tensors = imf_files.tensors(True)
    return imf.options_of(tensors, side=dit_files.SIDE), tensors


def _edm():
    tensors = edm_networks.made(np.random.default_rng(0), "ddpm++")
    return edm.options_of(tensors, head_channels=edm_networks.HEAD), tensors


def _vae():
    tensors = autoencoder(np.random.default_rng(0))
    return autoencoder_kl.options_of(tensors, CONFIG), tensors


KINDS = {"sit": _sit, "dit": _dit, "meanflow": _meanflow, "imf": _imf, "edm": _edm, "vae": _vae}


def model_folder(folder, kind, *, scaling=None):
    """The folder, with a network of this layout: images of 6 x 6 x 3 (of EDM 8 x 8 x 2), 5 classes
    (3)."""
    found, tensors = KINDS[kind]()
    source = {"kind": kind, "file": f"{kind}.pt", "sha256": "a" * 64, "title": kind.upper()}
    write_model(folder, found, found.network(tensors), source, scaling=scaling)
    return folder
