"""Samples and their pictures, of any model."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax.random as jr
import numpy as np
from jaxtyping import Float, Int

from core.data.arrays import ArraysData
from core.data.dataset import Dataset
from core.data.labels import class_number
from core.data.starts import start_values
from core.errors import UserError, pick, require
from core.flow.field import VelocityField
from core.flow.teacher import Guided
from core.report.gallery import draw_blocks, grid_labels
from core.sampling import (
    SAMPLERS,
    Drawing,
    Grid,
    Sampler,
    Samples,
    at_units,
    check_sampler,
    generate,
)
from portolan.model import Model
from portolan.pictures import Picture, Strings, drawn

IMAGES, POINTS = 80, 2000
"""Samples of a picture."""

Labels = Int[np.ndarray, " n"] | int
"""One a sample, or the number of samples where there are no classes."""
_HAD = {
    "coupled": "noise that goes with the data (apps.train --coupling)",
    "none": "data in its place",
}


def draw(
    model: Model,
    drawing: Drawing,
    labels: Labels,
    *,
    channels: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
    batch: int = 256,
) -> Samples:
    """Samples with these labels, from where the drawing starts, or from the model's own source;
    guidance is of the first `channels` where they are given; `batch` as in `generate`.

    Raises `UserError` where the model cannot be guided as asked, and where its source is not at
    hand.
    """
    guided = drawing.guidance is not None
    field = guided_map(model, [drawing.sampler], channels) if guided else model.flow_map
    if drawing.starts is None:
        drawing = dataclasses.replace(drawing, starts=starts_of(model, number(labels), seed))
    return generate(
        field, drawing, model.spec.shape, labels, key=jr.key(seed), progress=progress, batch=batch
    )


def starts_of(
    model: Model, n: int, seed: int, file: str | None = None
) -> Float[np.ndarray, " m *shape"] | None:
    """The values that `n` samples start from: the examples of a file, the first first, or some of
    the model's own source, in a random order of this seed; None where they start from noise."""
    if file is not None:
        found = from_file(model, file)
        return np.asarray(found.decode(found.take(np.arange(min(len(found), n)))))
    source = model.source()
    return None if source is None else start_values(source, n, seed)


def number(labels: Labels) -> int:
    """How many samples there are."""
    return labels if isinstance(labels, int) else len(labels)


def from_file(model: Model, file: str) -> Dataset:
    """The examples of an .npz or .npy file, to start samples from: bytes of images, or values in
    the units of the run's own source, as `apps.sample` writes them. Raises `UserError` where there
    are none, where they do not fit the model, and where that starts from noise."""
    require(
        model.abilities.noise == "none",
        f"{model.name} starts from noise, not from examples: leave out --from, or train a run with "
        "apps.train --source",
    )
    try:
        found = ArraysData(file, values="signed").load()
    except UserError as error:
        raise UserError(str(error).replace("--data.path", "--from")) from None
    shape = model.spec.shape
    require(found.shape == shape, f"--from {file}: examples of shape {found.shape}, not {shape}")
    spec = model.source_spec()
    return found if spec is None or found.levels else dataclasses.replace(found, scale=spec.scale)


def draw_as_asked(
    model: Model,
    labels: Labels,
    *,
    steps: int,
    times: Sequence[float],
    sampler: str | Sampler | None,
    guidance: float | None,
    seed: int,
    start: Float[np.ndarray, " n *shape"] | None = None,
) -> Samples:
    """Samples with these labels; see `Model.sample`."""
    require(steps >= 1 and seed >= 0, "steps must be at least 1 and seed at least 0")
    require(guidance is None or guidance >= 1, f"guidance must be at least 1, got {guidance}")
    name, chosen = choose(model, sampler)
    stops = times_of(model, name, chosen, steps, model.grid, tuple(times))
    scale = None if guidance is None else (guidance, 0.0, 1.0)
    if start is not None:
        wanted = (number(labels), *model.spec.shape)
        require(np.shape(start) == wanted, f"start has shape {np.shape(start)}, not {wanted}")
        start = np.asarray(start, np.float32)
    return draw(model, Drawing(chosen, stops, scale, start), labels, seed=seed)


def times_of(
    model: Model, name: str, sampler: Sampler, steps: int, grid: Grid, times: tuple[float, ...]
) -> Float[np.ndarray, " nodes"]:
    """The times at which a sampler stops: those given, from 1 to 0, or `steps` of a grid.

    Raises `UserError` for requests that the model does not serve.
    """
    most = check(model, name, sampler)
    if most is not None and (len(times) - 1 if times else steps) > most:
        raise UserError(f"{model.name} jumps from noise only: --steps is at most {most}")
    path = model.flow_map.path
    return at_units(path, times) if times else grid(path, steps)


