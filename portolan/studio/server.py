"""The server: its routes, and the socket that it listens on."""

import asyncio
import errno
import json
import logging
import socket
from collections.abc import Callable
from importlib import resources
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from core.errors import UserError, explained
from portolan.studio.fields import SEED, Fields
from portolan.studio.guard import Guard
from portolan.studio.jobs import AT_ONCE, JOBS, LIKELY
from portolan.studio.session import Opened, Session, Unknown
from portolan.studio.views import Shown
from portolan.studio.wire import packed
from portolan.studio.worker import Busy, Closed, OutOfDate, Worker

HERE = "127.0.0.1"
"""The only address that is listened on: nothing outside of this machine reaches it."""
PORT = 8421
BACKLOG = 256
TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}
MESSAGE = "application/octet-stream"
log = logging.getLogger("portolan.studio")


def application(session: Session, port: int, worker: Worker, ahead: bool = False) -> Guard:
    """The ASGI application. All files that it serves are read now: no path comes from the page.

    `ahead`: whether programs that are likely to be asked for are compiled while nothing else is.
    """

    async def job(request: Request) -> Response:
        name = request.path_params["job"]
        return await answer(session, worker, name, await request.body(), ahead)

    async def missing(request: Request, error: Exception) -> Response:
        del request, error
        return failed(404, "there is nothing of this name")

    async def method(request: Request, error: Exception) -> Response:
        del request, error
        return failed(405, "jobs are asked by POST, pages by GET")

    routes = [Route("/api/{job:str}", job, methods=["POST"])]
    routes += [Route(place, _file(body, kind)) for place, (body, kind) in files().items()]
    handlers: Any = {404: missing, 405: method}
    return Guard(Starlette(routes=routes, exception_handlers=handlers), port)


def files() -> dict[str, tuple[bytes, str]]:
    """The front end: by the place at which it is served, each file and its type."""
    found = {}
    for file in (resources.files("portolan.studio") / "static").iterdir():
        kind = TYPES.get(file.name.rpartition(".")[2])
        if kind is not None:
            found[f"/{file.name}"] = file.read_bytes(), kind
    return {"/": found["/index.html"], **found}


def _file(body: bytes, kind: str) -> Callable[[Request], Any]:
    async def answered(request: Request) -> Response:
        del request
        return Response(body, media_type=kind)

    return answered


async def answer(session: Session, worker: Worker, job: str, body: bytes, ahead: bool) -> Response:
    """The answer to a request: a message of `wire`, or one line that says what was wrong.

    400 for what is no JSON object, 404 for a job or run that there is not, 409 for a request that
    is out of date, 422 for values that are refused, 503 where too many wait, 500 for a fault.
    """
    try:
        values = read(body)
    except (ValueError, RecursionError):
        return failed(400, "a request must be a JSON object")
    fields = Fields(values)
    try:
        if job in AT_ONCE:
            found = await asyncio.to_thread(AT_ONCE[job], session, fields)
        else:
            found = await _computed(session, worker, job, fields, ahead)
    except UserError as error:
        return failed(404 if isinstance(error, Unknown) else 422, str(error))
    except OutOfDate:
        return failed(409, "a newer request has come")
    except Busy:
        return failed(503, "too many requests wait; try again in a moment")
    except Closed:
        return failed(503, "the server ends")
    except Exception as error:
        known = explained(error)
        if known is None:
            log.exception("a fault in the job %s", job)
        return failed(500, str(known or "a fault of the program; the terminal says where"))
    return Response(packed(found.said, found.arrays), media_type=MESSAGE)


async def _computed(
    session: Session, worker: Worker, job: str, fields: Fields, ahead: bool
) -> Shown:
    if job not in JOBS:
        raise Unknown(f"there is no job {job!r}")
    run = session.run(fields.whole("run", 0, SEED))
    page = fields.text("page", 40, "")
    number = fields.whole("number", 0, 2**53) if page else None
    panel = fields.text("panel", 40, job)
    work = JOBS[job]
    future = worker.ask((page, panel), number, lambda: work(run, fields))
    found = await asyncio.wrap_future(future)
    if ahead and job in LIKELY:
        worker.later(lambda: _ahead(worker, run, job, fields))
    return found


def _ahead(worker: Worker, run: Opened, job: str, fields: Fields) -> None:
    """Puts down what is likely to be asked. In the worker's thread: the model of a run is its."""
    for each in LIKELY[job](run, fields):
        worker.later(each)


def read(body: bytes) -> dict[str, Any]:
    """A JSON object. Raises `ValueError` for anything else; of numbers there are finite ones."""

    def refuse(word: str) -> float:
        raise ValueError(word)

    found = json.loads(body, parse_constant=refuse)
    if not isinstance(found, dict):
        raise ValueError("no object")
    return found


def failed(status: int, reason: str) -> Response:
    """One line, and its status."""
    headers = {"retry-after": "1"} if status == 503 else None
    return JSONResponse({"error": reason}, status, headers)


def listening(port: int | None) -> socket.socket:
    """A socket of this machine alone, at that port; 0 is any free one, and None is `PORT`, or a
    free one where that is taken. Raises `UserError` for a port that is taken."""
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((HERE, PORT if port is None else port))
    except (OSError, OverflowError) as error:
        if port is None and getattr(error, "errno", None) == errno.EADDRINUSE:
            found.bind((HERE, 0))
            found.listen(BACKLOG)
            return found
        found.close()
        raise UserError(
            f"port {port} cannot be opened ({getattr(error, 'strerror', None) or error}); "
            "name another --port, or 0 for any free one"
        ) from None
    found.listen(BACKLOG)  # the address is printed: who opens it at once waits for the first answer
    return found


def serve(session: Session, sock: socket.socket) -> None:
    """Answers until it is stopped by a signal."""
    worker = Worker()
    config = uvicorn.Config(
        application(session, sock.getsockname()[1], worker, ahead=True),
        log_level="warning", access_log=False, server_header=False, lifespan="off", http="h11",
        ws="none", proxy_headers=False, timeout_keep_alive=30, timeout_graceful_shutdown=1,
        limit_concurrency=512, h11_max_incomplete_event_size=16 * 1024,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[sock])
    finally:
        worker.close()
