"""Our two protocols in a real replica: whatever bytes arrive, it answers or closes, and logs no traceback."""

import asyncio
import gc
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import httpx
import psutil  # type: ignore[import-untyped, unused-ignore]
import pytest
import uvicorn
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from gateway.app import create_app
from gateway.clients.allowance import Limits
from gateway.clients.transports import SPARE_TRANSPORTS, Transports
from gateway.http.front import App, Receive, Scope, Send
from gateway.http.handshake import HAND_OVER, Handshake, websocket_scope
from gateway.http.protocols import MAX_PIPELINED, HttpProtocol, protocols_for
from gateway.operations.counters import Counters
from gateway.settings import Settings
from tests.contract.deadlines import PATIENCE, STALL_SECONDS, wait_for
from tests.contract.processes import RedisServer, Replica
from tests.fakes import FakeTransport
from tests.raw_http import ask, get, rest_of, status, tcp, until, upgrade

MAX_HEADER_BYTES = 4_000
REQUEST_SECONDS = 0.5


@pytest.fixture(scope="module")
def replica(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    log = tmp_path_factory.mktemp("protocols") / "log"
    server = Replica(redis_server.url, log, max_header_bytes=MAX_HEADER_BYTES, request_seconds=REQUEST_SECONDS)
    try:
        yield server.wait_ready()
        assert server.stop() == 0
    finally:
        server.end()


@pytest.fixture(autouse=True)
def _no_traceback(replica: Replica) -> Iterator[None]:
    """Each test's own share of the log, read when the server has answered once more."""
    before = len(replica.log)
    yield
    assert replica.status("/healthz") == 200
    said = replica.log[before:]
    assert "Traceback" not in said, said


@pytest.fixture
def port(replica: Replica) -> int:
    return replica.port


# Heads that grow


def test_a_head_of_the_limit_passes_and_a_longer_one_is_refused(port: int) -> None:
    request = get("/healthz", "X: ")
    padding = MAX_HEADER_BYTES - len(request)
    assert status(ask(port, get("/healthz", "X: " + "x" * padding))) == 200
    assert status(ask(port, get("/healthz", "X: " + "x" * (padding + 5)))) == 431  # the empty line is free


def test_a_header_without_end_is_refused_soon(port: int) -> None:
    """uvicorn's httptools gathers it: two megabytes were taken, and the connection stayed."""
    answer = ask(port, get("/healthz", "X: ")[:-4], *[b"x" * 1_000] * 2_000)
    assert answer == b"" or status(answer) == 431  # a reset may overtake the answer while we still send


@pytest.mark.parametrize("piece", [b"X: y\r\n", b"x" * 50 + b": \r\n"])
def test_headers_without_end_are_refused(port: int, piece: bytes) -> None:
    assert status(ask(port, get()[:-2], piece * (MAX_HEADER_BYTES // len(piece) + 1))) == 431


def test_a_path_without_end_is_refused(port: int) -> None:
    assert status(ask(port, b"GET /" + b"x" * MAX_HEADER_BYTES)) == 431


def test_an_upgrade_with_too_long_a_head_is_refused(port: int) -> None:
    assert status(ask(port, upgrade("/ws", "X: " + "x" * MAX_HEADER_BYTES))) == 431


def test_a_body_is_no_part_of_the_head(port: int) -> None:
    body = b"x" * (3 * MAX_HEADER_BYTES)
    head = get("/healthz", f"Content-Length: {len(body)}", method="POST")
    assert status(ask(port, head + body)) == 405
    assert status(ask(port, head, body)) == 405


# What a client may make the log say


def bad_requests(replica: Replica) -> float:
    (line,) = (line for line in replica.metrics() if line.startswith("gateway_bad_requests_total "))
    return float(line.split()[1])


@pytest.mark.parametrize(
    ("request_", "answer", "count"),
    [
        (b"\x16\x03\x01\r\n\r\n", 400, 1),
        (b"GET / HTTP/9.9.9\r\n\r\n", 400, 1),
        (get("/healthz", "X: " + "x" * MAX_HEADER_BYTES), 431, 1),
        (upgrade() + b"early", 400, 1),
        (get("/healthz", "Upgrade: h2c").replace(b"close", b"Upgrade, close"), 200, 0),
    ],
    ids=["TLS", "version", "long", "early", "h2c"],
)
def test_a_bad_request_is_counted_and_not_logged(replica: Replica, request_: bytes, answer: int, count: int) -> None:
    """uvicorn logs a warning for each, so any client could fill the disk."""
    logged, before = replica.log, bad_requests(replica)
    for _ in range(5):
        assert status(ask(replica.port, request_)) == answer
    assert bad_requests(replica) == before + 5 * count
    assert replica.log == logged


@pytest.mark.parametrize("path", ["/", "/healthz", "/metrics", "/nothing"])
def test_pipelined_requests_that_are_broken_off_cost_no_line_of_log(replica: Replica, path: str) -> None:
    """uvicorn told only the last one that its client was gone: a traceback for each such connection."""
    logged = replica.log
    for number in range(200):
        plug = socket.create_connection(("127.0.0.1", replica.port))
        plug.sendall(get(path, close=False) * (2 + number % 3))
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if number % 2:
            time.sleep(0.000_5)  # so that some resets find the application at work
        plug.close()  # with a reset
    assert replica.status("/healthz") == 200
    assert replica.log == logged


@pytest.mark.parametrize("key", ["", "too short", "x" * 24, "AAAAAAAAAAAAAAAAAAAAAA==, AAAAAAAAAAAAAAAAAAAAAA=="])
def test_a_bad_key_is_a_bad_request(port: int, key: str) -> None:
    answer = ask(port, upgrade(key=key))
    assert status(answer) == 400
    assert b"\r\nx-content-type-options: nosniff\r\n" in answer


def test_a_version_that_is_not_ours_is_told_which_one_is(replica: Replica) -> None:
    answer = ask(replica.port, upgrade().replace(b"Version: 13", b"Version: 8"))
    assert status(answer) == 426
    assert b"\r\nsec-websocket-version: 13\r\n" in answer
    assert b"\r\nx-content-type-options: nosniff\r\n" in answer
    assert any(line.startswith('gateway_handshakes_total{outcome="version"}') for line in replica.metrics())


# Connections that wait for their client

MAX_CONNECTIONS = 100
HALF_OPEN = 1_000


def descriptors(replica: Replica) -> int:
    return int(psutil.Process(replica.popen.pid).num_fds())


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        upgrade()[:-2],
        get("/healthz", "Content-Length: 10", method="POST", close=False) + b"short",
        get(close=False),
    ],
    ids=["nothing", "a head", "a body", "answered"],
)
def test_connections_that_wait_for_their_client_give_way(
    redis_server: RedisServer, tmp_path: Path, project: str, begun: bytes
) -> None:
    """The oldest first. Who watches, and who comes with a whole request, notices nothing."""
    replica = Replica(redis_server.url, tmp_path / "log", max_connections=MAX_CONNECTIONS, request_seconds=60)
    plugs: list[socket.socket] = []
    try:
        replica.wait_ready()
        before = descriptors(replica)
        with tcp(replica.port) as bystander:
            bystander.sendall(upgrade())
            until(bystander, b"}")
            say = Frame(Opcode.TEXT, b'{"type":"subscribe","projectId":"%b"}' % project.encode()).serialize(mask=True)
            bystander.sendall(say)
            until(bystander, b'"subscribed"')
            for number in range(HALF_OPEN):
                plug = socket.create_connection(("127.0.0.1", replica.port))
                plugs.append(plug)
                plug.sendall(begun)
                if number % 100 == 99:
                    assert status(ask(replica.port, get())) == 200
            wait_for(
                lambda: descriptors(replica) <= before + MAX_CONNECTIONS + SPARE_TRANSPORTS + 20,
                "the rest to be closed",
            )
            with tcp(replica.port) as late:
                late.sendall(upgrade())
                assert b"connected" in until(late, b"}")
            redis_server.publish(project, {"type": "progress", "jobId": "j", "jobType": "audio", "progress": 1})
            until(bystander, b'"jobId":"j"')
            (line,) = (line for line in replica.metrics() if line.startswith("gateway_requests_dropped_total "))
            assert float(line.split()[1]) >= HALF_OPEN - MAX_CONNECTIONS - SPARE_TRANSPORTS
        assert "Traceback" not in replica.log
    finally:
        for plug in plugs:
            plug.close()
        replica.end()


def test_an_answer_that_is_not_read_does_not_hold_its_connection(replica: Replica) -> None:
    with socket.socket() as plug:
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        plug.connect(("127.0.0.1", replica.port))
        plug.sendall(get("/static/dashboard.js", close=False) * 200)  # 12 MB of answers
        wait_for(lambda: plug.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0, "the reset")


def test_too_many_pipelined_requests_are_refused(port: int) -> None:
    """Each would wait in memory for the answers before it: some kilobytes for each 40 bytes sent."""
    answer = ask(port, get("/healthz", close=False) * (4 * MAX_PIPELINED))
    assert answer == b"" or b"HTTP/1.1 400" in answer  # a reset may overtake the answer


# Requests that do not come to an end


@pytest.mark.parametrize(
    "begun",
    [b"", b"GET", get()[:-2], get("/healthz", "Content-Length: 10", method="POST") + b"short", upgrade()[:-2]],
    ids=["nothing", "a word", "a head", "a body", "an upgrade"],
)
def test_an_unfinished_request_is_dropped_in_time(port: int, begun: bytes) -> None:
    before = time.monotonic()
    answer = ask(port, begun)
    took = time.monotonic() - before
    assert b" 408 " in answer or status(answer) == 405  # an answer need not wait for a body that it does not need
    assert took < REQUEST_SECONDS + STALL_SECONDS


def test_a_request_that_drips_is_dropped_in_time(port: int) -> None:
    before = time.monotonic()
    with tcp(port) as plug:
        plug.settimeout(0.05)
        answer = b""
        for byte in get("/healthz", "X: " + "x" * 500):
            try:
                plug.sendall(bytes([byte]))
                answer += plug.recv(1_000)
                break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        took = time.monotonic() - before
    assert answer == b"" or status(answer) == 408
    assert took < REQUEST_SECONDS + STALL_SECONDS


def test_a_connection_whose_answer_came_before_its_body_is_not_held_for_ever(port: int) -> None:
    with tcp(port) as plug:
        plug.sendall(get("/healthz", "Content-Length: 10", method="POST", close=False))
        assert status(until(plug, b"\r\n\r\n")) == 405
        plug.sendall(b"x" * 10)
        plug.settimeout(PATIENCE)  # uvicorn keeps an idle connection for 5 s
        rest_of(plug)


def test_an_early_answer_costs_the_request_behind_it_no_time(port: int) -> None:
    with tcp(port) as plug:
        plug.sendall(get("/healthz", "Content-Length: 10", method="POST", close=False))
        assert status(until(plug, b"\r\n\r\n")) == 405
        plug.sendall(b"x" * 10 + get("/healthz"))
        assert b"200 OK" in rest_of(plug)


def test_a_connection_that_became_a_websocket_is_not_dropped(port: int) -> None:
    with tcp(port) as plug:
        plug.sendall(upgrade())
        assert b"connected" in until(plug, b"}")
        plug.settimeout(REQUEST_SECONDS + 0.5)
        with pytest.raises(TimeoutError):
            plug.recv(1)
        plug.settimeout(PATIENCE)
        plug.sendall(Frame(Opcode.TEXT, b'{"type":"ping"}').serialize(mask=True))
        assert b"pong" in until(plug, b"}")


# Several requests on a connection


def test_a_connection_is_kept_for_a_second_request_with_bounds_of_its_own(port: int) -> None:
    request = get("/healthz", "X: " + "x" * (MAX_HEADER_BYTES - 200), close=False)
    with tcp(port) as plug:
        for _ in range(3):
            plug.sendall(request)
            assert status(until(plug, b"ok\n")) == 200
        plug.sendall(get("/healthz", "X: " + "x" * MAX_HEADER_BYTES))
        assert status(rest_of(plug)) == 431


def test_a_second_request_that_does_not_end_is_dropped(port: int) -> None:
    with tcp(port) as plug:
        plug.sendall(get(close=False))
        until(plug, b"ok\n")
        plug.sendall(get()[:-2])
        assert status(rest_of(plug)) == 408


def test_pipelined_requests_are_all_answered_in_order(port: int) -> None:
    answer = ask(port, get("/healthz", close=False) + get("/missing", close=False) + get("/healthz"))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == [200, 404, 200]


def test_many_pipelined_requests_longer_than_one_head_are_all_answered(port: int) -> None:
    one = get("/healthz", close=False)
    count = 2 * MAX_HEADER_BYTES // len(one)
    assert ask(port, one * count + get()).count(b"HTTP/1.1 200") == count + 1


def test_a_request_after_an_upgrade_that_was_refused_is_not_answered_as_a_websocket(port: int) -> None:
    answer = ask(port, upgrade("/ws", "Origin: https://evil.example") + get())
    assert status(answer) == 403


# Other versions and methods


def test_http_1_0_is_answered_and_closed(port: int) -> None:
    answer = ask(port, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert status(answer) == 200
    assert answer.endswith(b"ok\n")


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"SSH-2.0-x\r\n\r\n", b"GET\r\n\r\n", b"\r\n\r\n\x00\r\n\r\n"]
)
def test_what_is_no_http_is_refused(port: int, data: bytes) -> None:
    answer = ask(port, data)
    assert answer == b"" or status(answer) in (400, 408)


def test_http_2_by_prior_knowledge_is_refused(port: int) -> None:
    answer = ask(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert answer == b"" or status(answer) >= 400


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_page_is_not_written_to(port: int, method: str) -> None:
    with httpx.Client(trust_env=False) as client:
        assert client.request(method, f"http://127.0.0.1:{port}/").status_code == 405


# Bad upgrades


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (upgrade("/ws", key="too short"), {400}),
        (upgrade("/ws", key=""), {400}),
        (upgrade("/ws", key="é" * 24), {400}),
        (upgrade().replace(b"Version: 13", b"Version: 8"), {426}),
        (upgrade().replace(b"Sec-WebSocket-Version: 13\r\n", b""), {426}),
        (upgrade("/elsewhere"), {404}),
        (upgrade("/ws/"), {404}),
        (upgrade("/ws", method="POST"), {400, 404, 405}),
        (upgrade("/ws", "Content-Length: 5", method="POST") + b"hello", {400, 404, 405}),
        (upgrade("/ws", "Content-Length: 5") + b"hello", {101, 400}),
        (upgrade("/ws", version="1.0"), {400, 404, 426, 505}),
        (upgrade("/é".encode()), {400, 403, 404}),
        (upgrade("/ws?x=é".encode()), {101, 400}),
        (upgrade("/%ff"), {400, 404}),
        (upgrade("/ws", "X-Name: é"), {101}),
        (upgrade("/ws", "Transfer-Encoding: chunked") + b"0\r\n\r\n", {101, 400}),
        (upgrade("http://127.0.0.1/ws"), {101}),
        (upgrade("http://127.0.0.1:99/ws?x=1"), {101}),
        (upgrade("ws://[::1]:99/ws"), {101}),
        (upgrade("http://127.0.0.1/elsewhere"), {404}),
        (upgrade("http://127.0.0.1"), {404}),
        (upgrade("http://evil.example/ws"), {421}),
        (get("http://localhost/healthz"), {200}),
        (get("http://localhost"), {200}),
        (get("http://evil.example/healthz"), {421}),
        (get("*", method="OPTIONS"), {400}),
        (get("127.0.0.1:80", method="CONNECT"), {400}),
        (upgrade("/ws").replace(b"Host: 127.0.0.1\r\n", b""), {400}),
        (upgrade("/ws", "Host: other.example"), {400}),
        (upgrade("/ws", "Connection: close"), {101, 400, 404}),
        (get("/ws"), {400, 404, 426}),
        (get("/ws", method="POST"), {400, 404, 405, 426}),
        (get("/ws", "Upgrade: h2c", "Connection: Upgrade"), {400, 404, 426}),
        (get("/é".encode()), {400, 404}),
        (get("/\udcff".encode(errors="surrogateescape")), {400, 404}),
    ],
)
def test_an_upgrade_that_is_none_is_refused_without_a_traceback(port: int, request_: bytes, expected: set[int]) -> None:
    with tcp(port) as plug:
        plug.sendall(request_)
        assert status(until(plug, b"\r\n\r\n")) in expected