def choose(model: Model, sampler: str | Sampler | None) -> tuple[str, Sampler]:
    """A sampler by name or as it is, with its name; by default the model's own."""
    if isinstance(sampler, Sampler):
        return type(sampler).__name__, sampler
    name = sampler or model.sampler
    return name, pick(SAMPLERS, name, "sampler")


def check(model: Model, name: str, sampler: Sampler) -> int | None:
    """Raises `UserError` where the model does not serve the sampler.

    Returns the most evaluations that mean something, for a map that starts at noise only.
    """
    check_sampler(name, sampler, model.flow_map, SAMPLERS[model.sampler])
    if model.abilities.noise != "independent" and sampler.draws_noise(2):
        raise UserError(
            f"the sampler {name!r} adds noise on its way, which keeps the marginals only where "
            f"training had independent noise, and {model.name} had {_HAD[model.abilities.noise]}; "
            f"use --sampler {model.sampler}"
        )
    most = model.abilities.most_nfe
    if most is not None and sampler.needs == "velocity":
        raise UserError(
            f"{model.name} has learned jumps that start at noise, which the sampler "
            f"{name!r} does not use; use --sampler {model.sampler}"
        )
    return most


def guided_map(
    model: Model, samplers: Sequence[Sampler], channels: int | None = None
) -> VelocityField:
    """The map with classifier-free guidance at sampling time, of the first `channels` alone where a
    number is given; or as it is where it has learned guidance. Raises `UserError` where guidance is
    impossible."""
    noise = model.abilities.noise
    require(
        noise == "independent",
        f"guidance takes velocities for scores, which they are only where training had independent "
        f"noise, and {model.name} had {_HAD.get(noise)}; leave guidance out",
    )
    if model.abilities.guidance:
        require(
            channels is None,
            f"{model.name} has learned guidance of all channels: leave out --guidance-channels",
        )
        return model.flow_map
    require(
        model.spec.num_classes > 0,
        f"guidance goes by labels, and {model.name} was trained without them; leave guidance out",
    )
    require(
        all(sampler.needs == "velocity" for sampler in samplers),
        f"{model.name} has not learned guidance, so its jumps have none: train by apps.train with "
        "--plugin.guidance.most 8, or name a --sampler that follows the velocity, such as heun",
    )
    require(
        model.abilities.null,
        f"{model.name} was never trained without labels: leave out --guidance, or train one by "
        "apps.train --plugin.label-drop 0.1",
    )
    return Guided(model.flow_map, None, model.spec.num_classes, channels=channels)


def labels_of(model: Model, n: int, label: str | int | np.ndarray | None) -> Labels:
    """The labels of `n` samples: those given, or the classes in turn."""
    classes = model.spec.num_classes
    require(n >= 1, f"n must be at least 1, got {n}")
    if label is None:
        return np.arange(n, dtype=np.int32) % classes if classes else n
    if isinstance(label, str) or np.ndim(label) == 0:
        asked = label if isinstance(label, str) else int(label)
        return np.full(n, class_number(model.spec, asked, model.name), np.int32)
    given = np.asarray(label)
    what = f"classes 0 to {classes - 1}" if classes else "no classes"
    require(len(given) == n, f"{len(given)} labels for {n} samples; give one, or one a sample")
    bad = [int(one) for one in given if not 0 <= one < classes]
    require(not bad, f"label {bad[:1] and bad[0]}: {model.name} has {what}")
    return given.astype(np.int32)


def picture(
    model: Model, n: int | None, label: str | int | np.ndarray | None, **how: Any
) -> Picture | Strings:
    """A picture of samples; see `Model.show`."""
    points = model.spec.kind == "points"
    n = n or (POINTS if points else IMAGES)
    labels = labels_of(model, n, label)
    if label is None and model.spec.num_classes and not points:
        labels = np.resize(grid_labels(model.spec.num_classes, 1), n)  # one column a class
    samples = draw_as_asked(model, labels, **how)
    name, _ = choose(model, how.get("sampler"))
    title = f"{name}, {samples.nfe} {'evaluation' if samples.nfe == 1 else 'evaluations'}"
    spec = model.spec if label is None else dataclasses.replace(model.spec, num_classes=0)
    beside = model.data_beside()
    return drawn(lambda path: draw_blocks(spec, [samples.x], path, title, [], beside))
