"""50,000 samples, as papers take: in bounded memory, and of one draw though it was killed."""

import json
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import jax.random as jr
import numpy as np
import pytest

import portolan as po
from core.metrics import frechet_distance, statistics
from core.report.evaluation import labels_like
from core.sampling import SAMPLERS, drawing_of, generate
from portolan.runs import SHIPPED
from tests.apps.conftest import ROOT

N, MOST = 50_000, 2 * 2**30
PROGRAM = """
    import resource, sys
    from apps.eval import main
    main(sys.argv[1:])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
"""The command, which prints in the end the most memory that it had."""


def command(*flags):
    words = [sys.executable, "-c", textwrap.dedent(PROGRAM), *map(str, flags)]
    return subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def pieces(folder):
    return sorted(folder.glob("eval/*/samples-*.npy"))


@pytest.mark.long
def test_50_000_samples_in_bounded_memory_killed_and_resumed(tmp_path):
    run = shutil.copytree(SHIPPED / "digits", tmp_path / "run")
    flags = ["--run", run, "--n", N, "--nfe", 1, "--seed", 3]
    first = command(*flags)
    while len(pieces(run)) < 20:
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    written = {file: file.stat().st_mtime_ns for file in pieces(run)}
    assert 20 <= len(written) < 49 and not (run / "eval.json").exists()

    second = command(*flags)
    out, _ = second.communicate()
    assert second.returncode == 0
    assert int(out) < MOST
    files = pieces(run)
    assert len(files) == 49 and len({file.parent for file in files}) == 1
    assert all(file.stat().st_mtime_ns == then for file, then in written.items())

    model = po.open(run)
    labels = labels_like(model.dataset(), N)
    drawing = drawing_of(SAMPLERS[model.sampler], model.flow_map.path, 1)
    at_once = generate(model.flow_map, drawing, model.spec.shape, labels, key=jr.key(3)).x
    assert np.array_equal(np.concatenate([np.load(file) for file in files]), at_once)

    numbers = json.loads((run / "eval.json").read_text())["numbers"]
    kid = next(one for one in numbers if one["metric"] == "kid")
    assert (kid["n"], kid["subsets"], kid["subset_size"]) == (N, 100, 898)
    frechet = next(one for one in numbers if one["metric"] == "frechet")
    assert (frechet["n"], frechet["title"]) == (N, "FD (pixels)")
    reference = np.asarray(model.dataset().decode(model.dataset().examples)).reshape(-1, 64)
    exact = frechet_distance(statistics(at_once.reshape(N, -1)), statistics(reference))
    assert frechet["value"] == pytest.approx(exact, rel=1e-10)
