"""What a job of submitit runs. It imports nothing of ours: each job reads this file first."""

import subprocess
import sys
from pathlib import Path
from typing import Any


class Errand:
    """What a job of submitit does: the child process of a trial, its output in the trial's log.

    Returns its exit status. Before its time is over the job is submitted once more, and goes on
    from the run's last checkpoint.
    """

    def __call__(self, path: str) -> int:
        with Path(path).with_name("log.txt").open("ab") as log:
            done = subprocess.run(
                [sys.executable, "-m", "apps._compare.child", path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return done.returncode

    def checkpoint(self, path: str) -> Any:
        """Asked for by submitit before a time limit or a preemption."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, path)
