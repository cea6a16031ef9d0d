"""Trains an encoder of images, for its features: `python -m apps.features --data digits`."""

from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

from apps._main import join, launch
from core.data.dataset import Dataset
from core.data.record import recorded
from core.data.summary import summary
from core.files import write_json
from core.nets.encoder import Autoencoder
from core.nets.vae import VAE
from core.objectives.objective import Batch
from core.objectives.pretext import MaskedReconstruction
from core.train import processes
from core.train.checkpoint import Checkpoints
from core.train.claim import claim, extended_from
from core.train.features import FeaturesBuilt, FeaturesConfig, build_features, parse_features
from core.train.folder import one_writer
from core.train.sharding import describe_mesh
from core.train.trainer import Trainer
from portolan.loop import Loop
from portolan.tables import console, print_table
from portolan.training import say_change

Training = Trainer[FeaturesConfig, FeaturesBuilt]

SHOWN = 10
MOST_MEASURED = 2000


def main(argv: list[str]) -> dict[str, Any] | None:
    """Trains, or goes on with an interrupted run, and measures on the held-out examples."""
    config = parse_features(argv)
    join(config.cluster)
    with one_writer(config.folder):
        return trained(config)


def trained(config: FeaturesConfig) -> dict[str, Any] | None:
    """Trains and measures."""
    built = build_features(config)
    before = extended_from(config)
    trainer = Trainer(config, built)
    spec = recorded(built.dataset)
    folder = claim(config, spec)
    say_change(folder, spec, config.changed)
    checkpoints = Checkpoints(folder, config.keep)
    draw = partial(picture, trainer)
    loop = Loop("features", trainer, checkpoints, folder, draw, before)
    seconds, rate = loop.run(describe(config, built, trainer))
    checkpoints.close()
    figures = close(trainer, folder)
    result = {"run": str(folder), "step": trainer.step, **figures}
    result |= {"seconds": round(seconds, 2), "samples_per_second": round(rate, 1)}
    return result if config.json and processes.first() else None


def describe(config: FeaturesConfig, built: FeaturesBuilt, trainer: Training) -> list[str]:
    """A few lines that describe the run."""
    data, device = built.training, jax.devices()[0]
    mesh = describe_mesh(config.mesh)
    size = sum(leaf.size for leaf in jax.tree.leaves(trainer.state.players))
    return [
        *summary(built.dataset),
        f"features by {config.task}: {len(data):,} examples to train on, {len(built.held_out):,} "
        "to measure on",
        f"encoder and head: {size:,} parameters; maps {_maps(built)}",
        f"{config.steps:,} steps of {config.batch}; {device.platform}, {mesh}",
    ]


def _maps(built: FeaturesBuilt) -> str:
    example = jax.ShapeDtypeStruct(built.dataset.shape, jnp.float32)
    shapes = eqx.filter_eval_shape(built.model.encoder.maps, example)
    return ", ".join(f"{one.shape[0]} x {one.shape[1]}" for one in shapes)


def close(trainer: Training, folder: Path) -> dict[str, Any]:
    """The closing figures and picture, and `summary.json`."""
    built, config = trainer.built, trainer.config
    figures = measure(trainer)
    picture(trainer, folder / "samples" / "final.png")
    if not processes.first():
        return figures
    summary = {"step": trainer.step, **figures}
    write_json(folder / "summary.json", summary)
    title = f"features on {built.dataset.name}, {config.steps} steps"
    print_table(title, tuple(figures), [figures])
    use = f"open them with apps.train --plugin.features {folder}, or apps.eval --features {folder}"
    if config.task == "autoencoder":
        use = f"encode images with apps.latents --vae {folder}"
    console.print(use)
    return figures


def measure(trainer: Training) -> dict[str, float]:
    """The loss and, for a classifier, the accuracy on the examples that were left out."""
    data, objective = trainer.built.held_out, trainer.built.objective
    index = np.arange(min(len(data), MOST_MEASURED))
    x = data.decode(data.take(index))
    label = None if data.labels is None else jnp.asarray(data.labels[index])
    players, key = trainer.averaged(), jr.key(0)
    step = jnp.zeros((), jnp.int32)
    found = eqx.filter_jit(objective)(players, players, None, Batch(x, label), key, step)[2]
    return {"n": len(index), **{name: float(value) for name, value in found.items()}}


def picture(trainer: Training, path: Path) -> None:
    """Images, the same with patches hidden, and what is filled in; of an autoencoder of latents
    images and what comes back; nothing for a classifier."""
    built, model = trainer.built, trainer.averaged()["model"]
    objective = built.objective
    if not processes.first():
        return
    if isinstance(model, VAE):
        reconstructions(built.held_out, model, path)
        return
    if not (isinstance(model, Autoencoder) and isinstance(objective, MaskedReconstruction)):
        return
    data = built.held_out
    x = data.decode(data.take(np.arange(min(len(data), SHOWN))))
    keys = jr.split(jr.key(0), len(x))
    masks = jax.vmap(lambda key: objective.mask(data.shape, key))(keys)
    hidden = jax.vmap(objective.hide)(x, masks)
    filled = jnp.where(masks, jax.vmap(model)(hidden), x)
    rows = [np.asarray(part) for part in (x, hidden, filled)]
    path.parent.mkdir(parents=True, exist_ok=True)
    from core.report.pictures import image_grid  # with Matplotlib

    image_grid(
        data.encode(np.concatenate(rows)),
        len(rows),
        len(x),
        path,
        row_titles=["left out of training", "hidden", "filled in"],
    )


def reconstructions(data: Dataset, model: VAE, path: Path) -> None:
    """Writes images that were left out, and what comes back of the means of their posteriors."""
    x = data.decode(data.take(np.arange(min(len(data), SHOWN))))
    back = eqx.filter_jit(jax.vmap(lambda one: model.decode(model.encode(one)[0])))(x)
    path.parent.mkdir(parents=True, exist_ok=True)
    from core.report.pictures import image_grid  # with Matplotlib

    rows = np.concatenate([np.asarray(x), np.asarray(back)])
    titles = ["left out of training", "from its latent"]
    image_grid(data.encode(rows), 2, len(x), path, row_titles=titles)


if __name__ == "__main__":
    launch(main)
