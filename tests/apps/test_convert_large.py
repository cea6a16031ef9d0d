"""A file of 675 million numbers is converted and sampled within the memory of a small machine."""

import json
import os
import subprocess
import sys
import textwrap
import zipfile
from math import prod
from pathlib import Path

import numpy as np
import pytest

from tests.tensors.torch_files import PROTO, STOP, Row, Writer, ordered

ROOT = Path(__file__).parents[2]
WIDTH, DEPTH, PATCH, CHANNELS, SIDE, CLASSES, FEATURES = 1152, 28, 2, 4, 32, 1000, 256
PARAMETERS = 674_834_720  # DiT (arXiv 2212.09748), XL/2 with a learned variance, without positions
MOST = 12 * 2**30


def shapes():
    """The keys of DiT-XL/2."""

    def dense(name, out, size):
        return {f"{name}.weight": (out, size), f"{name}.bias": (out,)}

    found = {
        "pos_embed": (1, (SIDE // PATCH) ** 2, WIDTH),
        "x_embedder.proj.weight": (WIDTH, CHANNELS, PATCH, PATCH),
        "x_embedder.proj.bias": (WIDTH,),
        "y_embedder.embedding_table.weight": (CLASSES + 1, WIDTH),
    }
    found |= dense("t_embedder.mlp.0", WIDTH, FEATURES) | dense("t_embedder.mlp.2", WIDTH, WIDTH)
    for i in range(DEPTH):
        name = f"blocks.{i}."
        found |= dense(f"{name}attn.qkv", 3 * WIDTH, WIDTH)
        found |= dense(f"{name}attn.proj", WIDTH, WIDTH)
        found |= dense(f"{name}mlp.fc1", 4 * WIDTH, WIDTH)
        found |= dense(f"{name}mlp.fc2", WIDTH, 4 * WIDTH)
        found |= dense(f"{name}adaLN_modulation.1", 6 * WIDTH, WIDTH)
    found |= dense("final_layer.linear", PATCH**2 * 2 * CHANNELS, WIDTH)
    return found | dense("final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)


def write(path):
    """A file of torch with random numbers, one tensor in memory at a time."""
    writer, places = Writer(), {}
    for name, shape in shapes().items():
        key = writer.add(Row("float32", b"", prod(shape)))
        stride = tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))
        places[name] = key, writer.part(key, 0, shape, stride)
    pickle = PROTO + ordered(**{name: part for name, (_, part) in places.items()}) + STOP
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle)
        archive.writestr("a/byteorder", "little")
        for name, shape in shapes().items():
            values = 0.7 * rng.standard_normal(prod(shape), np.float32) / shape[-1] ** 0.5
            with archive.open(f"a/data/{places[name][0]}", "w", force_zip64=True) as stream:
                stream.write(values.tobytes())


CONVERT = """
    import json, resource, sys
    from apps import convert

    said = convert.main(["--file", "DiT-XL-2-256x256.pt", "--out", "teacher", "--check", "--json"])
    said["peak"] = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps(said))
"""
SAMPLE = """
    import json, resource
    import equinox as eqx, jax, jax.random as jr, numpy as np
    from core.flow.condition import Condition
    from core.models import open_model

    opened = open_model("teacher")
    path, label = opened.path, np.int32(207)

    @eqx.filter_jit
    def draw(flow_map, x):
        times = path.time_of_unit(jax.numpy.linspace(path.unit_time(path.t_max), 0, 3))
        for s, t in zip(times, times[1:]):
            x = flow_map(x, s, t, Condition(label))
        return x

    x = path.prior(jr.key(0), opened.spec.shape)
    found = np.asarray(draw(opened.flow_map, x))
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"finite": bool(np.isfinite(found).all()), "peak": peak}))
"""


def child(program, folder):
    """What a process of its own prints last, as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.long
def test_a_network_of_675_million_numbers_stays_below_12_gibibytes(tmp_path):
    write(tmp_path / "DiT-XL-2-256x256.pt")
    said = child(CONVERT, tmp_path)
    assert (said["title"], said["numbers"]) == ("DiT-XL/2", PARAMETERS)
    drawn = child(SAMPLE, tmp_path)
    print({"converting": said["peak"] / 2**30, "sampling": drawn["peak"] / 2**30})
    assert drawn["finite"] and max(said["peak"], drawn["peak"]) < MOST
