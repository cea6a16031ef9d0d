"""What `apps.export --format onnx` writes: a graph that says what it is, and a script for it."""

from pathlib import Path
from typing import Any

from core.errors import UserError, require
from core.export.function import SamplerFunction
from core.export.onnx_example import example
from core.export.onnx_file import Function, check_function, check_installed, difference, to_onnx
from core.files import write_bytes, write_text
from portolan import __version__
from portolan.stored import Stored
from portolan.tables import console

MODEL, EXAMPLE = "sampler.onnx", "example.py"
BOUND = {"float32": 1e-4, "bfloat16": 0.05}
"""Largest difference from JAX, over the largest value or 1, of a file that is written. In float32
it is some 1e-6; a network that computes in bfloat16 does so in float32 in the file."""


def write_onnx(
    function: SamplerFunction,
    run: Stored,
    name: str,
    guidance: float | None,
    interval: tuple[float, float],
    *,
    out: str | None,
    check: bool,
) -> dict[str, Any]:
    """Writes the folder and returns what the command prints as JSON. Raises `UserError` where the
    sampler cannot be converted, and, with nothing written, where onnxruntime does not make of the
    file what JAX makes of the sampler."""
    folder = Path(out or Path(run.folder) / "onnx")
    about = metadata(function, run, name, guidance, interval)
    content, found = converted(function, run, name, guidance, about, check=check)
    try:
        write_bytes(folder / MODEL, content)
        write_text(folder / EXAMPLE, example(function, 1.0 if guidance is None else guidance))
    except OSError as error:
        raise UserError(f"cannot write {folder} ({error.strerror}); choose another --out") from None
    sizes = {file: (folder / file).stat().st_size for file in (MODEL, EXAMPLE)}
    listed = [f"{file} {size:,} bytes" for file, size in sizes.items()]
    console.print(f"{name}, evaluations a sample: {function.evaluations()}")
    console.print(f"wrote {folder}: {', '.join(listed)}")
    result = {"run": str(run.folder), "step": run.step, "out": str(folder), "bytes": sizes}
    result |= {key: about[key] for key in ("sampler", "steps", "evaluations")}
    return result | {"inputs": list(function.inputs)} | found


def write_web(
    function: SamplerFunction,
    run: Stored,
    name: str,
    guidance: float | None,
    interval: tuple[float, float],
    *,
    out: str | None,
    check: bool,
    ort: str | None,
) -> dict[str, Any]:
    """Writes the folder of a page that plays the run, as `write_onnx` writes a file."""
    from portolan.player.about import JUMPS, about_page
    from portolan.player.page import graph_of, write_page
    from portolan.player.runtime import VERSION, runtime

    folder, jumps = Path(out or Path(run.folder) / "web"), name == JUMPS
    about = about_page(run, function, name, guidance, jumps)
    graph = graph_of(function, jumps)
    said = metadata(function, run, name, guidance, interval)
    said |= {"inputs": {key: item.meaning for key, item in graph.inputs.items()}}
    if jumps:  # the graph is one jump
        said = {key: said[key] for key in said if key not in ("steps", "times", "evaluations")}
    content, found = converted(graph, run, name, guidance, said, check=check)
    if ort is None:
        console.print(f"npm fetches onnxruntime-web {VERSION}, 33 MB; --ort DIR takes a copy")
    sizes = write_page(folder, content, about, runtime(ort))
    console.print(f"wrote {folder}, {sum(sizes.values()):,} bytes: open {folder / 'index.html'}")
    result = {"run": str(run.folder), "step": run.step, "out": str(folder), "bytes": sizes}
    return result | {"sampler": name, "most_steps": about["most_steps"]} | found


def converted(
    function: Function,
    run: Stored,
    name: str,
    guidance: float | None,
    about: dict[str, Any],
    *,
    check: bool,
) -> tuple[bytes, dict[str, Any]]:
    """The file of a sampler, and how far it is from JAX. Raises `UserError` as `write_onnx`."""
    check_installed()
    check_function(function, name)
    content = to_onnx(function, about)
    if not check:
        return content, {}
    far, largest = difference(content, function, guidance)
    bound = BOUND.get(getattr(run.net_flags, "dtype", "float32"), BOUND["float32"])
    console.print(f"largest difference of onnxruntime from JAX on fresh noise {far:.1e}")
    require(
        far <= bound * max(1.0, largest),
        f"onnxruntime's samples differ from JAX's by {far:.1e}, more than {bound:g} of the largest "
        "value, so nothing was written; use --format jax",
    )
    return content, {"difference": far, "equal": True}


def metadata(
    function: SamplerFunction,
    run: Stored,
    name: str,
    guidance: float | None,
    interval: tuple[float, float],
) -> dict[str, Any]:
    """What a graph says of itself: no path and no flag of the training."""
    data, about = run.spec, run.about()
    config, model = about.get("config", {}), about.get("model", {})
    found: dict[str, Any] = {"portolan": __version__, "run": Path(run.folder).resolve().name}
    found |= {"method": config.get("plugin", {}).get("name", ""), "step": run.step}
    found |= {key: model[key] for key in ("title", "licence") if model.get(key)}
    found |= {"data": data.name, "kind": data.kind, "space": data.space}
    found |= {"shape": list(function.output_shape), "noise_shape": list(function.shape)}
    found |= {"range": [-1, 1] if data.kind == "image" and not data.scale else None}
    found |= {"classes": function.num_classes, "class_names": list(data.class_names)}
    if data.kind == "tokens":
        found |= {"vocabulary": list(data.vocabulary), "end": data.end, "utf8": data.utf8}
    found |= {"sampler": name, "steps": function.steps, "evaluations": function.evaluations()}
    found |= {"times": [float(time) for time in function.times]}
    if guidance is not None:
        found |= {"guidance": guidance, "interval": list(interval)}
    return found | {"inputs": {key: item.meaning for key, item in function.inputs.items()}}