def test_clients_that_vanish_in_the_middle_of_the_handshake_leave_nothing(port: int, replica: Replica) -> None:
    for _ in range(60):
        plug = socket.create_connection(("127.0.0.1", port))
        plug.sendall(upgrade())
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        plug.close()  # with a reset

    def connections() -> float:
        with httpx.Client(trust_env=False) as client:
            text = client.get(f"{replica.http}/metrics").text
        return float(next(line.split()[1] for line in text.splitlines() if line.startswith("gateway_connections ")))

    wait_for(lambda: connections() == 0, "no connection to be left")


# After the handshake


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        (Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=True), 1007),
        (Frame(Opcode.TEXT, b"\xff\xfe").serialize(mask=False), 1002),
        (Frame(Opcode.TEXT, b"x" * 20_000).serialize(mask=True), 1009),
        (Frame(Opcode.CLOSE, b"\x03\xe8\xff").serialize(mask=True), 1002),
        (Frame(Opcode.CLOSE, b"\x0f\xa0").serialize(mask=True), 4000),
        (b"\xc1\x80\x00\x00\x00\x00", 1002),
        (b"GET / HTTP/1.1\r\n\r\n", 1002),
    ],
    ids=[
        "no UTF-8",
        "not masked",
        "too long",
        "close without UTF-8",
        "close",
        "reserved bits",
        "HTTP",
    ],  # masks are random
)
def test_frames_that_may_not_be_end_the_connection_with_their_code(port: int, frame: bytes, code: int) -> None:
    with tcp(port) as plug:
        plug.sendall(upgrade())
        until(plug, b"}")
        plug.sendall(frame)
        assert until(plug, code.to_bytes(2, "big"))


