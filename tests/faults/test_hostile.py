"""A run folder made by somebody else: opened by every command, nothing of its code runs, and
nothing is written outside of it."""

import hashlib
import json
import os
import shutil
import sys

import pytest

from apps import eval as eval_app
from apps import export as export_app
from apps import sample as sample_app
from apps import tilt as tilt_app
from apps import train as train_app
from core import trust
from core.errors import UserError
from core.steering.own import load_function
from core.steering.registry import RewardContext, make_reward
from core.train import toml
from tests.apps.conftest import POINTS
from tests.train.runs import make_run

pytestmark = pytest.mark.programs(150)  # runs are built, saved and opened

NAME = "python:gift_payload:f"


@pytest.fixture(autouse=True)
def forgetful():
    """What one test opens and types the next does not know."""
    yield
    trust._found.clear()
    trust._typed.clear()
    trust.trust_files(False)


@pytest.fixture
def payload(tmp_path, monkeypatch):
    """A module that leaves a mark when it is imported."""
    (tmp_path / "gift_payload.py").write_text(
        "import pathlib\n"
        f"pathlib.Path({str(tmp_path / 'executed')!r}).write_text('x')\n"
        "def f(x):\n    return x.sum()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "gift_payload", raising=False)
    yield tmp_path / "executed"
    sys.modules.pop("gift_payload", None)


def opened(tmp_path, tree):
    path = tmp_path / "config.toml"
    path.write_text(f'[plugin]\nreward = "{tree}"\n')
    return toml.read(path)


def test_code_of_a_file_does_not_run_and_is_named(tmp_path, payload):
    opened(tmp_path, NAME)
    with pytest.raises(UserError, match=r"config.toml asks to run code, python:gift_payload:f"):
        load_function("gift_payload:f")
    assert not payload.exists()


@pytest.mark.parametrize("words", [["--reward", NAME], [f"--plugin.reward={NAME}"]])
def test_code_that_the_user_types_runs(tmp_path, payload, words):
    opened(tmp_path, NAME)
    trust.typed(words)
    load_function("gift_payload:f")
    assert payload.exists()


def test_code_runs_with_trust(tmp_path, payload):
    opened(tmp_path, NAME)
    trust.trust_files()
    load_function("gift_payload:f")
    assert payload.exists()


def test_code_of_a_numpy_reward_does_not_run(tmp_path, payload):
    opened(tmp_path, NAME.replace("python", "numpy"))
    with pytest.raises(UserError, match=r"asks to run code, numpy:gift_payload:f"):
        make_reward(("numpy:gift_payload:f",), (), RewardContext((2,)))
    assert not payload.exists()


def test_code_that_does_not_import_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "gift_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match="names no function"):
        load_function("gift_broken:f")


COMMANDS = {
    "sample": (sample_app.main, ["--n", "4"]),
    "eval": (eval_app.main, ["--n", "16", "--nfe", "1"]),
    "export": (export_app.main, []),
    "tilt": (tilt_app.main, ["--n", "4", "--islands", "2", "--reward", "linear"]),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile") / "run"
    make_run(folder, "--plugin", "rwmf", *POINTS[2:])
    config = folder / "config.toml"
    config.write_text(config.read_text().replace('reward = "linear"', f'reward = "{NAME}"'))
    assert NAME in config.read_text()
    return folder


@pytest.fixture
def gift(run, tmp_path):
    return shutil.copytree(run, tmp_path / "run")


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_runs_the_code_of_a_run(command, gift, payload):
    main, flags = COMMANDS[command]
    main(["--run", str(gift), *flags])  # the reward is of training: samples need none
    assert not payload.exists()


def test_training_on_with_a_gift_asks_first(gift, payload):
    again = ["--config", str(gift / "config.toml"), "--run", str(gift)]
    with pytest.raises(UserError, match="asks to run code, python:gift_payload:f"):
        train_app.main(again)
    assert not payload.exists()


def digest(folder):
    return {
        file: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


LINKS = ["eval.json", "summary.json", "samples", "samples/a.png", "tilt", "export", "checkpoints"]


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("command", ["sample", "eval", "export", "tilt", "train", "restart"])
def test_nothing_is_written_through_a_link(link, command, gift, tmp_path):
    outside = tmp_path / "outside"
    (outside / "8").mkdir(parents=True)
    (outside / "precious").write_text("precious")
    inner = gift / link
    shutil.rmtree(inner) if inner.is_dir() else inner.unlink(missing_ok=True)
    inner.parent.mkdir(exist_ok=True)
    inner.symlink_to(outside / "precious" if "." in link else outside)
    before = digest(outside)
    main, flags = COMMANDS.get(command, (train_app.main, [*POINTS, "--plugin", "rwmf"]))
    flags = [*flags, "--restart"] if command == "restart" else flags
    with pytest.raises(UserError, match="is a link that leads out of"):
        main(["--run", str(gift), *flags])
    assert digest(outside) == before and sorted(os.listdir(outside)) == ["8", "precious"]


@pytest.mark.parametrize(
    "text",
    [
        "restart = true",
        "run = 'elsewhere'",
        "coordinator = 'evil:1'",
        "help = true",
        "h = true",
        "json = true",
        "dry-run = true",
        "dry_run = true",
        "extend = true",
        "trust = true",
        "no_trust = true",
        "wandb = 'online'",
        "[cluster]\ncoordinator = 'evil:1'",
        "evals = [1, '--restart']",
        "teacher = '--trust'",
        "'restart=true' = 1",
        "'-h' = 1",
        "[optim]\n'rate 1 --restart' = 1",
        "[[optim]]\nrate = 1",
    ],
)
def test_a_file_says_nothing_that_only_a_command_line_may(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(UserError, match="c.toml: "):
        train_app.main(["--config", "c.toml"])
    assert os.listdir(tmp_path) == ["c.toml"]


def test_a_config_file_of_an_old_run_still_says_that_nothing_is_logged(tmp_path):
    toml.check_flags({"wandb": "off", "steps": 3, "optim": {"rate": -1.0}}, "c.toml")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"


def test_a_picture_of_another_format_starts_nothing(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr("subprocess.Popen", lambda *a, **k: started.append(a))
    monkeypatch.setattr("os.system", lambda *a: started.append(a))
    (tmp_path / "a.png").write_bytes(EPS)
    from core.data.picture import read_image

    with pytest.raises(UserError, match="not a readable image"):
        read_image(tmp_path / "a.png", 0, False)
    assert started == []


def test_a_picture_that_needs_another_program_would_be_opened_without_the_list(tmp_path):
    """The control of the test above: Pillow does take the file for a picture."""
    from PIL import Image

    (tmp_path / "a.png").write_bytes(EPS)
    with Image.open(tmp_path / "a.png") as opened:
        assert opened.format == "EPS"


def test_variants_of_a_comparison_name_no_code(tmp_path, payload):
    from apps._compare.settings import CompareConfig

    path = tmp_path / "v.toml"
    path.write_text(f'[a.plugin]\nname = "rwmf"\nreward = "{NAME}"\n')
    with pytest.raises(UserError, match="asks to run code"):
        CompareConfig(variants=str(path)).entries()
    path.write_text('[a]\nrestart = true\n[a.plugin]\nname = "rwmf"\n')
    with pytest.raises(UserError, match="command line only"):
        CompareConfig(variants=str(path)).entries()


def test_a_comparison_keeps_what_is_compiled_in_the_users_cache(tmp_path, monkeypatch):
    from apps._compare import pool
    from apps._compare.plan import Job
    from portolan.signals import StopRequest

    show = "import os; print(os.environ.get('JAX_COMPILATION_CACHE_DIR'))"
    monkeypatch.setattr(pool, "_command", lambda path: [sys.executable, "-c", show])
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    common = {"flags": [], "config": {}, "shared": {}, "nfe": [1], "n": 0, "steps": 1}
    job = Job(what="run", name="a", label="a", folder=str(tmp_path / "a"), **common)
    with StopRequest() as stop:
        pool.run_jobs([job], 1, stop, lambda job, bad: None, lambda running: None)
    assert (tmp_path / "a" / "log.txt").read_text() == "None\n"
    assert sorted(os.listdir(tmp_path)) == ["a"]
    assert json.loads((tmp_path / "a" / "job.json").read_text())["name"] == "a"
