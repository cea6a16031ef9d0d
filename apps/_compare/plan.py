"""From the flags of a comparison to the runs it is made of."""

import functools
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from apps._compare.kept import kept_cell, kept_cells
from apps._compare.settings import CompareConfig, Entry
from core.errors import UserError
from core.files import write_json
from core.models import is_model
from core.oracle import KNOWN_DISTRIBUTIONS
from core.report.compare import steps_for
from core.train import toml
from core.train.claim import as_now
from core.train.cli import parse
from core.train.config import TrainConfig
from core.train.own_teacher import MARK
from core.train.run import read_config

What = Literal["run", "cost", "trial"]

_LOG_LINES = 40
_OWN = ("plugin", "seed", "steps", "teacher")


@dataclass(frozen=True)
class Job:
    """The work of one child process, as its `job.json` has it.

    `what`: train and measure a run, count the operations of one step, or a trial of `apps.tune`.
    `label` names the method or variant; `flags` are those of `apps.train`; `config` is the
    configuration that they give; `shared` is the part that all runs of a comparison share. `trial`
    has what a trial has beside.
    """

    what: What
    name: str
    label: str
    folder: str
    flags: list[str]
    config: dict[str, Any]
    shared: dict[str, Any]
    nfe: list[int]
    n: int
    steps: int
    trial: dict[str, Any] = field(default_factory=dict)

    def write(self) -> Path:
        """Writes `job.json`. Raises `UserError` where it cannot."""
        path = Path(self.folder) / "job.json"
        try:
            write_json(path, asdict(self))
        except OSError as error:
            raise UserError(
                f"cannot write {path} ({error.strerror}); choose another --out"
            ) from None
        return path

    @property
    def finished(self) -> bool:
        """Whether its figures are there, for this configuration and these evaluations."""
        if self.what == "cost":
            return read_cost(self) is not None
        cell = kept_cell(Path(self.folder))
        if cell is None or cell.config != self.config or cell.shared != self.shared:
            return False
        return set(self.nfe) <= set(cell.nfe)