# Without a server


SCOPE = {"method": "GET", "scheme": "http", "root_path": "", "headers": []}


class Stage:
    """A handshake on a transport of the tests', which this application decides on."""

    def __init__(self, app: App) -> None:
        self.app = app
        self.transport = FakeTransport()
        self.ends = 0
        scope = websocket_scope(dict(SCOPE), b"/ws?a=b")
        self.handshake = Handshake(
            cast(asyncio.Transport, self.transport),
            scope,
            b"key",
            connections=set(),
            tasks=set(),
            on_lost=self.count_end,
        )

    def count_end(self) -> None:
        self.ends += 1

    async def answer(self) -> bytes:
        await self.handshake.run(self.app)
        return self.transport.take()


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a bug")


async def accepts_and_returns(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "subprotocol": "x", "headers": [(b"a", b"b")]})


async def closes(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "websocket.close"})


async def test_a_bug_in_the_handshake_is_logged_answered_by_500_and_closed(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(fails)
    assert status(await stage.answer()) == 500
    assert "a bug" in caplog.text
    assert stage.transport.is_closing()


async def test_a_client_that_is_gone_before_its_answer_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    stage = Stage(accepts_and_returns)
    stage.transport.close()
    assert await stage.answer() == b""
    assert caplog.records == []


async def test_what_an_application_says_of_itself_is_in_the_answer_which_goes_out_with_the_first_message() -> None:
    async def takes(scope: Scope, receive: Receive, send: Send) -> None:
        await accepts_and_returns(scope, receive, send)
        taken = scope["extensions"][HAND_OVER]["take"](limits=Limits(100, 1.0, 1), buffer_bytes=1_000)
        assert stage.transport.written == b""
        taken.write(b"first")
        taken.write(b"second")

    stage = Stage(takes)
    head, _, messages = (await stage.answer()).partition(b"\r\n\r\n")
    for line in (b"upgrade: websocket", b"sec-websocket-accept: key", b"sec-websocket-protocol: x", b"a: b"):
        assert line in head.split(b"\r\n"), line
    assert (status(head), messages) == (101, b"firstsecond")
    assert not stage.transport.is_closing()


async def test_a_bug_after_the_connection_was_taken_ends_it_without_an_answer() -> None:
    async def takes_and_fails(scope: Scope, receive: Receive, send: Send) -> None:
        await accepts_and_returns(scope, receive, send)
        scope["extensions"][HAND_OVER]["take"](limits=Limits(100, 1.0, 1), buffer_bytes=1_000)
        raise RuntimeError("a bug")

    stage = Stage(takes_and_fails)
    assert await stage.answer() == b""
    assert stage.transport.was_aborted


async def test_a_client_that_is_gone_is_answered_neither_a_bug_nor_the_end_of_the_server() -> None:
    stage = Stage(fails)
    stage.transport.close()
    stage.handshake.shutdown()
    assert await stage.answer() == b""


async def test_a_connection_that_nobody_takes_is_closed() -> None:
    stage = Stage(accepts_and_returns)
    assert await stage.answer() == b""
    assert stage.transport.is_closing()


async def test_an_application_that_closes_before_it_accepts_refuses() -> None:
    stage = Stage(closes)
    assert status(await stage.answer()) == 403
    assert stage.transport.is_closing()


async def test_a_client_that_leaves_before_the_decision_ends_the_wait_for_it() -> None:
    ends = []

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        ends.append(await receive())

    stage = Stage(waits)
    running = asyncio.create_task(stage.answer())
    await asyncio.sleep(0)
    stage.handshake.connection_lost(None)
    await asyncio.wait_for(running, 30)
    assert ends == [{"type": "websocket.disconnect", "code": 1006}]
    assert stage.ends == 1


async def test_a_client_that_speaks_before_its_upgrade_is_answered_is_let_go() -> None:
    stage = Stage(fails)
    stage.handshake.data_received(b"early")
    assert stage.transport.is_closing()


async def test_a_server_that_ends_answers_who_is_still_undecided() -> None:
    stage = Stage(fails)
    stage.handshake.shutdown()
    assert status(stage.transport.take()) == 503
    assert stage.transport.is_closing()


@pytest.mark.parametrize("path", ["/ws", "/elsewhere"])
async def test_a_handshake_leaves_no_garbage_for_the_collector(path: str) -> None:
    """In cycles 81 objects of each stayed: every 215 handshakes the collector stopped everybody for 7-14 ms."""
    settings, counters = Settings(), Counters()
    http, websocket = protocols_for(settings, counters, Transports(1_000, counters))
    config = uvicorn.Config(create_app(settings), http=http, ws=websocket, lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    listening = await asyncio.get_running_loop().create_server(
        lambda: http(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    port = listening.sockets[0].getsockname()[1]

    def shake_hands(times: int) -> None:
        for _ in range(times):
            with tcp(port) as plug:
                plug.sendall(upgrade(path))
                until(plug, b"}" if path == "/ws" else b"Not Found")

    async with listening:
        await asyncio.to_thread(shake_hands, 5)
        gc.collect()
        gc.disable()
        try:
            await asyncio.to_thread(shake_hands, 50)
            await asyncio.sleep(0.1)
            assert gc.collect() < 50 * 8, "a transport of asyncio's is 7 objects in a cycle; one of uvloop's is none"
        finally:
            gc.enable()


def test_the_settings_go_with_the_class_and_not_with_the_module() -> None:
    def made(max_header_bytes: int) -> tuple[type[HttpProtocol], type[Handshake]]:
        counters = Counters()
        return protocols_for(Settings(max_header_bytes=max_header_bytes), counters, Transports(1, counters))

    one, websocket = made(1)
    two, _ = made(2)
    assert (one.settings.max_header_bytes, two.settings.max_header_bytes) == (1, 2)
    assert issubclass(one, HttpProtocol)
    assert not hasattr(HttpProtocol, "settings")
    assert websocket is Handshake
