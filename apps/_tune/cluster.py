"""Trials as jobs of a cluster, by submitit: on Slurm, or on this machine."""

from pathlib import Path
from typing import Any

from apps._compare.plan import Job
from apps._compare.pool import Child, Engine, complaint
from apps._tune.errand import Errand
from core.errors import UserError
from portolan.tables import console


class Cluster(Engine):
    """submitit's executor `cluster` ("auto", "slurm" or "local") with these parameters; its own
    files lie in `folder`. Raises `UserError`."""

    def __init__(self, folder: Path, cluster: str, options: tuple[str, ...]):
        try:
            import submitit
        except ImportError:
            raise UserError(
                "--engine submitit needs submitit, which is not installed; install the extra: pip "
                "install -e '.[cluster]'"
            ) from None
        found = _options(options)
        try:
            name = None if cluster == "auto" else cluster
            self._executor = submitit.AutoExecutor(folder, cluster=name)
            self._executor.update_parameters(**{"timeout_min": 24 * 60, "name": "tune", **found})
        except Exception as error:  # whatever it makes of a wrong name, value or cluster
            raise UserError(
                f"submitit refuses: {' '.join(str(error).split())[:300]}; see --cluster and "
                "--cluster-options"
            ) from None
        console.print(f"jobs of submitit ({self._executor.cluster}), files in {folder}")

    def start(self, job: Job, slot: int, width: int) -> Child:
        path = job.write()
        log = path.with_name("log.txt")
        begins = log.stat().st_size if log.exists() else 0
        return ClusterChild(job, self._executor.submit(Errand(), str(path.resolve())), log, begins)


class ClusterChild(Child):
    """A job of submitit."""

    def __init__(self, job: Job, submitted: Any, log: Path, begins: int):
        self.job, self._submitted, self._log, self._begins = job, submitted, log, begins

    def ended(self) -> bool:
        return self._submitted.done()

    def complaint(self) -> str | None:
        try:
            status = self._submitted.result()
        except Exception as error:  # cancelled, lost, or a fault of the job's own
            return f"the job ended without a result ({' '.join(str(error).split())[:200]})"
        return None if status == 0 else complaint(self._log, self._begins, status)

    def stop(self) -> None:
        self._submitted.cancel()


def _options(words: tuple[str, ...]) -> dict[str, Any]:
    """`name=value` as parameters: whole numbers where they are such."""
    found: dict[str, Any] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if not (name and sign and value):
            raise UserError(f"--cluster-options {word!r} is no NAME=VALUE, as timeout_min=600")
        found[name] = int(value) if value.lstrip("-").isdigit() else value
    return found
