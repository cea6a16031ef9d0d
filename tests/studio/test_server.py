"""What the studio's server answers, without a browser."""

import asyncio
import json
import socket
import threading
import time

import numpy as np
import pytest

from core.errors import UserError

pytest.importorskip("starlette", reason="needs the extra studio")
httpx = pytest.importorskip("httpx", reason="needs httpx")

# ruff: noqa: E402
from portolan.runs import open as open_run
from portolan.studio.fields import Fields
from portolan.studio.guard import MOST
from portolan.studio.server import HERE, PORT, application, listening, read
from portolan.studio.session import session_of
from portolan.studio.wire import packed, unpacked
from portolan.studio.worker import WAITING, Busy, Closed, OutOfDate, Worker
from tests.studio.tiny import make_runs

BASE = f"http://{HERE}:{PORT}"


def asking(session):
    """`ask(method, place, body, **headers)` -> the server's answer, in the same thread; and the
    worker behind it."""
    worker = Worker()
    transport = httpx.ASGITransport(application(session, PORT, worker))

    def send(method, place, body=None, **headers):
        async def one():
            async with httpx.AsyncClient(transport=transport, base_url=BASE) as client:
                content = json.dumps(body) if isinstance(body, dict) else body
                names = {name.replace("_", "-"): value for name, value in headers.items()}
                if content is not None:
                    names.setdefault("content-type", "application/json")
                return await client.request(method, place, content=content, headers=names)

        return asyncio.run(one())

    return send, worker


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Asks a server whose one run does not open: what is refused before that needs none."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "config.toml").write_text("steps = 1")
    send, worker = asking(session_of([folder]))
    yield send
    worker.close()


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return make_runs(tmp_path_factory.mktemp("runs"), "digits")[0]


@pytest.fixture(scope="module")
def ask_digits(digits):
    """Asks a server of digits."""
    send, worker = asking(session_of([digits]))
    yield send
    worker.close()


def test_the_page_comes_with_a_policy_that_lets_nothing_else_in(ask):
    page = ask("GET", "/")
    assert page.status_code == 200 and "text/html" in page.headers["content-type"]
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy and "http" not in policy
    for place in ("/main.js", "/style.css", "/icon.svg"):
        assert ask("GET", place).status_code == 200
    for name in ("/main.js", "/style.css", "/"):
        assert "://" not in ask("GET", name).text.replace("http://www.w3.org/2000/svg", "")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": f"evil.example:{PORT}"}, 421),
        ({"host": HERE}, 421),
        ({"host": f"localhost:{PORT}"}, 200),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": f"https://{HERE}:{PORT}"}, 403),
        ({"origin": f"http://{HERE}:{PORT + 1}"}, 403),
        ({"origin": BASE}, 200),
        ({"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"}, 403),
        ({"sec_fetch_site": "same-site", "sec_fetch_mode": "no-cors"}, 403),
        ({"sec_fetch_site": "same-origin"}, 200),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
    ],
)
def test_requests_of_other_pages_are_refused(ask, headers, status):
    assert ask("POST", "/api/runs", {}, **headers).status_code == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"[]", 400),
        (b"\xff\xfe", 400),
        (b'{"run": NaN}', 400),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400),
        (b'{"run": ' + b"9" * 6000 + b"}", 400),
        (b"{" + b" " * MOST + b"}", 413),
        ({}, 422),
        ({"run": "0"}, 422),
        ({"run": True}, 422),
        ({"run": -1}, 422),
        ({"run": 7}, 404),
        ({"run": "../../secret"}, 422),
        ({"run": 0, "page": "x" * 41, "number": 1}, 422),
        ({"run": 0, "page": "x", "number": -1}, 422),
    ],
)
def test_a_bad_request_is_one_line_with_its_status(ask, body, status):
    answer = ask("POST", "/api/sample", body)
    assert answer.status_code == status
    assert "\n" not in answer.json()["error"] and answer.json()["error"]


@pytest.mark.long
def test_values_out_of_bounds_are_refused_and_the_next_request_is_answered(ask_digits):
    for bad in (
        {"n": 10**9},
        {"n": 1.5},
        {"n": 0},
        {"steps": 10**6},
        {"seed": -1},
        {"guidance": 1e308},
        {"guidance": 2},
        {"sampler": "push"},
        {"sampler": ["pushforward"]},
        {"label": 10},
    ):
        answer = ask_digits("POST", "/api/sample", {"run": 0, "n": 4, **bad})
        assert answer.status_code == 422 and answer.json()["error"], bad
    assert ask_digits("POST", "/api/sample", {"run": 0, "n": 4}).status_code == 200


