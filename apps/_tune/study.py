"""The study of a search: Optuna's record of all trials, in one file of the search's folder."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from apps._tune.space import Dimension, Value, point
from core.errors import UserError
from core.files import write_bytes

if TYPE_CHECKING:
    import optuna

FILE, NAME = "study.journal", "search"
State = Literal["complete", "pruned", "diverged", "failed", "running"]


@dataclass(frozen=True)
class Asked:
    """A trial that is to run: its number and its point of the space; `usual` says that it is the
    recipe's."""

    number: int
    point: dict[str, Value]
    usual: bool


def optuna_module() -> Any:
    """Optuna, quiet. Raises `UserError` where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import optuna
    except ImportError:
        raise UserError(
            "apps.tune searches with Optuna, which is not installed; install the extra: pip "
            "install -e '.[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class Study:
    """All trials of a search. One process writes it at a time (`one_writer` of the folder).

    The sampler of trial `k` is seeded by the search's seed and `k`, so that a search which was
    stopped and goes on draws what it would have drawn.
    """

    def __init__(self, folder: Path, space: Sequence[Dimension], seed: int, startup: int):
        self._optuna, self._space = optuna_module(), space
        self._seed, self._startup = seed, startup
        _leave_out_cut_line(folder / FILE)
        self._study: optuna.Study = self._optuna.create_study(
            storage=_storage(folder),
            study_name=NAME,
            load_if_exists=True,
            pruner=self._optuna.pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=0),
        )
        self._running: dict[int, optuna.Trial] = {}

    def interrupted(self) -> list[Asked]:
        """Trials that were running when the search stopped, to be gone on with."""
        running = self._study.get_trials(deepcopy=False, states=(self._states.RUNNING,))
        return [self._asked(self._optuna.Trial(self._study, each._trial_id)) for each in running]

    def ask(self) -> Asked:
        """A new trial; the first has the usual value of every dimension, and the next too where
        that failed."""
        before = self._study.get_trials(deepcopy=False)
        if all(each.state == self._states.FAIL for each in before):
            self._study.enqueue_trial(point(self._space, lambda one: one.usual))
        number = len(self._study.get_trials(deepcopy=False))
        return self._asked(self._trial(number))

    def _trial(self, number: int) -> Any:
        self._seeded(number)
        return self._study.ask()

    def _seeded(self, number: int) -> None:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        self._study.sampler = self._optuna.samplers.TPESampler(
            seed=seed, n_startup_trials=self._startup, constant_liar=True
        )

    def _asked(self, trial: Any) -> Asked:
        self._running[trial.number] = trial
        usual = "fixed_params" in self._frozen(trial.number).system_attrs
        return Asked(trial.number, point(self._space, lambda one: _suggested(trial, one)), usual)

    def report(self, number: int, rungs: Mapping[str, Mapping[str, float]]) -> None:
        """Notes the figures of a trial at rungs, by their numbers, and whether each is worse than
        the median of the trials before it there."""
        trial = self._running[number]
        for rung, found in sorted(rungs.items(), key=lambda item: int(item[0])):
            if f"worse at {rung}" in self._frozen(number).user_attrs:
                continue
            if int(rung) not in self._frozen(number).intermediate_values:
                trial.report(found["value"], int(rung))
            trial.set_user_attr(f"worse at {rung}", bool(trial.should_prune()))

    def is_worse(self, number: int) -> bool:
        """Whether a trial was worse than the median at a rung."""
        attributes = self._frozen(number).user_attrs
        return any(said is True for name, said in attributes.items() if name[:5] == "worse")

    def tell(self, number: int, state: State, value: float | None = None, why: str = "") -> None:
        """Ends a trial. One that diverged counts as worse than all that were stopped."""
        trial = self._running.pop(number)
        trial.set_user_attr("state", state)
        if why:
            trial.set_user_attr("why", why)
        ends = {"complete": self._states.COMPLETE, "failed": self._states.FAIL}
        self._study.tell(trial, value, state=ends.get(state, self._states.PRUNED))

    def annotate(self, number: int, **about: Any) -> None:
        """Keeps values with a trial that runs."""
        for key, value in about.items():
            self._running[number].set_user_attr(key, value)

    def trials(self) -> list["optuna.trial.FrozenTrial"]:
        """All trials in their order; what was not yet begun is left out."""
        return _begun(self._study)

    def done(self) -> int:
        """The number of trials that have a result: those that failed have none."""
        has = (self._states.COMPLETE, self._states.PRUNED)
        return sum(each.state in has for each in self._study.get_trials(deepcopy=False))

    @property
    def _states(self) -> Any:
        return self._optuna.trial.TrialState

    def _frozen(self, number: int) -> "optuna.trial.FrozenTrial":
        return self._study.get_trials(deepcopy=False)[number]


def recorded(folder: Path) -> list["optuna.trial.FrozenTrial"]:
    """The trials of a search as its file has them, also while another process writes it: nothing is
    written here. Raises `UserError` where there are none."""
    lost = UserError(f"{folder} has no record of trials ({FILE}); name another --out")
    if not (folder / FILE).is_file():
        raise lost
    try:
        return _begun(optuna_module().load_study(study_name=NAME, storage=_storage(folder)))
    except KeyError:
        raise lost from None


def _storage(folder: Path) -> Any:
    storages = optuna_module().storages
    return storages.JournalStorage(storages.journal.JournalFileBackend(str(folder / FILE)))


def _begun(study: "optuna.Study") -> list["optuna.trial.FrozenTrial"]:
    found = study.get_trials(deepcopy=False)
    return [each for each in found if each.state.name != "WAITING"]


def state_of(trial: "optuna.trial.FrozenTrial") -> State:
    """How a trial ended, or that it runs."""
    return trial.user_attrs.get("state", "running")


def _suggested(trial: Any, one: Dimension) -> Value:
    if one.choices:
        return trial.suggest_categorical(one.flag, list(one.choices))
    suggest = trial.suggest_int if one.whole else trial.suggest_float
    return suggest(one.flag, one.low, one.high, log=one.log)


def _leave_out_cut_line(path: Path) -> None:
    """Takes away a last line that was cut when its process was killed: what it said did not
    happen."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    if content and not content.endswith(b"\n"):
        write_bytes(path, content[: content.rfind(b"\n") + 1])
    for lock in path.parent.glob(path.name + ".lock*"):  # of a process that was killed
        lock.unlink(missing_ok=True)
