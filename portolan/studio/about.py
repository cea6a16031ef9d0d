"""What a run is and can do, for the page: its controls depend on it."""

from typing import Any

import equinox as eqx
import jax

from core.data.spaces import words
from core.data.spec import DataSpec
from core.errors import UserError
from core.flow.interpolant import Interpolant
from core.flow.path import Path, path_name
from core.sampling import SAMPLERS
from portolan import drawing
from portolan.model import Model
from portolan.studio.bounds import MOST_STEPS, most_of
from portolan.studio.carrying import knows_exact
from portolan.studio.session import Opened
from portolan.studio.views import Shown, beside, limits, view_of


def describe(run: Opened) -> Shown:
    """The description of a run, with points of its data. Raises `UserError` where its model does
    not open."""
    model = run.model
    spec, abilities = model.spec, model.abilities
    behind = beside(run)
    arrays = jax.tree.leaves(eqx.filter(model.flow_map, eqx.is_inexact_array))
    said = {
        "run": run.number,
        "name": run.name,
        "title": model.title,
        "method": model.name,
        "data": spec.name,
        "kind": spec.kind,
        "space": spec.space,
        "shape": list(spec.shape),
        "view": view_of(spec),
        "step": model.step,
        "parameters": int(sum(leaf.size for leaf in arrays)),
        "path": words_of(model.flow_map.path),
        "examples": examples_of(spec),
        "classes": list(spec.class_names) or [str(k) for k in range(spec.num_classes)],
        "samplers": samplers_of(model),
        "sampler": model.sampler,
        "most_n": most_of(model),
        "most_steps": abilities.most_nfe or MOST_STEPS,
        "two_times": model.flow_map.two_times and abilities.most_nfe is None,
        "noise": abilities.noise,
        "all_classes": abilities.all_classes,
        "exact": knows_exact(model),
    }
    if "points" in behind.arrays and view_of(spec) == "plane":
        said["limits"] = limits(behind.arrays["points"])
    return Shown(behind.arrays, said)


def examples_of(spec: DataSpec) -> str:
    """What examples are, in words."""
    size = " × ".join(map(str, spec.shape))
    if spec.kind == "tokens":
        return f"texts of {spec.shape[0]} out of {spec.shape[1]} symbols"
    if spec.space:
        return f"points on {words(spec.space)}"
    return f"points of {size} numbers" if spec.kind == "points" else f"{spec.kind} {size}"


def words_of(path: Interpolant) -> str:
    """The path in words."""
    return f"{path_name(path)} path" if isinstance(path, Path) else "along geodesics"


def samplers_of(model: Model) -> list[dict[str, Any]]:
    """The samplers that serve a map, the need of each, and whether it can be guided there, with
    the reason where it cannot."""
    found = []
    for name, sampler in SAMPLERS.items():
        try:
            drawing.check(model, name, sampler)
        except UserError:
            continue
        reason = ""
        try:
            drawing.guided_map(model, [sampler])
        except UserError as error:
            reason = str(error)
        noisy = sampler.draws_noise(2)
        found.append({"name": name, "needs": sampler.needs, "noisy": noisy, "no_guidance": reason})
    return found
