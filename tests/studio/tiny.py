"""Tiny runs whose weights are noise, and a server of them on a socket of its own."""

import contextlib
import threading
import time
from collections.abc import Iterator

import numpy as np
import uvicorn

from core.files import write_json
from portolan.certificate import FILE, WORDS, Certificate
from portolan.studio.server import application, listening
from portolan.studio.session import Session
from portolan.studio.worker import Worker
from tests.train.runs import make_run

SMALL = ["--steps", "2", "--batch", "8", "--net.width", "8", "--net.depth", "2"]
KINDS = {
    "digits": ["--data", "digits", "--net", "dit", "--net.heads", "1"],
    "plane": ["--data", "two-moons", "--data.n", "256", "--net", "mlp"],
    "checkerboard": ["--data", "checkerboard", "--data.n", "64", "--net", "mlp"],
}


def certificate(folder, nodes: int) -> None:
    """Writes a certificate whose figures mean nothing."""
    upper = np.triu(np.full((nodes, nodes), 0.5), 1)
    table = np.where(upper > 0, upper * np.arange(1, nodes + 1), np.nan)
    units = tuple(np.linspace(1, 0, nodes).tolist())
    found = Certificate(
        units, {kind: table for kind in WORDS}, {2: (1.0, 0.5, 0.0)}, {2: (0.1, None)}, 0.3, 4.0, 8
    )
    write_json(folder / FILE, found.to_json())


def make_runs(folder, *kinds) -> list[str]:
    """Runs of these kinds in a folder, and where they lie."""
    for kind in kinds:
        make_run(folder / kind, *SMALL, *KINDS[kind], "--plugin", "imf")
    return [str(folder / kind) for kind in kinds]


@contextlib.contextmanager
def served(session: Session) -> Iterator[tuple[str, uvicorn.Server]]:
    """The address of a server that answers in a thread, as `portolan.studio.server.serve` does in a
    process of its own."""
    sock, worker = listening(0), Worker()
    port = sock.getsockname()[1]
    app = application(session, port, worker)
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="error", lifespan="off", http="h11", ws="none")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    for _ in range(1000):
        if server.started:
            break
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(10)
        worker.close()
        sock.close()
