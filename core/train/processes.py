"""Several processes that train one run: joining, agreeing, and who writes."""

import logging
import os
import sys

import jax
import numpy as np
from jax.experimental import multihost_utils

from core.errors import UserError, require
from core.train.config import ClusterConfig

HEARTBEAT_SECONDS = 60
"""After so long without a sign of life a process counts as gone."""


def join(config: ClusterConfig) -> None:
    """Joins the other processes of this run; nothing without `--distributed`.

    JAX finds them by itself under Slurm, Open MPI, Kubernetes and on TPU pods. It must be called
    before anything is computed. Raises `UserError` where the others are not found.
    """
    given = (config.coordinator, config.processes, config.process)
    if not config.distributed:
        require(given == (None,) * 3, "--coordinator, --processes, --process need --distributed")
        return
    require(
        len({one is None for one in given}) == 1,
        "give --coordinator, --processes and --process together, or none of them",
    )
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # one line says that another is gone
    jax.config.update("jax_enable_preemption_service", False)  # signals are the loop's
    try:
        jax.distributed.initialize(*given, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"--distributed cannot join the other processes ({reason}); give --coordinator "
            "HOST:PORT --processes N --process I to each"
        ) from None


def first() -> bool:
    """Whether this is the process that writes the files of which there is one."""
    return jax.process_index() == 0


def greatest(number: int) -> int:
    """The greatest of the numbers that the processes give; every process must call it."""
    if jax.process_count() == 1:
        return number
    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def wait(where: str) -> None:
    """Waits until every process has come to `where`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(where)


def abandon(message: str) -> None:
    """Ends this process with one line, at once: there is nobody left to say goodbye to."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    os._exit(1)
