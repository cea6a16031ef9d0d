"""A run on latents: it keeps its codec, and shows, measures, steers and exports pictures."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from apps import eval as eval_app
from apps import export as export_app
from apps import latents as latents_app
from apps import sample as sample_app
from apps import tilt as tilt_app
from core.data import codec
from core.errors import UserError
from core.train.cli import parse
from core.train.features import build_features, parse_features
from core.train.run import open_run
from core.train.teachers import build_run
from core.train.trainer import Trainer
from portolan.training import run_to_end
from tests.train.runs import make_run

VAE = ["--task", "autoencoder", "--encoder.width", "4", "--encoder.levels", "2", "--steps", "1"]
SMALL = ["--net", "dit", "--net.width", "16", "--net.depth", "1", "--batch", "32", "--evals", "1"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A fresh autoencoder of digits, latents by it, and a run on them."""
    from core.train.checkpoint import Checkpoints
    from core.train.claim import claim

    root = tmp_path_factory.mktemp("latents")
    config = parse_features([*VAE, "--data", "digits", "--run", f"{root}/vae"])
    built = build_features(config)
    checkpoints = Checkpoints(claim(config, built.dataset.spec), 1)
    Trainer(config, built).save(checkpoints)
    checkpoints.close()
    latents_app.main(["--images", "digits", "--vae", f"{root}/vae", "--out", f"{root}/z"])
    data = ["--data", "latents", "--data.path", f"{root}/z"]
    make_run(root / "run", *SMALL, *data, "--plugin", "imf", "--net.patch", "1", "--steps", "4")
    return root


@pytest.mark.slow
def test_pictures_are_drawn_measured_steered_and_exported_without_the_data(folders, tmp_path):
    run = str(shutil.copytree(folders / "run", tmp_path / "run"))
    found = eval_app.main(["--run", run, "--n", "64", "--nfe", "1", "--json"])
    assert found["rows"][0]["frechet"] > 0
    shutil.move(folders / "z", folders / "away")
    try:
        sample_app.main(["--run", run, "--n", "6", "--out", f"{run}/x"])
        with np.load(f"{run}/x.npz") as drawn:
            assert drawn["samples"].shape == (6, 4, 4, 4)
            assert drawn["pictures"].shape == (6, 8, 8, 1)
            spec = open_run(run).spec
            scaled = np.asarray(spec.scale.network(jnp.asarray(drawn["samples"])))
            np.testing.assert_allclose(spec.pictures(scaled), drawn["pictures"], atol=1e-4)
        tilted = tilt_app.main(
            ["--run", run, "--plugin", "snis", "--n", "8", "--label", "3", "--json"]
        )
        assert len(tilted["rows"]) == 2
        result = export_app.main(["--run", run, "--platforms", "cpu", "--json"])
        assert result["equal"]
        with pytest.raises(UserError, match="this needs the data that"):
            eval_app.main(["--run", run, "--n", "64", "--nfe", "1"])
        (tmp_path / "run" / "vae.safetensors").unlink()
        codec._opened.cache_clear()  # as in a process that has not seen it
        with pytest.raises(UserError, match="vae.safetensors is gone, so that these latents"):
            sample_app.main(["--run", run, "--n", "6", "--out", f"{run}/x"])
    finally:
        shutil.move(folders / "away", folders / "z")


@pytest.mark.slow
def test_draws_of_latents_are_the_same_after_a_stop(folders, tmp_path):
    """Two steps, then two more, end where four at once do."""
    flags = [*SMALL, "--data", "latents", "--data.path", f"{folders}/z", "--plugin", "fm"]
    flags += ["--net.patch", "1", "--sample-every", "0", "--save-every", "2", "--dispatch", "2"]
    flags += ["--optim.schedule", "constant", "--optim.warmup", "0"]

    def weights(name, *more):
        config = parse([*flags, "--run", f"{tmp_path}/{name}", *more])
        run_to_end(config, build_run(config), None)
        net = open_run(tmp_path / name).flow_map
        return [np.asarray(leaf) for leaf in jax_leaves(net)]

    whole = weights("whole", "--steps", "4")
    weights("part", "--steps", "2")
    for one, other in zip(weights("part", "--steps", "4", "--extend"), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def jax_leaves(tree):
    import equinox as eqx
    import jax

    return jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array))
