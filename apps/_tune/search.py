"""The search: asks the study for trials, lets them run, stops the worse ones, notes the ends."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apps._compare.plan import Job, Plan
from apps._compare.pool import Engine, run_jobs
from apps._compare.settings import CompareConfig, Entry
from apps._compare.work import Work
from apps._tune.cluster import Cluster
from apps._tune.settings import TuneConfig
from apps._tune.space import Dimension, changed_space, chosen_space, flags_for, space_of, words_of
from apps._tune.study import Asked, Study
from apps._tune.trial import Report, read_report
from core.errors import UserError
from core.files import write_json
from core.methods.registry import find_plugin
from core.train import toml
from core.train.cli import parse
from core.train.config import TrainConfig
from core.train.journal import last_step
from portolan.progress import Meter
from portolan.signals import StopRequest
from portolan.tables import cell as shown
from portolan.tables import console

FILE = "search.json"
PATIENCE = {"local": 120.0, "submitit": 7 * 86400.0}
"""Seconds for which a trial waits for a process that writes its folder still: one of a search that
was killed leaves soon, a job of a cluster goes on."""


class Setup:
    """What a search is: the method's recipe, the length of a trial, the space, the plan of its
    runs. Raises `UserError` for flags that do not fit together."""

    def __init__(self, settings: TuneConfig, extra: list[str]):
        self.settings, self.out, self._extra = settings, Path(settings.folder), extra
        name = find_plugin(settings.plugin).card.name
        self.recipe: TrainConfig = parse([*extra, "--plugin", name, "--data", settings.data])
        counted = settings.unit == "steps" and settings.budget
        self.steps = int(settings.budget) if counted else self.recipe.steps
        space = space_of(self.recipe, self.steps)
        if settings.space is not None:
            space = changed_space(space, Path(settings.space), self.recipe)
        self.space: list[Dimension] = chosen_space(space, settings.search, extra)
        most = find_plugin(name).most_nfe
        if most is not None and max(settings.nfe) > most:
            raise UserError(f"{name} is sampled with {most} evaluation at most; give --nfe {most}")
        self._check()
        self.plan = Plan(self._comparison(name), extra)

    def _comparison(self, name: str) -> CompareConfig:
        """The comparison of one method that the trials are."""
        asked = self.settings
        return CompareConfig(
            plugins=(name,), data=asked.data, seeds=1, out=str(self.out / "trials"),
            steps=self.steps, reference=name, nfe=asked.nfe, n=asked.n, teacher=asked.teacher,
            teacher_steps=asked.teacher_steps, trust=asked.trust,
        )  # fmt: skip

    @property
    def identity(self) -> dict[str, Any]:
        """What must be the same when a search goes on."""
        same = ("plugin", "data", "unit", "metric", "n", "prune", "startup", "seed", "teacher")
        found = {name.replace("_", "-"): getattr(self.settings, name) for name in same}
        found |= {"nfe": list(self.settings.nfe), "rungs": list(self.settings.rungs)}
        budget = self.settings.budget or float(self.steps)
        space = {one.flag: one.words for one in self.space}
        recipe = toml.shaping(toml.to_dict(self.recipe))
        left = {k: v for k, v in recipe.items() if k not in ("steps", "seed", "plugin", "data")}
        left |= {name: {**recipe[name], "name": ""} for name in ("plugin", "data")}
        return {**found, "budget": budget, "space": space, "recipe": left}

    def _check(self) -> None:
        """Raises `UserError` where the folder holds another search."""
        path = self.out / FILE
        if not path.exists():
            return
        try:
            there = json.loads(path.read_text("utf-8"))["identity"]
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(f"{path} is damaged; choose another --out") from None
        other = toml.difference(there, self.identity)
        if other is not None:
            said = other.replace("--recipe.", "--")
            raise UserError(f"{self.out} holds another search ({said}); choose another --out")

    def write(self) -> None:
        """Writes what the search is. Raises `UserError` where it cannot."""
        about = {"identity": self.identity, "steps": self.steps, "batch": self.recipe.batch}
        about["extra"] = self._extra
        try:
            write_json(self.out / FILE, about)
        except OSError as error:
            raise UserError(
                f"cannot write {self.out} ({error.strerror}); choose another --out"
            ) from None


def searched(setup: Setup) -> list[str]:
    """Runs the trials that are missing. Returns the names of those that failed.

    Ctrl-C and SIGTERM let the trials save themselves, and end the program.
    """
    settings = setup.settings
    study = Study(setup.out, setup.space, settings.seed, settings.startup)
    setup.write()
    engine = None
    if settings.engine == "submitit":
        engine = Cluster(setup.out / "jobs", settings.cluster, settings.cluster_options)
    with StopRequest() as stop:
        teacher = setup.plan.teacher()
        work = Work(1, stop, engine)
        if teacher is not None and not work.do("teacher", [teacher]):
            raise UserError(f"there is no teacher; {teacher.folder}/log.txt says why")
        search = _Search(setup, study, engine)
        with Meter("steps", settings.trials * setup.steps, study.done() * setup.steps) as meter:
            search.run(stop, meter)
        if stop.number is not None:
            console.print("stopped; what was trained is kept, and the same command goes on")
            sys.exit(stop.exit_status)
    return search.failed


class _Search:
    def __init__(self, setup: Setup, study: Study, engine: Engine | None):
        self._setup, self._study, self._engine = setup, study, engine
        self._settings, self.failed = setup.settings, list[str]()
        self._numbers: dict[str, int] = {}  # by the folder of a trial
        self._recipes: set[int] = set()
        self._best: tuple[float, int] | None = None
        for each in study.trials():
            if each.state.name == "COMPLETE" and each.value is not None:
                self._note(each.value, each.number)

    def run(self, stop: StopRequest, meter: Meter) -> None:
        """Runs trials until there are as many as asked for."""

        def tick(running: list[Job]) -> list[Job]:
            left = [job for job in running if self._is_worse(job)]
            parts = sum(int(0.99 * whole * _share(job)) for job in running)
            done, names = self._study.done(), ", ".join(job.name for job in running)
            meter.to(done * whole + parts, f"{done} of {self._settings.trials} done; {names}")
            return left

        whole = self._setup.steps

        run_jobs(self._jobs(), self._settings.jobs, stop, self._ended, tick, self._engine)
        meter.to(self._study.done() * whole)

    def _jobs(self) -> Iterator[Job]:
        """Trials that were interrupted, then new ones, each when there is room for it."""
        going = self._study.interrupted()
        missing = self._settings.trials - self._study.done() - len(going)
        for asked in going:
            yield from self._job(asked)
        for _ in range(missing):
            yield from self._job(self._study.ask())

    def _job(self, asked: Asked) -> Iterator[Job]:
        """The job of a trial; nothing where it has ended already, or cannot be."""
        full = float(getattr(self._setup.recipe.plugin_flags, "full", 0.0))
        flags = {} if asked.usual else flags_for(asked.point, full)
        if asked.usual:
            self._recipes.add(asked.number)
        label = f"trial-{asked.number:04d}"
        self._study.annotate(asked.number, flags=flags)
        try:
            job = self._job_of(label, words_of(flags))
        except UserError as error:
            self._fail(asked.number, label, str(error))
            return
        self._numbers[job.folder] = asked.number
        if read_report(job.folder).ended or self._is_dropped(asked.number):
            self._ended(job, None)
        else:
            yield job

    def _is_dropped(self, number: int) -> bool:
        return self._settings.prune and self._study.is_worse(number)

    def _job_of(self, label: str, words: list[str]) -> Job:
        settings, out = self._settings, self._setup.plan.out
        steps = read_report(out / label).steps or self._setup.steps
        kept = ["--save-every", str(max(steps // 8, 1)), "--keep", "1"]
        about = {
            "rungs": list(settings.rungs), "metric": settings.metric, "unit": settings.unit,
            "budget": settings.budget, "patience": PATIENCE[settings.engine],
        }  # fmt: skip
        name = self._setup.recipe.plugin
        return self._setup.plan.trial(
            Entry(label, name, (*words, *kept)), settings.seed, steps, about
        )

    def _is_worse(self, job: Job) -> bool:
        """Notes what a trial has reported; whether it is to be stopped."""
        number = self._numbers[job.folder]
        self._study.report(number, read_report(job.folder).rungs)
        return self._is_dropped(number)

    def _ended(self, job: Job, complaint: str | None) -> None:
        number, report = self._numbers[job.folder], read_report(job.folder)
        worse = self._is_worse(job)
        if worse and report.rungs:
            step, value = _last(report)
            self._study.tell(number, "pruned")
            said = f"stopped at step {step:.0f}, {report.metric} {shown(value)}: worse than others"
        elif complaint is not None:
            self._fail(number, job.name, f"{complaint} (log: {job.folder}/log.txt)")
            return
        elif report.value is None:
            why = report.diverged or "it has no figure"
            self._study.tell(number, "diverged", why=why)
            said = f"diverged: {why}"
        else:
            self._study.tell(number, "complete", report.value)
            best = self._note(report.value, number)
            said = f"{report.metric} {shown(report.value)}; best {shown(best[0])} (trial {best[1]})"
        console.print(f"{job.name}: {said}", soft_wrap=True)

    def _fail(self, number: int, name: str, why: str) -> None:
        self._study.tell(number, "failed", why=why)
        if number in self._recipes:
            raise UserError(f"the recipe itself, {name}, failed: {why}")
        self.failed.append(name)
        console.print(f"{name} failed: {why}", soft_wrap=True)

    def _note(self, value: float, number: int) -> tuple[float, int]:
        found = (value, number)
        self._best = found if self._best is None else min(self._best, found)
        return self._best


def _last(report: Report) -> tuple[float, float]:
    """Step and figure of the last rung of a trial."""
    found = report.rungs[max(report.rungs, key=int)]
    return found["step"], found["value"]


def _share(job: Job) -> float:
    steps = read_report(job.folder).steps
    return min(last_step(Path(job.folder)) / steps, 1.0) if steps else 0.0
