"""Which requests are let in: those of this page, on this machine, of a bounded size."""

import asyncio
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MOST = 64 * 1024
"""Bytes of a request, at most."""
PATIENCE = 20.0
"""Seconds in which a request must have come."""
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
"""Of every answer: the page loads nothing but its own files, and no other page loads or frames
it."""


class Refused(Exception):
    """A request that is not let in: the status and one line."""

    def __init__(self, status: int, reason: str):
        super().__init__(reason)
        self.status, self.reason = status, reason


class Guard:
    """Around an ASGI application: refuses foreign Host and Origin headers and long requests.

    A page of another site that the user has open can send requests here (its browser is on this
    machine), and can give its own name this machine's address; the first are known by Origin and
    Sec-Fetch-Site, the second by Host.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], port: int):
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            self._check(scope)
            body = await _body(scope, receive)
        except Refused as refused:
            await _answer(with_headers, refused)
            return
        await self._app(scope, _replayed(body, receive), with_headers)

    def _check(self, scope: Scope) -> None:
        """Raises `Refused` for a request that comes from elsewhere."""
        headers = [(name.lower(), value.decode("latin-1")) for name, value in scope["headers"]]
        hosts = [value.lower() for name, value in headers if name == b"host"]
        if len(hosts) != 1 or hosts[0] not in self._hosts:
            here = " or ".join(sorted(self._hosts))
            raise Refused(421, f"this server answers as {here} only")
        given = {name: value for name, value in headers}
        origin = given.get(b"origin")
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self._hosts}:
            raise Refused(403, "requests of other pages are refused")
        site = given.get(b"sec-fetch-site", "none")
        if site not in ("none", "same-origin") and given.get(b"sec-fetch-mode") != "navigate":
            raise Refused(403, "requests of other pages are refused")
        kind = given.get(b"content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            raise Refused(415, "a request must be application/json")


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body. Raises `Refused` for one that is too long or does not come."""
    long = Refused(413, f"a request has at most {MOST:,} bytes")
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and not (value.isdigit() and int(value) <= MOST):
            raise long
    parts, size = [], 0
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Refused(400, "the request ended early")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MOST:
                    raise long
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise Refused(408, "the request did not come in time") from None


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What the application receives: the body at once, then what else comes."""
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return parts.pop() if parts else await receive()

    return again


async def _answer(send: Send, refused: Refused) -> None:
    body = json.dumps({"error": refused.reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refused.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
