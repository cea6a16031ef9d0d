"""Weights & Biases, with a package in its place that writes down what it is asked."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from core.errors import UserError
from core.files import check_links
from core.train.folder import delete_run
from core.train.journal import Journal
from core.train.run import OWN
from core.train.tracking import Tracker, check_tracking


class Recorder:
    """A run there."""

    def __init__(self, started):
        self.started, self.logged, self.summary, self.open = started, [], {}, True

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, values):
        assert self.open
        self.logged.append(values)

    def finish(self):
        self.open = False


@pytest.fixture
def there(monkeypatch):
    """The package: its runs in `runs`; `key` says whether it is logged in."""
    module: Any = types.ModuleType("wandb")
    module.Error, module.runs, module.key, module.fails = RuntimeError, [], True, None
    module.login = lambda prompt: module.key
    module.Image = lambda path: ("image", Path(path).name)
    module.Table = lambda columns, data: ("table", columns, data)

    def init(**how):
        if module.fails:
            raise RuntimeError(module.fails)
        module.runs.append(Recorder(how))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_without_a_key_it_is_one_line_before_anything_is_built(there):
    there.key = False
    with pytest.raises(UserError, match="no API key here: run `wandb login`.* --wandb offline"):
        check_tracking("online")
    check_tracking("offline")
    check_tracking("off")


def test_without_the_package_it_is_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="needs the package wandb; run: pip install wandb"):
        check_tracking("offline")
    check_tracking("off")


def test_what_does_not_start_is_one_line(there, tmp_path):
    there.fails = "no network\nmore"
    with pytest.raises(UserError, match=r"does not start \(no network\); try again, or use"):
        Tracker(tmp_path, "online", {})


def test_a_resumed_run_is_one_run_there_and_a_restarted_one_another(there, tmp_path):
    for start in (0, 2):
        journal = Journal(tmp_path, start, "offline", {"steps": 4})
        journal.write(start + 1, {"loss": 0.5})
        journal.close()
    first, second = there.runs
    assert first.started["id"] == second.started["id"] and first.started["resume"] == "allow"
    assert [run.logged for run in there.runs] == [
        [{"step": 1, "loss": 0.5}],
        [{"step": 3, "loss": 0.5}],
    ]
    assert not first.open and not second.open
    delete_run(tmp_path)
    Tracker(tmp_path, "offline", {})
    assert there.runs[2].started["id"] != first.started["id"]


def test_its_logs_may_be_links_and_its_folder_may_not(tmp_path):
    """The package links its logs to a cache of its own."""
    (tmp_path / "run" / "wandb" / "offline").mkdir(parents=True)
    (tmp_path / "run" / "wandb" / "offline" / "debug.log").symlink_to(tmp_path / "elsewhere")
    check_links(tmp_path / "run", OWN)
    (tmp_path / "run" / "wandb").rename(tmp_path / "outside")
    (tmp_path / "run" / "wandb").symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="a link that leads out"):
        check_links(tmp_path / "run", OWN)


def test_pictures_and_the_closing_table(there, tmp_path):
    (tmp_path / "a.png").touch()
    tracker = Tracker(tmp_path, "offline", {})
    tracker.picture(7, "samples", tmp_path / "a.png")
    tracker.picture(7, "samples", tmp_path / "not drawn.png")
    tracker.table(9, "closing table", [{"nfe": 1, "frechet": 0.25}, {"frechet": 0.1, "n": 5}])
    assert there.runs[0].logged == [
        {"step": 7, "samples": ("image", "a.png")},
        {
            "step": 9,
            "closing table": (
                "table",
                ["nfe", "frechet", "n"],
                [[1, 0.25, None], [None, 0.1, 5]],
            ),
        },
    ]
    assert there.runs[0].summary == {"frechet_1": 0.25}
