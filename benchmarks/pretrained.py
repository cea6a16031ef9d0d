"""From a published network to one step, on digits: `python -m benchmarks.pretrained`.

A small SiT is trained by flow matching and saved as its authors save theirs. From then on it is
somebody else's file: converted, sampled, and distilled by several methods that start as it is.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import portolan as po
from apps import convert
from apps._main import launch
from core.errors import require
from core.files import whole
from core.methods.registry import find_plugin
from core.models import is_model
from core.nets.suited import core_of
from core.report.versions import versions
from core.train.cli import parse_flags
from core.train.config import AdapterConfig
from core.train.teachers import build_run
from portolan.runs import Run
from portolan.tables import console, markdown, print_table, save

SIT = {"name": "official-dit", "times": "s", "clock": "reversed", "positions": "stored"}
SMALL = {"width": 48, "depth": 4, "heads": 4}
EVALUATIONS = (1, 2, 4)
LAYERS: dict[str, tuple[str, ...]] = {"all": AdapterConfig.layers, "qkv": ("*.qkv",)}
"""Which layers adapters change."""


@dataclass(frozen=True)
class PretrainedConfig:
    """Trains a teacher, converts it, distils it, and measures samples against evaluations.

    What is there already is not made again: a stopped command goes on.
    """

    methods: tuple[str, ...] = ("ayf-emd", "lmd", "cd", "sct", "imf")
    """Methods; those that learn from data alone start from the teacher's weights too."""
    adapters: tuple[str, ...] = ("imf",)
    """Methods that train an adapter too, in all layers and in queries, keys and values alone."""
    rank: int = 8
    """Rank of the adapters."""
    steps: int = 2000
    """Training steps of each student."""
    teacher_steps: int = 3000
    """Training steps of the teacher."""
    batch: int = 128
    """Examples in one step."""
    n: int | None = None
    """Samples measured, by default as many as the data."""
    euler: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Euler steps of the teacher."""
    out: str = "runs/pretrained"
    """Folder of the runs, the teacher's file and its model folder."""
    table: str | None = None
    """JSON file to write; the table is written beside it as Markdown."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""


def main(argv: list[str]) -> dict[str, Any] | None:
    """Makes what is missing, measures, and prints the table."""
    config = parse_flags(PretrainedConfig, argv)
    require(min(config.steps, config.teacher_steps) >= 1, "--steps must be at least 1")
    trained = teacher_run(config)
    model = converted(config, trained)
    rows = teacher_rows(config, model, trained)
    for method in config.methods:
        rows += rows_of(config, method, distilled(config, method, model))
    for method in config.adapters:
        for name, layers in LAYERS.items():
            adapter = {"rank": config.rank, "layers": layers}
            run = distilled(config, method, model, f"-{name}", adapter=adapter)
            rows += rows_of(config, f"{method}, rank {config.rank}, {name}", run)
    rows.append({"model": "data", "trained": 0, **floor(config, trained)})
    title = f"A SiT of digits and its students, {config.steps} steps"
    print_table(title, list(rows[0]), rows)
    result = {"steps": config.steps, "teacher_steps": config.teacher_steps, "rows": rows}
    result |= {"batch": config.batch, "versions": versions()}
    if config.table:
        save(config.table, result, markdown(title, list(rows[0]), rows))
    return result if config.json else None


def teacher_run(config: PretrainedConfig) -> Run:
    """The run of flow matching that stands for the training of others."""
    net = {**SIT, **SMALL}
    common: dict[str, Any] = {"batch": config.batch, "sample_every": 0, "save_every": 0}
    folder = Path(config.out) / "fm"
    steps = config.teacher_steps
    plugin = {"label_drop": 0.1}  # so that it can be guided
    return po.train(
        "fm", "digits", run=folder, net=net, plugin=plugin, steps=steps, ema=0.998, **common
    )


def converted(config: PretrainedConfig, run: Run) -> Path:
    """The model folder of the teacher's file."""
    folder, file = Path(config.out) / "sit", Path(config.out) / "sit.safetensors"
    if not is_model(folder):
        write_file(core_of(run.flow_map), file)
        heads = str(SMALL["heads"])
        flags = ["--from", "sit", "--file", str(file), "--heads", heads, "--check"]
        convert.main([*flags, "--out", str(folder)])
    return folder