def test_a_request_that_does_not_say_how_long_it_is_ends_at_the_same_length(ask):
    async def parts():
        for _ in range(MOST // 1024 + 1):
            yield b" " * 1024

    assert ask("POST", "/api/runs", parts()).status_code == 413


def test_a_run_that_does_not_open_is_one_line(ask):
    answer = ask("POST", "/api/about", {"run": 0})
    assert answer.status_code == 422 and "checkpoint" in answer.json()["error"]


@pytest.mark.parametrize(
    ("method", "place", "status"),
    [
        ("POST", "/api/other", 404),
        ("GET", "/api/sample", 405),
        ("POST", "/", 405),
        ("GET", "/../pyproject.toml", 404),
        ("GET", "/%2e%2e/server.py", 404),
        ("GET", "/static/main.js", 404),
        ("GET", "/server.py", 404),
    ],
)
def test_there_is_nothing_else(ask, method, place, status):
    body = {"run": 0} if method == "POST" else None
    assert ask(method, place, body).status_code == status


@pytest.mark.slow
def test_samples_are_those_of_python(ask_digits, digits):
    """The page's grid of a seed is `run.sample` of that seed, to the byte that a pixel has."""
    answer = ask_digits("POST", "/api/sample", {"run": 0, "n": 12, "seed": 3, "steps": 2})
    assert answer.status_code == 200
    said, arrays = unpacked(answer.content)
    run = open_run(digits)
    expected = run.spec.encode(run.sample(12, seed=3, steps=2))
    assert said["nfe"] == 2 and arrays["tiles"].shape == (12, 8, 8, 1)
    assert np.array_equal(arrays["labels"], np.arange(12) % 10)
    assert np.abs(arrays["tiles"].astype(int) - expected).max() <= 1
    assert np.ptp(expected) > 100  # the weights are noise, so pictures are no plain gray


@pytest.mark.long
def test_a_way_through_noise_starts_at_the_held_sample(ask_digits):
    """At angle 0, and at share 0, stands the sample of the grid; at share 1 the other one."""
    grid = unpacked(ask_digits("POST", "/api/sample", {"run": 0, "n": 12, "seed": 3}).content)[1][
        "tiles"
    ]
    a, b = ({"seed": 3, "index": k, "label": k} for k in (4, 7))
    turn = ask_digits("POST", "/api/walk", {"run": 0, "a": a, "at": [0.0, 1.0], "direction": 5})
    way = ask_digits(
        "POST", "/api/walk", {"run": 0, "a": a, "b": {**b, "label": 4}, "at": [0.0, 1.0]}
    )
    turned, between = (unpacked(each.content)[1]["tiles"].astype(int) for each in (turn, way))
    assert np.abs(turned[0] - grid[4]).max() <= 1 and np.abs(turned[1] - grid[4]).max() > 10
    assert np.abs(between[0] - grid[4]).max() <= 1
    as_b = {"run": 0, "a": {**b, "label": 4}, "at": [0.0], "direction": 0}
    other = unpacked(ask_digits("POST", "/api/walk", as_b).content)[1]["tiles"]
    assert np.abs(between[1] - other[0]).max() <= 1


def test_values_cross_the_wire_unchanged(rng):
    arrays = {
        "bytes": rng.integers(0, 256, (3, 5), np.uint8),
        "floats": rng.standard_normal((2, 3, 1)).astype(np.float32),
        "none": np.zeros((0, 2), np.float32),
        "whole": np.arange(7, dtype=np.int32),
    }
    said, found = unpacked(packed({"words": "λ → ∞", "bad": float("nan")}, arrays))
    assert said == {"words": "λ → ∞", "bad": None}
    assert all(np.array_equal(found[name], arrays[name]) for name in arrays)
    assert found["floats"].dtype == np.float32 and found["bytes"].dtype == np.uint8


def test_fields_refuse_what_is_out_of_bounds():
    fields = Fields({"n": 3, "x": 0.5, "many": [1, 2.5], "word": "a", "on": True})
    assert fields.whole("n", 1, 3) == 3 and fields.number("x", 0, 1) == 0.5
    assert fields.numbers("many", 2, 0, 3) == [1.0, 2.5] and fields.flag("on")
    assert fields.whole("missing", 0, 9, 5) == 5
    huge = Fields({"x": 10**400, "many": [float("inf")]})
    for bad in (
        lambda: huge.number("x", 0, 1),
        lambda: huge.numbers("many", 1, 0, 1),
        lambda: fields.whole("n", 1, 2),
        lambda: fields.whole("on", 0, 1),
        lambda: fields.numbers("many", 1, 0, 3),
        lambda: fields.numbers("n", 1, 0, 3),
        lambda: fields.word("word", ["b"]),
        lambda: fields.number("missing", 0, 1),
    ):
        with pytest.raises(UserError):
            bad()
    with pytest.raises(ValueError):
        read(b"3")


@pytest.fixture
def held():
    """A worker whose first job waits for the event that comes with it."""
    worker, go, begun = Worker(), threading.Event(), threading.Event()

    def wait():
        begun.set()
        return go.wait(10)

    first = worker.ask("other", 1, wait)
    assert begun.wait(10)
    yield worker, go, first
    go.set()
    worker.close()


def test_a_newer_request_of_a_panel_replaces_the_one_that_waits(held):
    worker, go, _ = held
    done = []
    old = worker.ask("panel", 1, lambda: done.append(1))
    elsewhere = worker.ask("panel of another page", 1, lambda: done.append(2))
    new = worker.ask("panel", 2, lambda: done.append(3))
    with pytest.raises(OutOfDate):
        old.result(1)
    with pytest.raises(OutOfDate):
        worker.ask("panel", 1, lambda: done.append(4))
    go.set()
    new.result(10), elsewhere.result(10)
    assert sorted(done) == [2, 3]


def test_few_requests_wait_and_none_after_the_end(held):
    worker, go, first = held
    waiting = [worker.ask(None, None, lambda: 1) for _ in range(WAITING)]
    with pytest.raises(Busy):
        worker.ask(None, None, lambda: 1)
    worker.close()
    with pytest.raises(Closed):
        waiting[0].result(1)
    with pytest.raises(Closed):
        worker.ask(None, None, lambda: 1)
    go.set()
    assert first.result(10)


def test_requests_whose_asker_has_gone_are_in_nobodys_way(held):
    worker, _, _ = held
    left = [worker.ask("panel", 1, lambda: 1), worker.ask("other panel", 1, lambda: 1)]
    assert all(future.cancel() for future in left)
    new = worker.ask("panel", 2, lambda: 1)
    worker.close()
    with pytest.raises(Closed):
        new.result(1)


def test_an_error_of_a_job_is_that_of_its_request_alone(held):
    worker, go, _ = held
    bad, good = worker.ask("a", 1, lambda: 1 / 0), worker.ask("b", 1, lambda: 5)
    go.set()
    with pytest.raises(ZeroDivisionError):
        bad.result(10)
    assert good.result(10) == 5


def test_the_socket_is_of_this_machine_and_a_taken_port_is_said():
    sock = listening(0)
    host, port = sock.getsockname()
    assert host == "127.0.0.1"
    socket.create_connection((host, port)).close()  # it is listened to before it is said
    with pytest.raises(UserError, match="--port"):
        listening(port)
    with pytest.raises(UserError, match="--port"):
        listening(70000)
    sock.close()


@pytest.mark.slow
def test_two_hundred_requests_at_once_are_answered_or_refused(digits):
    """On a real socket: every answer is a picture or says that too many wait; the server lives on,
    and a request that sends its body too slowly, or another protocol, does not stop it."""
    from tests.studio.tiny import served

    with served(session_of([digits])) as (place, _):

        async def flood():
            limits = httpx.Limits(max_connections=250)
            async with httpx.AsyncClient(base_url=place, limits=limits, timeout=60) as client:
                body = {"run": 0, "n": 64}
                first = await client.post("/api/sample", json=body)
                many = [client.post("/api/sample", json={**body, "seed": k}) for k in range(200)]
                return first, await asyncio.gather(*many)

        port = int(place.rpartition(":")[2])
        slow = socket.create_connection((HERE, port))
        slow.sendall(b"POST /api/sample HTTP/1.1\r\ncontent-length: 100\r\n")
        other = socket.create_connection((HERE, port))
        other.sendall(b"\x16\x03\x01 not this protocol \r\n\r\n")
        first, answers = asyncio.run(flood())
        assert first.status_code == 200
        statuses = {answer.status_code for answer in answers}
        assert statuses <= {200, 503} and 200 in statuses
        good = [answer for answer in answers if answer.status_code == 200]
        assert all(unpacked(each.content)[1]["tiles"].shape == (64, 8, 8, 1) for each in good)
        assert len({each.content for each in good}) == len(good)  # each has its own seed
        assert other.recv(100).startswith(b"HTTP/1.1 400")
        time.sleep(0.05)
        assert httpx.get(f"{place}/").status_code == 200
        slow.close(), other.close()
