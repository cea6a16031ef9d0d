"""The flags of `apps.tune`."""

import math
from dataclasses import dataclass
from typing import Literal

from apps._compare.settings import TAKEN, divided
from core.errors import UserError, require
from core.methods.registry import find_plugin
from core.train.cli import parse_flags

Metric = Literal["auto", "w2", "kl", "map_error", "frechet", "bigram_tv"]


@dataclass(frozen=True)
class TuneConfig:
    """Searches settings with which a method trains well on a data set, at a stated budget.

    Every trial is a run of --budget, trained and measured in a process of its own, and the first
    one has the recipe's settings; Optuna's TPE chooses the others, and stops those which are worse
    than the median at a rung. A search that was stopped goes on with the same command, and more
    --trials make it longer. It leaves best.toml for `apps.train --config`, and variants.toml, with
    which `apps.compare --variants` holds the best settings against the recipe's over seeds.

    Flags of apps.train for all trials follow after a bare `--`, and what is given there is not
    searched: -- --net.width 64 --optim.clip 1. Needs the extra tune: pip install -e '.[tune]'.
    """

    plugin: str = "imf"
    """Method; `python -m apps.plugins` lists them."""
    data: str = "digits"
    """Data set."""
    trials: int = 20
    """Trials in all, those of earlier calls included."""
    budget: float = 0.0
    """The budget of a trial, in the unit of --unit; 0 takes the recipe's steps. Take the same for
    every method that is to be compared."""
    unit: Literal["steps", "operations", "seconds"] = "steps"
    """What the budget counts: training steps, floating-point operations of the training as the
    compiler counts them (1e13), or seconds of it on this machine. But for steps a trial finds out
    first how many steps that is with its own settings."""
    search: tuple[str, ...] = ()
    """Flags that are searched, as optim.rate plugin.full; by default all of the search space that
    the method has. --dry-run prints them."""
    space: str | None = None
    """TOML file that changes the search space: a table for each flag, with low and high and log,
    or with choices."""
    metric: Metric = "auto"
    """Figure that is made small; auto: W2 of points, the Fréchet distance of images and series, the
    distance of pairs of text."""
    nfe: tuple[int, ...] = (1,)
    """Numbers of network evaluations a sample; of several the geometric mean of the figures
    counts."""
    n: int = 0
    """Samples a figure; 0 takes as many as the data, 10,000 at most."""
    rungs: tuple[float, ...] = (0.25, 0.5)
    """Shares of the training at which a trial is measured and may be stopped."""
    prune: bool = True
    """Stop trials at a rung where they are worse than the median of the others there."""
    startup: int = 5
    """Trials drawn at random before TPE chooses, and finished before any is stopped."""
    seed: int = 0
    """Seed of the search and of every training."""
    teacher: str = "auto"
    """Teacher of a method that needs one: auto trains fm once, in <out>/trials/teacher, which
    counts as cost of the search; exact; or a run or model folder, as of apps.train."""
    teacher_steps: int = 0
    """Training steps of that fm; 0 takes the recipe's."""
    out: str | None = None
    """Folder of the search; default runs/tune-<plugin>-<data>."""
    jobs: int = 1
    """Trials side by side. With one the same command always makes the same trials; with more they
    depend on which ends first."""
    engine: Literal["local", "submitit"] = "local"
    """Where trials run: processes of this machine, or jobs of a cluster by submitit (extra
    cluster), which needs --out on a file system that all machines see."""
    cluster: Literal["auto", "slurm", "local"] = "auto"
    """submitit's executor; auto: Slurm where it is there, else this machine."""
    cluster_options: tuple[str, ...] = ()
    """Parameters of submitit's executor, as gpus_per_node=1 timeout_min=600 slurm_partition=gpu."""
    report_only: bool = False
    """Run nothing; write table and files again from the trials that are there."""
    dry_run: bool = False
    """Print the search space and the budget; run and write nothing."""
    trust: bool = False
    """Run the code that files name which are opened, such as python:module:function in a run's
    config.toml; without it such a run is refused, and the code is named."""
    json: bool = False
    """Print one JSON object as the last line on stdout."""

    def __post_init__(self):
        for name in ("trials", "jobs", "startup"):
            require(getattr(self, name) >= 1, f"--{name} must be at least 1")
        for name in ("budget", "n", "teacher_steps", "seed"):
            value = getattr(self, name)
            flag = name.replace("_", "-")
            require(0 <= value < math.inf, f"--{flag} must be 0 or more, and finite, got {value}")
        require(bool(self.nfe) and min(self.nfe) >= 1, "--nfe needs numbers of at least 1")
        require(not 0 < self.n < 4, "--n must be 0, or at least 4 samples to compare")
        require(
            all(0 < share < 1 for share in self.rungs), "--rungs are shares between 0 and 1, as .25"
        )
        require(list(self.rungs) == sorted(set(self.rungs)), "--rungs must increase, each once")
        if self.unit == "steps":
            require(float(self.budget).is_integer(), "--budget of --unit steps is a whole number")
        elif self.budget == 0:
            raise UserError(f"--unit {self.unit} needs a --budget")

    @property
    def folder(self) -> str:
        """The folder of the search."""
        return self.out or f"runs/tune-{self.plugin}-{self.data}"


def read_settings(argv: list[str]) -> tuple[TuneConfig, list[str]]:
    """The flags before a bare `--`, and those after it. Raises `UserError`."""
    own, extra = divided(argv, TAKEN, "apps.tune")
    settings = parse_flags(TuneConfig, own)
    find_plugin(settings.plugin)
    return settings, extra