def write_file(net: Any, file: Path) -> None:
    """An `OfficialDiT` in the names and shapes of SiT's authors."""
    from safetensors.numpy import save

    with whole(file) as stream:
        stream.write(save(sit_arrays(net)))


def sit_arrays(net: Any) -> dict[str, np.ndarray]:
    """The arrays of a network by the keys of SiT's files."""
    patch, width = net.config.patch, net.config.width
    pixels = np.asarray(net.patches.weight).reshape(width, patch, patch, -1)
    embedder = net.conditioning.numbers[0]
    dense = {
        "x_embedder.proj": (pixels.transpose(0, 3, 1, 2), net.patches.bias),
        "t_embedder.mlp.0": (embedder.hidden.weight, embedder.hidden.bias),
        "t_embedder.mlp.2": (embedder.output.weight, embedder.output.bias),
        "final_layer.adaLN_modulation.1": parts(net.readout.modulation),
        "final_layer.linear": parts(net.readout.output),
    }
    names = {"modulation": "adaLN_modulation.1", "qkv": "attn.qkv", "merge": "attn.proj",
             "up": "mlp.fc1", "down": "mlp.fc2"}  # fmt: skip
    for ours, theirs in names.items():
        weights, biases = parts(getattr(net.blocks, ours))
        for layer, pair in enumerate(zip(weights, biases)):
            dense[f"blocks.{layer}.{theirs}"] = pair
    found = {"pos_embed": net.positions[None],
             "y_embedder.embedding_table.weight": net.conditioning.labels}  # fmt: skip
    for name, (weight, bias) in dense.items():
        found |= {f"{name}.weight": weight, f"{name}.bias": bias}
    return {name: np.ascontiguousarray(array, np.float32) for name, array in found.items()}


def parts(dense: Any) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a dense layer."""
    return np.asarray(dense.weight), np.asarray(dense.bias)


def distilled(
    config: PretrainedConfig, method: str, model: Path, suffix: str = "", **more: Any
) -> Run:
    """The student of one method; its network is that of the model folder."""
    console.print(f"{method}{suffix}: {config.steps} steps")
    teacher = model if find_plugin(method).needs_teacher else None
    return po.train(
        method,
        "digits",
        run=Path(config.out) / f"{method}{suffix}",
        teacher=teacher,
        init=model,
        steps=config.steps,
        batch=config.batch,
        optim={"rate": 1e-3},
        ema=0.998,
        sample_every=0,
        save_every=0,
        **more,
    )


def rows_of(config: PretrainedConfig, method: str, run: Run) -> list[dict[str, Any]]:
    """A student's figures by evaluations, and how many numbers it trained."""
    found, trained = run.evaluate(EVALUATIONS, n=config.n), build_run(run.config).num_parameters()
    head = {"model": method, "trained": trained}
    return [{**head, **row} for row in found.rows[:-1]]


def teacher_rows(config: PretrainedConfig, model: Path, run: Run) -> list[dict[str, Any]]:
    """The figures of the converted teacher by Euler steps."""
    opened = po.open(model, data=run.dataset())
    found = opened.evaluate(config.euler, n=config.n)
    return [{"model": "sit, Euler", "trained": 0, **row} for row in found.rows[:-1]]


def floor(config: PretrainedConfig, run: Run) -> dict[str, Any]:
    """The figures of real data against real data."""
    return run.evaluate((1,), n=config.n).rows[-1]


if __name__ == "__main__":
    launch(main)