class Plan:
    """The runs of a comparison. Raises `UserError` for flags that do not fit together."""

    def __init__(self, settings: CompareConfig, extra: list[str]):
        self._settings, self._extra = settings, extra
        self.out, self.entries = Path(settings.folder), settings.entries()
        self._reference = Entry(settings.reference)
        reference = self._parse(self._reference)
        self._steps, self._batch = settings.steps or reference.steps, reference.batch
        common = {k: v for k, v in toml.shaping(toml.to_dict(reference)).items() if k not in _OWN}
        budget = {"budget": settings.budget, "steps": self._steps, "n": settings.n}
        if settings.budget == "flops":
            budget["reference"] = settings.reference
        self._shared = {**common, "comparison": budget}
        self._check_neighbours()

    def teacher(self) -> Job | None:
        """The run of the teacher, where some method needs one that this comparison trains."""
        if self._settings.teacher != "auto" or not any(entry.taught for entry in self.entries):
            return None
        fm = Entry("fm")
        steps = self._settings.teacher_steps or self._parse(fm).steps
        return self._job("run", "teacher", self.out / "teacher", fm, 0, steps)

    def drop_taught(self) -> list[str]:
        """Leaves out the methods that need a teacher, and returns their names."""
        dropped = [entry.label for entry in self.entries if entry.taught]
        self.entries = [entry for entry in self.entries if not entry.taught]
        return dropped

    def costs(self) -> list[Job]:
        """The counts of operations that the steps depend on: none for equal examples."""
        if self._settings.budget == "samples":
            return []
        entries = dict.fromkeys([self._reference, *self.entries])
        folder = self.out / "costs"
        return [self._job("cost", e.label, folder / e.label, e, 0, self._steps) for e in entries]

    def runs(self, missing: int | None = None) -> list[Job]:
        """The runs of all methods and seeds, seed by seed.

        With equal operations their steps follow from `costs`; a method whose operations were not
        counted is left out, or has `missing` steps.
        """
        steps = {entry: self._steps_of(entry.label, missing) for entry in self.entries}
        return [
            self._job("run", f"{e.label}-{seed}", self.out / f"{e.label}-{seed}", e, seed, count)
            for seed in range(self._settings.seeds)
            for e, count in steps.items()
            if count is not None
        ]

    def trial(self, entry: Entry, seed: int, steps: int, about: dict[str, Any]) -> Job:
        """One trial of `apps.tune`, in a folder of its label."""
        job = self._job("trial", entry.label, self.out / entry.label, entry, seed, steps)
        return replace(job, trial=about)

    def _steps_of(self, name: str, missing: int | None) -> int | None:
        if self._settings.budget == "samples":
            return self._steps
        costs = {Path(job.folder).name: read_cost(job) for job in self.costs()}
        own, reference = costs[name], costs[self._settings.reference]
        if own is None or reference is None:
            return missing
        return steps_for(own["flops"], reference["flops"], self._steps)

    def _job(
        self,
        what: What,
        name: str,
        folder: Path,
        entry: Entry,
        seed: int,
        steps: int,
    ) -> Job:
        nfe = list(dict.fromkeys(self._settings.nfe))
        every = max(1, steps // _LOG_LINES)
        own = ["--plugin", entry.method, *entry.flags]
        own += ["--data", self._settings.data, "--seed", str(seed)]
        own += ["--steps", str(steps), "--batch", str(self._batch), "--run", str(folder)]
        own += ["--trust"] if self._settings.trust else []
        own += ["--sample-every", "0", "--log-every", str(every), "--evals", *map(str, nfe)]
        base = self._parse(entry)
        config = replace(base, seed=seed, steps=steps, batch=self._batch)
        if entry.taught:
            teacher = self._settings.teacher
            teacher = str(self.out / "teacher") if teacher == "auto" else teacher
            own, config = [*own, "--teacher", teacher], replace(config, teacher=teacher)
        job = Job(
            what=what, name=name, label=entry.label, folder=str(folder), flags=[*self._extra, *own],
            config=toml.shaping(toml.to_dict(config)), shared=self._shared, nfe=nfe,
            n=self._settings.n, steps=steps,
        )  # fmt: skip
        _check_folder(job)
        return job

    def _parse(self, entry: Entry) -> TrainConfig:
        own = ("--plugin", entry.method, *entry.flags, "--data", self._settings.data)
        return _parsed((*self._extra, *own))

    def _check_neighbours(self) -> None:
        """Raises `UserError` where the folder holds another comparison, or no teacher is there."""
        for cell in kept_cells(self.out):
            other = toml.difference(cell.shared, self._shared)
            if other:
                other = other.replace("--comparison.", "--")
                raise UserError(
                    f"{self.out} holds another comparison ({other}); choose another --out"
                )
        self._check_teacher()

    def _check_teacher(self) -> None:
        teacher, data = self._settings.teacher, self._settings.data
        if teacher not in ("auto", "exact") and not teacher.startswith(MARK):
            if not is_model(teacher):
                read_config(Path(teacher))
        if (
            teacher == "exact"
            and data not in KNOWN_DISTRIBUTIONS
            and any(e.taught for e in self.entries)
        ):
            raise UserError(
                "--teacher exact needs data of known distribution "
                f"({', '.join(KNOWN_DISTRIBUTIONS)}), not {data}"
            )


@functools.cache
def _parsed(flags: tuple[str, ...]) -> TrainConfig:
    return parse(list(flags))


def read_cost(job: Job) -> dict[str, Any] | None:
    """The result of a finished count of operations, or None."""
    try:
        cost = json.loads((Path(job.folder) / "cost.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return cost if cost.get("config") == job.config else None


def _check_folder(job: Job) -> None:
    written = Path(job.folder) / "config.toml"
    if written.exists():
        other = toml.difference(toml.shaping(as_now(written)), job.config)
        if other:
            raise UserError(f"{job.folder} holds another run ({other}); choose another --out")
