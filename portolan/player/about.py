"""What a page that is played without a server knows of its run."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from core.errors import UserError, require
from core.export.function import SamplerFunction
from core.flow.path import Path as GaussianPath
from portolan.stored import Stored
from portolan.studio.about import describe
from portolan.studio.session import Opened

MOST_STEPS = 16
SPACES = ("", "sphere", "torus")
JUMPS = "pushforward"


def check_playable(run: Stored) -> None:
    """Raises `UserError` for samples that the page cannot draw."""
    spec = run.spec
    flat, image = spec.kind == "points" and spec.space == "", spec.kind == "image"
    wrong = {
        "latents": bool(spec.codec),
        "series": spec.kind == "series",
        f"points of {spec.shape[0]} numbers": flat and spec.shape != (2,),
        f"images of {spec.shape[-1]} channels": image and spec.shape[-1] not in (1, 3),
        f"points of {spec.space}": spec.space not in SPACES,
        f"points of a {spec.space} of {spec.shape[0]} numbers": spec.space == "sphere"
        and spec.shape != (3,),
    }
    for words, holds in wrong.items():
        require(not holds, f"the page draws no {words}; use --format onnx")
    path = run.flow_map.path
    known = isinstance(path, GaussianPath) or spec.space in SPACES[1:]
    require(known, f"the page does not know the noise of {path.space.name}; use --format onnx")


def about_page(
    run: Stored, function: SamplerFunction, name: str, guidance: float | None, jumps: bool
) -> dict[str, Any]:
    """What the panel Sample needs, as plain values: that of the studio, for one sampler, without
    examples of the data; and how the graph is run. Raises `UserError` where it cannot be drawn."""
    check_playable(run)
    opened = Opened(0, run.folder.resolve().name, run.folder)
    opened.__dict__["model"] = run
    said = dict(describe(opened).said)
    (own,) = [each for each in said["samplers"] if each["name"] == name] or [None]
    if own is None:
        raise UserError(f"the page does not know the sampler {name!r}; use --sampler {JUMPS}")
    words = "" if guidance is not None else "The graph has no guidance."
    said |= {"samplers": [{**own, "no_guidance": words}], "sampler": name, "arrays": {}}
    said |= {"guided": guidance is not None, "guidance": guidance}
    said |= {"span": run.spec.scale.span, "start": 1.0, "nfe": function.evaluations()}
    said |= {"centre": [*run.spec.scale.centre], "spread": [*run.spec.scale.spread]}
    said |= {"vocabulary": [*run.spec.vocabulary], "end": run.spec.end, "utf8": run.spec.utf8}
    title, parameters = said["title"], f"{said['parameters']:,} parameters"
    said |= {"words": " · ".join([title, said["examples"], parameters, said["path"]])}
    most = min(MOST_STEPS, said["most_steps"]) if jumps else 1
    if jumps:
        said |= _times(run, function, most)
    return said | {"most_steps": most}


def _times(run: Stored, function: SamplerFunction, most: int) -> dict[str, Any]:
    """The times of each number of steps, and the factor from standard noise to the first state."""
    path = run.flow_map.path
    grids = [np.asarray(run.grid(path, steps), float).tolist() for steps in range(1, most + 1)]
    start = 1.0
    if isinstance(path, GaussianPath):
        start = float(path.start(jnp.full(1, path.noise_std), grids[0][0])[0])
    return {"grids": grids, "start": start, "each": function.field.evaluations}
