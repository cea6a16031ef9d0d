"""Training to the end: progress, log, pictures, checkpoints, signals, bad batches."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax

from core.errors import NotFinite, UserError
from core.train import processes
from core.train.checkpoint import Checkpoints
from core.train.config import LoopConfig
from core.train.journal import Journal, NoJournal
from core.train.optim import schedule
from core.train.toml import to_dict
from core.train.trainer import Dispatch, NonFinite, Trainer
from portolan.progress import Meter
from portolan.signals import StopRequest
from portolan.tables import console

MOST_ROLLBACKS = 5


@dataclass(frozen=True)
class Loop:
    """One run, trained by the command `apps.<app>`, or from Python where `app` is None;
    `picture(path)` writes a picture of it."""

    app: str | None
    trainer: Trainer
    checkpoints: Checkpoints
    folder: Path
    picture: Callable[[Path], None]
    before: int | None = None
    """The steps that the run had before --extend, or None."""
    watch: Callable[[Dispatch], None] | None = None
    """Called after each dispatch, when its pictures and checkpoint are written."""

    def run(self, lines: list[str]) -> tuple[float, float]:
        """Trains to the end; `lines` describe the run. Returns the seconds and samples a second of
        this call."""
        trainer, folder = self.trainer, self.folder
        config, start = trainer.config, self.checkpoints.latest()
        if start is not None:
            start = trainer.restore_newest(self.checkpoints)
            console.print(f"going on with {folder} from step {start}")
        else:
            self._save_first()
        for line in lines:
            console.print(line)
        if trainer.step >= config.steps:
            console.print(f"{folder} is complete; more --steps with --extend go on")
            return 0.0, 0.0
        if self.before is not None and self.before < config.steps:
            console.print(extension(config, self.before, trainer.step))
        began, first = time.perf_counter(), trainer.step
        journal = NoJournal()
        if processes.first():
            journal = Journal(folder, trainer.step, config.wandb, to_dict(config))
        with Meter("training", config.steps, trainer.step) as meter:
            try:
                self._train(journal, meter)
            except jax.errors.JaxRuntimeError:
                if jax.process_count() == 1:
                    raise
                processes.abandon(
                    f"another process of this run is gone, after step {meter.done}; start all of "
                    f"them again: {folder} goes on from its last checkpoint"
                )
        journal.close()
        seconds = time.perf_counter() - began
        return seconds, (trainer.step - first) * config.batch / seconds

    def _save_first(self) -> None:
        try:
            self.trainer.save(self.checkpoints)
        except NonFinite as bad:
            raise UserError(f"{bad}, before training: the weights that it starts from are damaged")

    def _train(self, journal: Journal | NoJournal, meter: Meter) -> None:
        trainer = self.trainer
        with StopRequest() as stop:
            while trainer.step < trainer.config.steps:
                try:
                    for dispatch in trainer.run():
                        self._after(dispatch, journal, meter)
                        number = processes.greatest(stop.number or 0)
                        if number:
                            self._leave(number)
                except NonFinite as bad:
                    self._on_non_finite(bad)
                    journal.rewind(trainer.step)

    def _after(self, dispatch: Dispatch, journal: Journal | NoJournal, meter: Meter) -> None:
        config = self.trainer.config
        rate = (dispatch.step - dispatch.start) * config.batch / dispatch.seconds
        raw = "  ".join(
            f"{name.split('/')[0]} {value:.3f}"
            for name, value in dispatch.metrics.items()
            if name.endswith("/residual")
        )
        note = f"loss {dispatch.metrics['loss']:.3f}  {raw}  {rate:,.0f} samples/s"
        meter.to(dispatch.step, note)
        if dispatch.crosses(config.log_every):
            journal.write(dispatch.step, {**dispatch.metrics, "samples_per_second": rate})
        if dispatch.crosses(config.sample_every):
            path = self.folder / "samples" / f"step_{dispatch.step:07d}.png"
            self._draw(path)
            journal.picture(dispatch.step, path)
        if dispatch.crosses(config.save_every) or dispatch.step == config.steps:
            self.trainer.save(self.checkpoints)
        if self.watch is not None:
            self.watch(dispatch)

    def _draw(self, path: Path) -> None:
        """Writes a picture; samples that are not finite early on do not end a training."""
        try:
            self.picture(path)
        except NotFinite as bad:
            console.print(f"warning: no {path.name}: {str(bad).partition(';')[0]}")

    def _leave(self, number: int) -> None:
        """Saves and leaves: a command exits with 128 + the signal's number, as a shell reports it,
        Python gets the interrupt."""
        self.trainer.save(self.checkpoints)
        self.checkpoints.close()
        folder, mode = self.folder, self.trainer.config.wandb
        logged = "" if mode == "off" else f" --wandb {mode}"
        if self.app is None:
            console.print(
                f"stopped at step {self.trainer.step}; where a run folder was named, the same call "
                "goes on"
            )
            raise KeyboardInterrupt
        console.print(
            f"stopped and saved at step {self.trainer.step}; go on with: "
            f"python -m apps.{self.app} --config {folder}/config.toml --run {folder}{logged}"
        )
        sys.exit(128 + number)

    def _on_non_finite(self, bad: NonFinite) -> None:
        trainer, last = self.trainer, self.checkpoints.latest()
        good = f"the last good checkpoint is {self.folder}/checkpoints/{last}"
        if trainer.config.on_nan == "stop":
            raise UserError(
                f"{bad}; {good}; train another --run with a lower --optim.rate, or skip such "
                "batches with --on-nan rollback"
            )
        if int(trainer.state.rollbacks) >= MOST_ROLLBACKS:
            raise UserError(
                f"{bad}, after {MOST_ROLLBACKS} rollbacks; {good}; train another --run with a "
                "lower --optim.rate"
            )
        trainer.roll_back(self.checkpoints, bad)
        console.print(f"{bad}: went back to step {last}, and the batch is left out")


def extension(config: LoopConfig, before: int, done: int) -> str:
    """What it means for the next step, after `done`, that the run has more than `before` steps."""
    steps, optim = config.steps, config.optim
    old, new = (float(schedule(optim, total)(done)) for total in (before, steps))
    instead = f" instead of {old:.3g}" if old != new else ", as before"
    return (
        f"extended from {before:,} to {steps:,} steps: the learning rate of step {done + 1:,} is "
        f"{new:.3g}{instead} ({optim.schedule}); a method's curriculum, where it has one, is at "
        f"{done / steps:.0%} instead of {done / before:.0%}"
    )
