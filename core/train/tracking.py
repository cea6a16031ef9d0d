"""Weights & Biases: one run there for each run folder, however often it goes on."""

import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import UserError
from core.files import write_text

ID = Path("wandb") / "id.txt"
"""Where a run folder keeps the name of its run there."""


def check_tracking(mode: str) -> None:
    """Raises `UserError` where the mode needs a package or a login that is not there.

    Asked before anything is built, so that no work is lost.
    """
    if mode == "off":
        return
    wandb = _wandb()
    if mode == "online" and not _logged_in(wandb):
        raise UserError(
            "--wandb online needs a login, and there is no API key here: run `wandb login`, set "
            "WANDB_API_KEY, or log with --wandb offline, which needs none"
        )


class Tracker:
    """The run there. The steps are those of training, so that a run that goes back to a checkpoint
    logs its steps again."""

    def __init__(self, folder: Path, mode: str, config: Mapping[str, Any]):
        """Goes on with the run of this folder, or starts it. Raises `UserError` where it cannot."""
        check_tracking(mode)
        wandb = _wandb()
        self._wandb = wandb
        try:
            self._run = wandb.init(
                project="portolan",
                name=folder.name,
                dir=str(folder),
                mode=mode,
                config=dict(config),
                id=_id_of(folder),
                resume="allow",
            )
        except wandb.Error as error:
            first = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise UserError(
                f"Weights & Biases does not start ({first}); try again, or use --wandb offline"
            ) from None
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Logs numbers of a step."""
        self._run.log({"step": step, **metrics})

    def picture(self, step: int, name: str, path: Path) -> None:
        """Logs a picture of a step, where there is one."""
        if path.exists():
            self._run.log({"step": step, name: self._wandb.Image(str(path))})

    def table(self, step: int, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Logs a table, and the numbers of its rows that have an `nfe` in the run's summary."""
        columns = list(dict.fromkeys(key for row in rows for key in row))
        data = [[row.get(column) for column in columns] for row in rows]
        self._run.log({"step": step, name: self._wandb.Table(columns=columns, data=data)})
        for row in rows:
            if row.get("nfe") is not None and row.get("frechet") is not None:
                self._run.summary[f"frechet_{row['nfe']}"] = row["frechet"]

    def close(self) -> None:
        """Ends this visit of the run."""
        self._run.finish()


def _logged_in(wandb: Any) -> bool:
    try:
        return bool(wandb.login(prompt=False))
    except (wandb.Error, ValueError):  # a key that is none
        return False


def _id_of(folder: Path) -> str:
    """The name of the folder's run there: a new one where it has none."""
    file = folder / ID
    if not file.exists():
        write_text(file, uuid.uuid4().hex[:8] + "\n")
    return file.read_text("utf-8").strip()


def _wandb() -> Any:
    try:
        import wandb
    except ImportError:
        raise UserError("--wandb needs the package wandb; run: pip install wandb") from None
    return wandb
